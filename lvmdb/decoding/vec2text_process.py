"""vec2text's own process: `python -I vec2text_process.py`, in vec2text's environment.

It imports nothing of lvmdb, whose packages are of other versions, and is spoken to in lines of
JSON: requests on standard input, one answer for each on standard output. Its parent is the decoding
service (`vec2text_child`); when that ends, so does standard input, and the process with it.

    {"load": {"inverter": FOLDER, "corrector": FOLDER, "base": FOLDER, "embedder": FOLDER,
              "pooling": "sentence-transformers" or "mean"}}          -> {"device": "cpu"}
    {"embed": [TEXT, ...], "max_tokens": 128}                         -> {"vectors": [ROW, ...]}
    {"decode": [ROW, ...], "steps": 20, "beam": 4, "max_tokens": 128} -> {"texts", "vectors"}

A ROW is the base64 of little-endian float32, of the length that the encoder gives; what cannot be
done is answered with `{"error": ...}`. `vectors` beside `texts` are of these texts, by the encoder
that the corrector was trained with.
"""

from __future__ import annotations

import base64
import importlib.machinery
import json
import os
import queue
import sys
import tempfile
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

STOOD_IN = ("datasets", "evaluate", "nltk", "openai", "pandas")
"""What vec2text imports, and uses only to train, to measure, or to call OpenAI."""

Answer = dict[str, Any]

_ENCODER = "embedder."
"""What the names of the encoder's weights begin with, in both halves."""


class StandIn(types.ModuleType):
    """A module that is there to be imported: all that it has does nothing."""

    __path__: list[str]
    __version__ = "0"

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__ = []
        self.__spec__ = importlib.machinery.ModuleSpec(name, None)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        # A class, because annotations and `isinstance` want one.
        nothing = type(name, (), {"__new__": lambda cls, *_, **__: object.__new__(cls)})
        setattr(self, name, nothing)
        return nothing


class Vec2Text:
    """An inverter and its corrector, with the encoder that they were trained with.

    Args:
        inverter, corrector: folders of the two halves.
        base: folder of the configuration and tokenizer of the T5 that both grew from; its weights
            are not needed, since the halves have their own.
        embedder: folder of the encoder's weights.
        pooling: `sentence-transformers`: its whole pipeline; `mean`: of the T5's states.
    """

    def __init__(
        self, inverter: str, corrector: str, base: str, embedder: str, pooling: str
    ) -> None:
        vec2text = vec2text_package()
        from vec2text.models import CorrectorEncoderModel, InversionModel

        with from_folders(base, embedder, pooling):
            halves = _loaded(InversionModel, inverter), _loaded(CorrectorEncoderModel, corrector)
        self._vec2text = vec2text
        # What it decodes with are trainers, which make a folder where they are.
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            self._corrector = vec2text.load_corrector(*halves)
            os.chdir("/")
        self.device = self._corrector.args.device

    def embed(self, texts: list[str], max_tokens: int) -> Any:
        """The encoder's vectors of texts, `(texts, 768)`."""
        import torch

        tokens = self._corrector.embedder_tokenizer(
            texts, return_tensors="pt", max_length=max_tokens, truncation=True, padding=True
        ).to(self.device)
        with torch.no_grad():
            return self._corrector.inversion_trainer.call_embedding_model(
                input_ids=tokens.input_ids, attention_mask=tokens.attention_mask
            )

    def decode(self, vectors: Any, steps: int, beam: int) -> list[str]:
        """A text for each of the vectors `(n, 768)`; of 0 steps the inverter's first guess."""
        import torch

        with torch.no_grad():
            texts = self._vec2text.invert_embeddings(
                vectors.to(self.device),
                self._corrector,
                num_steps=steps or None,
                sequence_beam_width=beam if steps else 0,
            )
        return [text.strip() for text in texts]


def vec2text_package() -> Any:
    """The package vec2text, without what it does not need here."""
    for name in STOOD_IN:
        sys.modules.setdefault(name, StandIn(name))
    import torch
    import vec2text

    torch._logging.set_logs()  # type: ignore[attr-defined]  # else it tells what is compiled
    return vec2text


@contextmanager
def from_folders(base: str, embedder: str, pooling: str) -> Iterator[None]:
    """Let vec2text's models be built from folders, where they would ask the hub by fixed names."""
    import transformers
    from vec2text.models import corrector_encoder, inversion

    class Built:
        """What the checkpoint is loaded into; that of `base` would only be overwritten."""

        @staticmethod
        def from_pretrained(*_: object, **__: object) -> Any:
            config = transformers.AutoConfig.from_pretrained(base)
            model = transformers.AutoModelForSeq2SeqLM.from_config(config)
            model.tie_weights()
            return model

    def embedder_and_tokenizer(name: str, **_: object) -> tuple[Any, Any]:
        if pooling == "sentence-transformers":
            from sentence_transformers import SentenceTransformer

            model = SentenceTransformer(embedder, device="cpu", local_files_only=True)
            return model, model.tokenizer
        encoder = transformers.T5EncoderModel.from_pretrained(embedder).encoder
        return encoder, transformers.AutoTokenizer.from_pretrained(embedder)

    def tokenizer(name: str, **options: Any) -> Any:
        return load_tokenizer(base, **options)

    load_tokenizer = inversion.load_tokenizer
    built = types.SimpleNamespace(AutoModelForSeq2SeqLM=Built)
    changed: list[tuple[Any, str, Any]] = [
        (corrector_encoder, "transformers", built),
        (inversion, "load_encoder_decoder", Built.from_pretrained),
        (inversion, "load_embedder_and_tokenizer", embedder_and_tokenizer),
        (inversion, "load_tokenizer", tokenizer),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in changed]
    try:
        for module, name, value in changed:
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def _loaded(kind: Any, folder: str) -> Any:
    """One half, with the weights in its folder; those of its encoder have a folder of their own.

    `from_pretrained` would do this, but it takes the T5's tied weights apart, and does not say so.

    Raises:
        ValueError: some weights were not there, and would be random.
    """
    model = kind(kind.config_class.from_pretrained(folder, local_files_only=True))
    found = {n: w for n, w in _weights(folder).items() if not n.startswith(_ENCODER)}
    absent = set(model.load_state_dict(found, strict=False).missing_keys)
    # One tensor may have several names, of which a file holds one.
    places = {name: value.data_ptr() for name, value in model.state_dict().items()}
    filled = {places[name] for name in places if name not in absent}
    random = [
        name
        for name in sorted(absent)
        if not name.startswith(_ENCODER) and places[name] not in filled
    ]
    if random:
        raise ValueError(f"{folder} lacks {len(random)} of its weights, such as {random[0]}")
    return model.eval()


def _weights(folder: str) -> dict[str, Any]:
    """All tensors in a folder, by name, from one file or from the parts that an index names."""
    found: dict[str, Any] = {}
    for file in _files(Path(folder)):
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            found |= load_file(file)
        else:
            import torch

            found |= torch.load(file, map_location="cpu", weights_only=True)
    return found


def _files(folder: Path) -> list[Path]:
    for name in ("model.safetensors", "pytorch_model.bin"):
        index = folder / f"{name}.index.json"
        if (folder / name).is_file():
            return [folder / name]
        if index.is_file():
            named = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
            return [folder / part for part in sorted(set(named))]
    raise ValueError(f"{folder} holds no weights")


class Handler:
    """Answers requests; `load` comes first."""

    def __init__(self) -> None:
        self._loaded: Vec2Text | None = None

    def answer(self, request: dict[str, Any]) -> Answer:
        """The answer to one request.

        Raises:
            Exception: whatever the libraries raise.
        """
        if "load" in request:
            self._loaded = Vec2Text(**request["load"])
            return {"device": str(self._loaded.device)}
        if self._loaded is None:
            raise ValueError("nothing is loaded yet")
        if "embed" in request:
            return {"vectors": _rows(self._loaded.embed(request["embed"], request["max_tokens"]))}
        wanted = _vectors(request["decode"])
        texts = self._loaded.decode(wanted, request["steps"], request["beam"])
        found = self._loaded.embed(texts, request["max_tokens"])
        return {"texts": texts, "vectors": _rows(found)}


def _rows(vectors: Any) -> list[str]:
    """Vectors `(n, 768)` as base64."""
    array = vectors.float().cpu().numpy().astype("<f4")
    return [base64.b64encode(row.tobytes()).decode() for row in array]


def _vectors(rows: list[str]) -> Any:
    """What `_rows` made, a tensor `(n, 768)`."""
    import numpy as np
    import torch

    return torch.tensor(np.array([np.frombuffer(base64.b64decode(row), "<f4") for row in rows]))


def serve(lines: Iterator[str], say: Callable[[str], object]) -> None:
    """Answer each line, until there are no more."""
    handler = Handler()
    for line in lines:
        try:
            answer = handler.answer(json.loads(line))
        except Exception as error:  # whatever it is, whoever asked is told
            reason = " ".join(str(error).split())[:1_000]
            answer = {"error": f"{type(error).__name__}: {reason}" if reason else repr(error)}
        say(json.dumps(answer) + "\n")


def _until_the_parent_ends() -> Iterator[str]:
    """Lines of standard input; the process ends with it, whatever it is doing."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=read, name="vec2text-lifeline", daemon=True).start()
    while True:
        yield lines.get()


def main() -> None:
    """Serve standard input; whatever libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(line: str) -> None:
        answers.write(line)
        answers.flush()

    serve(_until_the_parent_ends(), say)


if __name__ == "__main__":
    main()
