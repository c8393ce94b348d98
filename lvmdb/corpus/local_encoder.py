"""Encoders whose weights this process has itself: what they have in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lvmdb.corpus.batches import BatchedEncoder
from lvmdb.corpus.encoder import EncoderSpec
from lvmdb.corpus.precision import budgets, quantise
from lvmdb.corpus.quiet import quiet
from lvmdb.db.types import DIMENSION
from lvmdb.errors import EncoderError


class LocalEncoder(BatchedEncoder):
    """A model that was loaded.

    Attributes:
        spec: how it was loaded.
        revision: SHA-256 of its `model.safetensors`; else the hub's commit; else SHA-256 of its
            older kind of weights.
        dimension: always 768.
        precision: what it computes in.
        device: where it runs, e.g. `"cpu"`.
    """

    dimension = DIMENSION

    def __init__(self, model: Any, spec: EncoderSpec, found_revision: str) -> None:
        super().__init__(spec)
        self._model = model
        self.revision = found_revision
        self.precision = spec.precision or "fp32"
        self.device = str(model.device)
        self.budget, self.most = budgets(self.device)

    def _lower_precision(self) -> None:
        """Compute in int8, if that is asked for; `_encode_batch` must work already.

        Raises:
            EncoderError: it cannot be had here.
        """
        if self.spec.precision == "int8":
            quantise(self._model, self.device, run=self.probe_vectors)


@contextmanager
def loading(folder: Path, spec: EncoderSpec) -> Iterator[None]:
    """Load a model in the block, and hear nothing of what its library says.

    Raises:
        EncoderError: it does not load, for whatever reason.
    """
    try:
        with quiet():
            yield
    except Exception as error:  # a broken file fails in the library that reads it
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise EncoderError(f"{folder} does not load as encoder '{spec.name}': {reason}") from error
