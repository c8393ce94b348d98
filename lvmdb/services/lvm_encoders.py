"""The encoders of the LVM service: each run reads vectors of its dataset's, and of no other.

An encoder is loaded when a run of its dataset is first asked about texts, in the background, and
held against the fingerprint that the dataset's vectors were made by. What needs no texts does
without.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import torch

from lvmdb.corpus import encoders
from lvmdb.corpus.articles import Vectors
from lvmdb.corpus.encoder import Encoder
from lvmdb.db.engine import Database
from lvmdb.errors import EncoderError
from lvmdb.evaluation.inference import Inference
from lvmdb.services.batcher import Batcher
from lvmdb.services.lvm_models import Kept
from lvmdb.services.models import NO_ENCODER
from lvmdb.services.options import ServiceOptions
from lvmdb.services.parts import Part
from lvmdb.services.problems import ProblemError, not_ready
from lvmdb.services.work import Deadline

MOST_ENCODERS = 2
"""Datasets whose encoders are held; one encoder of two datasets is held once."""

MOST_TEXTS = 64
"""Texts that are encoded together."""

PART = "encoder"
"""What `/health` calls it."""


class EncoderStore:
    """Encoders in memory, by dataset; for the coroutines of one event loop. Close it.

    Args:
        db: where datasets and fingerprints are.
        options: say where weights are, and whether there is to be an encoder at all.
        waiting: callers that may wait.
    """

    def __init__(self, db: Database, options: ServiceOptions, *, waiting: int = 256) -> None:
        self._db, self._options = db, options
        self._parts: OrderedDict[str, Part[Encoder]] = OrderedDict()
        self.batcher: Batcher[Encoder, str, Vectors] = Batcher(
            "encoder", _Texts(), most=MOST_TEXTS, waiting=waiting
        )
        """For threads: `batcher.wait(encoder, texts, deadline)`."""

    @property
    def wanted(self) -> bool:
        """Whether the service has encoders at all."""
        return self._options.encoder != NO_ENCODER

    def part(self, dataset: str) -> Part[Encoder]:
        """The encoder of a dataset, as a part that is there or says why not."""
        if dataset not in self._parts:
            self._parts[dataset] = Part(PART, lambda: self._load(dataset))
            self._parts[dataset].start()
            while len(self._parts) > MOST_ENCODERS:
                self._parts.popitem(last=False)[1].stop()
        self._parts.move_to_end(dataset)
        return self._parts[dataset]

    def get(self, model: Inference) -> Encoder:
        """The encoder of the vectors that a model reads.

        Raises:
            ProblemError: 503, it is not there, or not yet.
        """
        if not self.wanted:
            raise not_ready([(PART, f"the service was started with --encoder {NO_ENCODER}")])
        return self.part(model.dataset).get()

    def there(self, model: Inference) -> bool:
        """Whether the encoder of a model is loaded; if not, it is begun to be."""
        return self.wanted and self.part(model.dataset).there

    async def encode(self, encoder: Encoder, texts: Sequence[str], deadline: Deadline) -> Vectors:
        """Vectors `(n, 768)` of texts, with what others want encoded now.

        Raises:
            ProblemError: 422, a text has no vector; 503, too many wait; 504, it took too long.
            EndpointError: the encoder is behind an endpoint, which failed.
        """
        rows: list[Vectors] = []
        try:
            # In pieces, so that others are not kept waiting for all of a long list.
            for start in range(0, len(texts), MOST_TEXTS):
                piece = texts[start : start + MOST_TEXTS]
                rows += await self.batcher.run(encoder, piece, deadline)
            return np.asarray(rows, dtype=np.float32)
        except EncoderError as error:
            raise ProblemError(422, "not_encodable", str(error)) from error

    def close(self) -> None:
        """Load and encode no more."""
        for part in self._parts.values():
            part.stop()
        self.batcher.close()

    def _load(self, dataset: str) -> Encoder:
        held = {part.get().name: part.get() for part in list(self._parts.values()) if part.there}
        return encoders.load_beside(self._db, self._options.settings, dataset, held=held)


class KeptEncoder:
    """A part of the service: the encoder of the run that is promoted.

    Args:
        encoders: where it is loaded.
        kept: that run.
    """

    name = PART

    def __init__(self, encoders: EncoderStore, kept: Kept) -> None:
        self._encoders, self._kept = encoders, kept

    @property
    def reason(self) -> str | None:
        """Why it is not there; None when it is."""
        model = self._kept.model
        if model is None:
            waits = self._kept.reason is not None
            return "waits for the model, whose dataset says which it is" if waits else None
        return self._encoders.part(model.dataset).reason

    def start(self) -> None:
        """It begins to be loaded when the model is there, which says whose it is."""

    def stop(self) -> None:
        """The store ends it."""


class _Texts:
    """Encodes with all threads, whatever others set theirs to."""

    def __init__(self) -> None:
        self._all = torch.get_num_threads()

    def __call__(self, encoder: Encoder, texts: Sequence[str]) -> list[Vectors]:
        torch.set_num_threads(self._all)
        return list(encoder.encode(texts))


class Shared:
    """What a batcher encodes, for who wants an encoder; in a thread.

    Args:
        batcher: of an `EncoderStore`.
        encoder: which encodes.
        deadline: until when somebody waits.
    """

    def __init__(
        self, batcher: Batcher[Encoder, str, Vectors], encoder: Encoder, deadline: Deadline
    ) -> None:
        self._batcher, self._encoder, self._deadline = batcher, encoder, deadline

    def encode(self, texts: Sequence[str], _: object = None) -> Vectors:
        """Vectors `(n, 768)` of texts.

        Raises:
            AbandonedError: nobody waits any more.
            ProblemError: 503, too many wait already.
        """
        return np.asarray(self._batcher.wait(self._encoder, texts, self._deadline))
