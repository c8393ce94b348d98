"""What the LVM service holds: models, encoders, searchers, threads, a language model."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TypeVar

from lvmdb.corpus.http import Patience
from lvmdb.decoding.smoothing import Asked, smoother
from lvmdb.services.context import Context
from lvmdb.services.limits import Limits
from lvmdb.services.lvm_encoders import EncoderStore, KeptEncoder
from lvmdb.services.lvm_models import Kept, ModelStore
from lvmdb.services.parts import Needed
from lvmdb.services.searchers import Searchers
from lvmdb.services.work import Deadline, Work
from lvmdb.training.environment import resolve_device

Result = TypeVar("Result")

ASKING = Limits(threads=4, waiting=28, work_seconds=600.0)
"""Of what takes long, and not in the threads that search: what waits for the decoding service or a
language model, which take minutes on a CPU, and full-text search, which has no index."""

LLM_PATIENCE = Patience(answer_s=120.0, tries=2)
"""With a language model: shorter than `ASKING`, so that the texts come as they are where it is
late."""


@dataclass(eq=False)
class Lvm:
    """What the service holds: make one for a context, give it to every router.

    Attributes:
        context: of the service; `context.work` has its threads.
        asking: threads for what takes long.
        models: runs in memory.
        encoders: of their datasets.
        searchers: connections that search.
    """

    context: Context
    models: ModelStore
    encoders: EncoderStore
    searchers: Searchers
    asking: Work
    _llm: Asked | None = None
    _opening: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, context: Context) -> Lvm:
        """What belongs to a context; it is closed with it, and its parts are the context's."""
        limits, database = context.limits, context.database
        models = ModelStore(
            database, waiting=limits.threads + limits.waiting, device=resolve_device("auto")
        )
        encoded = EncoderStore(database, context.options, waiting=limits.threads + limits.waiting)
        searchers = Searchers(database)
        if encoded.wanted:
            kept = Kept(models, then=lambda model: encoded.part(model.dataset))
            parts: list[Needed] = [kept, KeptEncoder(encoded, kept)]
        else:
            parts = [Kept(models)]
        context.parts = [*context.parts, *parts]
        asking = Work("asking", ASKING)
        context.closing += [models.close, encoded.close, searchers.close, asking.close]
        return cls(context, models, encoded, searchers, asking)

    def deadline(self) -> Deadline:
        """Until when a request that begins now is waited for."""
        return Deadline(self.context.limits.work_seconds)

    async def run_long(self, job: Callable[[Deadline], Result]) -> Result:
        """What a job gives that takes long, from a thread for such.

        Raises:
            ProblemError: 503, too many of them wait; 504, it took too long.
        """
        with self.asking.place():
            return await self.asking.run(job)

    def llm(self) -> Asked:
        """The language model that the environment names.

        Raises:
            SettingsError: it names none.
            MissingDependencyError, ModelError: it names one in a file, which cannot be loaded.
        """
        with self._opening:
            if self._llm is None:
                opened = ExitStack()
                settings = self.context.options.settings
                self._llm = opened.enter_context(smoother(settings, patience=LLM_PATIENCE))
                self.context.closing.append(opened.close)
            return self._llm
