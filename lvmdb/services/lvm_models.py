"""The models of the LVM service: found by run or by promoted name, held, dropped, loaded again.

    store = ModelStore(db)
    model = await store.get("production")       # or a run's number
    vectors = await store.infer(model, contexts, Deadline(60))

What a name stands for is asked of the database at most once a second: a request that comes a second
after `lvmdb runs promote` is answered by the new run, once it is loaded, or told why not. Requests
under way end with the model that they began with. While the database does not answer, what is
loaded goes on, by the names that were known last; every answer says which run gave it.

Coroutines of one event loop use it; nothing here is written to the database.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from lvmdb.corpus.articles import Vectors
from lvmdb.db.aliases import DEFAULT
from lvmdb.db.engine import Database
from lvmdb.errors import (
    LvmdbError,
    ModelError,
    RunError,
    SequenceError,
    UnknownNameError,
)
from lvmdb.evaluation.inference import Inference, load_inference
from lvmdb.services import lvm_names
from lvmdb.services.batcher import Batcher
from lvmdb.services.lvm_names import Names
from lvmdb.services.parts import LOADING, DatabaseProbe
from lvmdb.services.problems import (
    DATABASE_AWAY,
    RETRY_LATER,
    ProblemError,
    clean,
    from_lvmdb,
    not_ready,
)
from lvmdb.services.work import Deadline

MOST_MODELS = 4
"""That are held at a time; the one that was asked for longest ago goes first."""

MOST_CONTEXTS = 256
"""Contexts of one forward pass, and of one request."""

WORTH_THREADS = 1_000_000_000
"""Products, parameters by concepts read, of which a pass is computed by several threads: some 40 ms
of one."""

WORTH_ONEDNN = 4
"""Contexts from which on oneDNN's recurrent layers are the faster ones."""

REFUSED_SECONDS = 5.0
"""A run that did not load is not tried again before."""

log = logging.getLogger("lvmdb.services")


class ModelStore:
    """Models in memory; close it.

    Args:
        db: where runs and their checkpoints are.
        most: models to hold.
        waiting: callers that may wait for a forward pass.
        device: where models predict.
    """

    def __init__(
        self,
        db: Database,
        *,
        most: int = MOST_MODELS,
        waiting: int = 256,
        device: torch.device | None = None,
    ) -> None:
        self._db, self._most = db, most
        self._device = device or torch.device("cpu")
        self._held: OrderedDict[int, Inference] = OrderedDict()
        self._refused: dict[int, tuple[float, ProblemError]] = {}
        self._loading: dict[int, Future[Inference]] = {}
        self._names = Names(db)
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="lvmdb-model")
        self.batcher: Batcher[Inference, Vectors, Vectors] = Batcher(
            "inference", _Passes(), most=MOST_CONTEXTS, waiting=waiting
        )
        """For threads: `batcher.wait(model, contexts, deadline)`."""

    @property
    def held(self) -> list[int]:
        """The runs that are loaded, the one asked for last behind."""
        return list(self._held)

    async def get(self, name: int | str = DEFAULT) -> Inference:
        """The model of a run.

        Args:
            name: the run's number, or a name under which one is promoted.

        Raises:
            UnknownNameError: there is no such run or name.
            ProblemError: 409, the run cannot be used: its golden pair does not match, it has not
                succeeded; 503, the database does not answer, and the run is not loaded.
            DatabaseError: the database refuses.
        """
        run_id = await self._run_id(name)
        if run_id in self._held:
            self._held.move_to_end(run_id)
            return self._held[run_id]
        if run_id in self._refused:
            since, problem = self._refused[run_id]
            if time.monotonic() - since < REFUSED_SECONDS:
                raise problem
            del self._refused[run_id]
        return await self._load(run_id)

    async def infer(
        self, model: Inference, contexts: Sequence[Vectors], deadline: Deadline
    ) -> Vectors:
        """What follows contexts, `(n, 768)`: in one pass with what others ask of the model now.

        Args:
            model: that `get` gave.
            contexts: each `(t, 768)`, oldest first.
            deadline: until when somebody waits.

        Raises:
            ProblemError: 422, a prediction is no number; 503, too many wait; 504, it took too long.
        """
        return finite(np.asarray(await self.batcher.run(model, contexts, deadline)))

    def close(self) -> None:
        """End its threads."""
        self.batcher.close()
        self._loader.shutdown(wait=False, cancel_futures=True)
        self._names.close()

    async def _run_id(self, name: int | str) -> int:
        seen = await self._names.seen(self._held)
        if seen is None:
            if isinstance(name, int) and name in self._held:
                return name
            raise not_ready([(DatabaseProbe.name, DATABASE_AWAY)])
        for run_id, model in list(self._held.items()):
            # A run was deleted, or behind the connection string is another database now.
            if seen.sha256.get(run_id, model.checkpoint_sha256) != model.checkpoint_sha256:
                log.warning("run %d is no longer what was loaded: dropped", run_id)
                del self._held[run_id]
        if isinstance(name, int):
            return name
        if name not in seen.runs:
            hint = None if seen.runs else "'lvmdb runs promote' makes one"
            raise UnknownNameError("promoted run", name, seen.runs, hint=hint)
        return seen.runs[name]

    async def _load(self, run_id: int) -> Inference:
        """Load a run, once however many want it."""
        loading = self._loading.get(run_id)
        if loading is None:
            loading = self._loader.submit(load_inference, self._db, run_id, self._device)
            self._loading[run_id] = loading
        try:
            # One who goes must not stop what others wait for.
            model = await asyncio.shield(asyncio.wrap_future(loading))
        except (ModelError, RunError, SequenceError) as error:
            problem = refused(run_id, error)
            if run_id not in self._refused:
                log.error("%s", problem.message)
            self._refused[run_id] = time.monotonic(), problem
            # Nobody makes it grow by asking for ever other runs.
            while len(self._refused) > 10 * self._most:
                del self._refused[next(iter(self._refused))]
            raise problem from error
        finally:
            if loading.done():
                self._loading.pop(run_id, None)
        if run_id not in self._held:
            log.info("run %d: %s, %d parameters", run_id, model.architecture, model.parameters)
            self._held[run_id] = model
            while len(self._held) > self._most:
                self._held.popitem(last=False)
        return model


class Kept:
    """A part of the service that holds the model of the default name, whatever that stands for.

    So a run is loaded when it is promoted, not when it is asked for first.

    Args:
        store: where it is loaded.
        promoted: the name.
        then: called with the model whenever it is seen to be there.
    """

    name = "model"

    def __init__(
        self,
        store: ModelStore,
        promoted: str = DEFAULT,
        then: Callable[[Inference], object] = lambda _: None,
    ) -> None:
        self._store, self._promoted, self._then = store, promoted, then
        self._task: asyncio.Task[None] | None = None
        self.model: Inference | None = None
        """The one that is loaded now; None while there is none, or none is promoted."""
        self.reason: str | None = LOADING
        """Why there is none, or why the one that is promoted is not used."""

    def start(self) -> None:
        """Look after it from now on."""
        self._task = asyncio.get_running_loop().create_task(self._keep())

    def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()

    async def _keep(self) -> None:
        while True:
            try:
                self.model = await self._store.get(self._promoted)
                self.reason = None
                self._then(self.model)
            except UnknownNameError:
                # Before the first run is promoted there is nothing to wait for: runs are served by
                # their numbers.
                self.model = self.reason = None
            except ProblemError as error:
                self.reason = error.message
            except LvmdbError as error:
                self.reason = clean(from_lvmdb(error).message)
            except Exception:
                self.reason = "does not load: the service's log says more"
                log.exception("the promoted model does not load")
            await asyncio.sleep(lvm_names.FRESH)


def refused(run_id: int, error: LvmdbError) -> ProblemError:
    """Why a run is not served: for as long as it is what it is, however often it is asked for."""
    return ProblemError(
        409, "run_refused", f"run {run_id} is not served: {error}", retry_after=RETRY_LATER
    )


def finite(predicted: Vectors) -> Vectors:
    """Predictions that JSON can hold.

    Raises:
        ProblemError: 422, one holds what is no number.
    """
    bad = np.flatnonzero(~np.isfinite(predicted).all(axis=1))
    if len(bad):
        raise ProblemError(
            422, "not_predictable", f"what follows context {bad[0] + 1} is no number"
        )
    return predicted


class _Passes:
    """Forward passes: what is small is not worth waking other threads for, which others need."""

    def __init__(self) -> None:
        self._all = torch.get_num_threads()
        self._onednn = bool(torch.backends.mkldnn.enabled)

    def __call__(self, model: Inference, contexts: Sequence[Vectors]) -> list[Vectors]:
        read = sum(min(len(each), model.context_len) for each in contexts)
        # Of the thread that calls it; the encoder's are its own.
        torch.set_num_threads(1 if model.parameters * read < WORTH_THREADS else self._all)
        # oneDNN brings a recurrent layer's weights into an order of its own at each call, which
        # costs more than it saves where few read them. `mkldnn.flags` warns of another setting.
        _set_onednn(self._onednn and len(contexts) >= WORTH_ONEDNN)
        try:
            return list(model(contexts))
        finally:
            _set_onednn(self._onednn)


def _set_onednn(enabled: bool) -> None:
    torch.backends.mkldnn.enabled = enabled  # type: ignore[assignment]  # torch's types lack it
