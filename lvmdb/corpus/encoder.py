"""Text into vectors, by a sentence-transformers model; and the fingerprint by which it is known.

Two models of one name can give unrelated vectors. A name is therefore never enough: the vectors
of `PROBE_SENTENCES` are stored with an encoder, and `check_fingerprint` compares.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lvmdb.corpus.articles import Vectors
from lvmdb.corpus.weights import WEIGHTS, is_complete, sha256
from lvmdb.db.types import DIMENSION
from lvmdb.errors import EncoderError, MissingDependencyError

MATCH_COSINE = 0.999
"""Two encoders are the same if no probe sentence's vectors have a smaller cosine than this."""

PROBE_SENTENCES: tuple[str, ...] = (
    "The cat slept on the windowsill all afternoon.",
    "Water boils at a lower temperature on a mountain, because the air pressure is lower there.",
    "Is a function that returns itself still a function?",
    "In 1869 the last spike joined two railways, 3,075 km of track, near Promontory, Utah.",
    "Der Zug nach München hatte wieder einmal über zwanzig Minuten Verspätung.",
    "SELECT title, count(*) FROM article GROUP BY title HAVING count(*) > 1;",
    "Not guilty.",
    "When the harbour froze for the third winter in a row, the fishermen, who had until then "
    "mended their nets and waited, began to haul their boats across the ice on sledges; some of "
    "them found open water after a day's walk, others came back with nothing but frostbite, and "
    "in the evenings, around the stove of the only inn that had stayed open, they argued about "
    "whether the old charts, drawn when the current still ran close to the shore, could be "
    "trusted at all, or whether the sea had simply moved away from them for good.",
)
"""Fixed for ever: stored fingerprints are vectors of these, in this order."""

_BATCH_CPU = 8  # measured: larger batches leave the caches, and a third of the speed is lost
_BATCH_GPU = 64


class SentenceEncoder:
    """A loaded sentence encoder; use `SentenceEncoder.load`.

    Attributes:
        name: the name that it was asked for by.
        revision: SHA-256 of its `model.safetensors`; else the hub's commit; else SHA-256 of its
            older kind of weights.
        pooling: how token vectors become one, e.g. `"mean"`.
        normalised: whether the model itself ends by normalising. (`encode` gives unit norm
            either way.)
        dimension: always 768.
        max_tokens: what lies behind this many tokens of a text does not count.
        device: where it runs, e.g. `"cpu"`.
    """

    dimension = DIMENSION

    def __init__(self, model: Any, name: str, revision: str) -> None:
        self._model = model
        self.name = name
        self.revision = revision
        pooling = [m for m in model if type(m).__name__ == "Pooling"]
        self.pooling = str(getattr(pooling[0], "pooling_mode", "mean")) if pooling else "none"
        self.normalised = any(type(m).__name__ == "Normalize" for m in model)
        self.max_tokens = int(model.max_seq_length or 0)
        self.device = str(model.device)

    @classmethod
    def load(cls, folder: Path, name: str, device: str = "cpu") -> SentenceEncoder:
        """Loads the model in `folder`, without touching the network, in float32.

        Args:
            folder: as `find_weights` gives it.
            name: the encoder's name.
            device: a torch device.

        Raises:
            EncoderError: the folder does not hold a model that loads, or its vectors do not have
                768 numbers.
            MissingDependencyError: sentence-transformers is not installed.
        """
        try:
            with _quiet():
                from sentence_transformers import SentenceTransformer
        except ImportError:
            raise MissingDependencyError(
                "sentence-transformers", "encoders", "encoding text"
            ) from None
        import torch

        if not is_complete(folder):
            raise EncoderError(
                f"{folder} does not hold a sentence-transformers model: modules.json or"
                f" {WEIGHTS} is missing"
            )
        try:
            with _quiet():
                model = SentenceTransformer(
                    str(folder),
                    device=device,
                    local_files_only=True,
                    model_kwargs={"dtype": torch.float32},
                )
        except Exception as error:  # a broken file fails in the library that reads it
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise EncoderError(f"{folder} does not load as encoder '{name}': {reason}") from error
        dimension = model.get_embedding_dimension()
        if dimension != DIMENSION:
            raise EncoderError(
                f"encoder '{name}' makes vectors of {dimension} numbers, and lvmdb keeps"
                f" {DIMENSION}: choose another, such as sentence-transformers/gtr-t5-base"
            )
        model.eval()
        return cls(model, name, _revision(folder))

    def encode(
        self,
        texts: Sequence[str],
        progress: Callable[[int], object] | None = None,
        *,
        batch_size: int | None = None,
    ) -> Vectors:
        """The vectors of `texts`: `(len(texts), 768)` float32 of unit norm, in their order.

        Batches are of texts of similar length, which saves padding; a text's vector does not
        depend, beyond rounding, on what else is in its batch.

        Args:
            texts: what to encode.
            progress: called after each batch with the number of texts in it.
            batch_size: texts at a time; by default what suits the device.

        Raises:
            EncoderError: a text's vector has NaN or infinite numbers, or zero norm.
        """
        vectors = np.empty((len(texts), DIMENSION), dtype=np.float32)
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        size = batch_size or (_BATCH_CPU if self.device == "cpu" else _BATCH_GPU)
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            with _quiet():
                vectors[batch] = self._model.encode(
                    [texts[i] for i in batch],
                    batch_size=len(batch),
                    show_progress_bar=False,
                    convert_to_numpy=True,
                )
            if progress is not None:
                progress(len(batch))
        return _normalised(vectors, texts, self.name)

    def probe_vectors(self) -> Vectors:
        """The fingerprint: `(len(PROBE_SENTENCES), 768)`."""
        return self.encode(PROBE_SENTENCES)


def check_fingerprint(stored: np.ndarray, encoder: SentenceEncoder) -> float:
    """Compares an encoder with the fingerprint that was stored for its name.

    Args:
        stored: `(n, 768)`, the vectors of the probe sentences when the encoder was added.
        encoder: the encoder that is loaded now.

    Returns:
        The smallest cosine over the probe sentences.

    Raises:
        EncoderError: it is smaller than `MATCH_COSINE`, or the fingerprint has another shape.
    """
    probes = encoder.probe_vectors().astype(np.float64)
    if stored.shape != probes.shape:
        raise EncoderError(
            f"encoder '{encoder.name}': its stored fingerprint has shape {stored.shape}, not"
            f" {probes.shape}: it was made by another version of lvmdb; add the encoder anew"
        )
    old = stored.astype(np.float64)
    scale = np.linalg.norm(old, axis=1) * np.linalg.norm(probes, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        cosines = np.nan_to_num((old * probes).sum(axis=1) / scale, nan=-1.0)
    worst = int(cosines.argmin())
    if cosines[worst] < MATCH_COSINE:
        raise EncoderError(
            f"the model loaded as '{encoder.name}' (revision {encoder.revision[:12]}) is not the"
            f" one whose vectors are stored: for probe sentence {worst + 1} the cosine is"
            f" {cosines[worst]:.4f}, and at least {MATCH_COSINE} is needed; use the weights that"
            " the vectors were made with, or encode into a dataset with an encoder of another name"
        )
    return float(cosines[worst])


def _normalised(vectors: Vectors, texts: Sequence[str], name: str) -> Vectors:
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    bad = ~(np.isfinite(norms[:, 0]) & (norms[:, 0] > 0))
    if bad.any():
        index = int(bad.argmax())
        raise EncoderError(
            f"encoder '{name}' gave no usable vector (norm {norms[index, 0]}) for text"
            f" {index + 1}, {texts[index][:80]!r}: shorten or remove the text"
        )
    return np.asarray(vectors / norms, dtype=np.float32)


def _revision(folder: Path) -> str:
    if (folder / WEIGHTS).is_file():
        return sha256(folder / WEIGHTS)
    if folder.parent.name == "snapshots":  # the Hugging Face cache names a folder by its commit
        return folder.name
    return sha256(folder / "pytorch_model.bin")


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences the progress bars and notes of the libraries below; their errors still come."""
    names = ("sentence_transformers", "transformers", "huggingface_hub")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    bars = _switch_bars(False)
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars:
            _switch_bars(True)


def _switch_bars(on: bool) -> bool:
    """Switches the bars of transformers, and says whether they were on."""
    try:
        from transformers.utils import logging as chatter
    except ImportError:
        return False
    was_on = bool(chatter.is_progress_bar_enabled())
    if on:
        chatter.enable_progress_bar()
    else:
        chatter.disable_progress_bar()
    return was_on
