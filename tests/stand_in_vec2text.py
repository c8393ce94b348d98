"""What stands in for vec2text's process and its weights where neither is there.

build(models)                       folders that pass for an inverter, a corrector and their T5
StandIn(encoder, texts)             a `Child` that decodes to the nearest of these texts
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lvmdb.corpus.encoder import Encoder
from lvmdb.decoding.correctors import Weights
from lvmdb.decoding.vec2text import packed, unpacked
from lvmdb.decoding.vec2text_child import Child
from lvmdb.errors import ServiceError

EMBEDDER = "sentence-transformers/stand-in"


def build(models: Path) -> tuple[str, str]:
    """Writes them into a folder as `LVMDB_MODELS` is; the names of inverter and corrector."""
    said = {"model_name_or_path": "stand-in-t5", "embedder_model_name": EMBEDDER}
    folders: dict[str, dict[str, Any]] = {
        "inverter": {"config.json": said, "model.safetensors": "inverter"},
        "corrector": {"config.json": said, "model.safetensors": "corrector"},
        "stand-in-t5": {"config.json": {}, "tokenizer.json": {}},
        EMBEDDER.replace("/", "--"): {"modules.json": [], "model.safetensors": "encoder"},
    }
    for name, files in folders.items():
        (models / name).mkdir(parents=True)
        for file, content in files.items():
            (models / name / file).write_text(json.dumps(content), encoding="utf-8")
    return str(models / "inverter"), str(models / "corrector")


class StandIn(Child):
    """Answers as vec2text's process does, and is none.

    Args:
        encoder: the encoder inside.
        texts: what it can decode to.
        length: of the vectors that the encoder inside gives.

    Attributes:
        asked: the questions about vectors, so far.
        loaded: what it was told to load.
        problem: with it, every question about vectors is answered; None: with texts.
    """

    def __init__(self, encoder: Encoder, texts: Sequence[str], length: float = 1.0) -> None:
        self._encoder, self._texts, self._length = encoder, list(texts), length
        self.asked: list[dict[str, Any]] = []
        self.loaded: list[Weights] = []
        self.problem: Exception | None = None

    def load(self, weights: Weights, seconds: float = 1.0) -> None:
        """Load nothing."""
        self.loaded.append(weights)

    def ask(self, question: dict[str, Any], seconds: float = 1.0) -> Any:
        """The answer: the nearest of its texts, whatever steps and beam are."""
        if "embed" in question:
            return {"vectors": packed(self._encoder.encode(question["embed"]) * self._length)}
        self.asked.append(question)
        if self.problem is not None:
            raise self.problem
        wanted = unpacked(question["decode"])
        nearest = (wanted @ self._encoder.encode(self._texts).T).argmax(axis=1)
        if not np.allclose(np.linalg.norm(wanted, axis=1), self._length, rtol=1e-3):
            raise ServiceError("these are not of the length that it learned")
        texts = [self._texts[index] for index in nearest]
        return {"texts": texts, "vectors": packed(self._encoder.encode(texts) * self._length)}

    def close(self) -> None:
        """There is nothing to end."""
