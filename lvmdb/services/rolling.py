"""A generation in the LVM service, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import numpy as np

from lvmdb.corpus.articles import Vectors
from lvmdb.decoding.generation import (
    GeneratedStep,
    GenerationOptions,
    Stopped,
    feed_of,
    generate,
)
from lvmdb.evaluation.inference import Inference
from lvmdb.services.lvm_state import Lvm
from lvmdb.services.searchers import SharedDecoder
from lvmdb.services.work import Deadline, Work


class Rolling:
    """A generation in the service: each step is work of its own, so that others come between.

        rolling = await begun(lvm, model, context, GenerationOptions(steps=8), Wanted())
        while (step := await rolling.step()) is not None:
            ...
        rolling.stopped                                         # why it ended

    Attributes:
        ends: whether there is an end concept.
    """

    def __init__(
        self,
        lvm: Lvm,
        work: Work,
        model: Inference,
        decoder: SharedDecoder,
        context: Vectors,
        options: GenerationOptions,
        end: Vectors | None,
        without: Sequence[UUID],
    ) -> None:
        self._lvm, self._work, self._model = lvm, work, model
        self._deadline = lvm.deadline()
        self.ends = end is not None
        self._generation = generate(
            self._predict,
            decoder,
            context,
            options,
            end=end,
            without=without,
            feed=feed_of(options.loop, decoder.feed(tmd=model.tmd)),
        )
        self._steps = iter(self._generation)

    @property
    def stopped(self) -> Stopped | None:
        """Why it ended; None while it goes on."""
        return self._generation.stopped

    async def step(self) -> GeneratedStep | None:
        """The next concept; None where it has ended.

        Raises:
            CorpusError: the dataset has no index.
            EndpointError: vec2text does not answer.
            ProblemError: 503, the database does not answer; 504, it took too long.
        """

        def work(deadline: Deadline) -> GeneratedStep | None:
            self._deadline = deadline
            return next(self._steps, None)

        return await self._work.run(work)

    def _predict(self, contexts: Sequence[Vectors]) -> Vectors:
        return np.asarray(self._lvm.models.batcher.wait(self._model, contexts, self._deadline))
