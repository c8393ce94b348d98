"""What a service needs beside its code: loaded in the background, tried again until it is there.

A service listens at once and says why it is not ready yet. A database that is away when it starts,
a model that is fetched later: it becomes ready by itself.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, Protocol, TypeVar

from sqlalchemy import text

from lvmdb.db.engine import Database
from lvmdb.db.revisions import require_head
from lvmdb.errors import ConnectionLostError, LvmdbError, ServiceError
from lvmdb.services.problems import DATABASE_AWAY, clean, not_ready

FIRST_DELAY, LONGEST_DELAY = 0.5, 60.0
"""Seconds before the first try again, and at most between two; each delay doubles the last."""

DATABASE_DELAY = 3.0
"""At most so many seconds between two tries where only the database is missing."""

FRESH = 1.0
"""Seconds for which the database's last answer counts."""

DATABASE_SECONDS = 3.0
"""The database answers within these, or counts as away."""

LOADING = "is being loaded"
"""Why a part is not there that was not there before, and has not failed yet."""

log = logging.getLogger("lvmdb.services")

Thing = TypeVar("Thing")


class Needed(Protocol):
    """Something without which a service is not ready."""

    @property
    def name(self) -> str:
        """For people, e.g. `encoder`."""
        ...

    @property
    def reason(self) -> str | None:
        """Why it is not there; None when it is."""
        ...

    def start(self) -> None:
        """Begin to load it; called in the service's event loop."""
        ...

    def stop(self) -> None:
        """Try no more."""
        ...


class Part(Generic[Thing]):
    """Something that takes a while to load.

    Args:
        name: for people, e.g. `encoder`.
        load: gives it; may run several times, always in one thread.
    """

    def __init__(self, name: str, load: Callable[[], Thing]) -> None:
        self.name = name
        self._load = load
        self._loaded: Thing | None = None
        self._reason: str | None = LOADING
        self._stopped, self._settled = threading.Event(), threading.Event()

    @property
    def reason(self) -> str | None:
        """Why it is not there; None when it is."""
        return self._reason

    @property
    def there(self) -> bool:
        """Whether it is loaded."""
        return self._reason is None

    def get(self) -> Thing:
        """The thing itself.

        Raises:
            ProblemError: 503, it is not there yet.
        """
        if self._reason is not None or self._loaded is None:
            raise not_ready([(self.name, self._reason or LOADING)])
        return self._loaded

    def wait(self) -> Thing:
        """The thing itself, once it is there; for another part that needs it.

        Raises:
            ServiceError: the service ends before.
        """
        self._settled.wait()
        if self._loaded is None:
            raise ServiceError(f"the service ends before its {self.name} is loaded")
        return self._loaded

    def start(self) -> None:
        """Load it in a thread of its own."""
        # A daemon: a process that is asked to end does not wait for a download.
        threading.Thread(target=self._keep_trying, name=f"lvmdb-{self.name}", daemon=True).start()

    def reload(self, reason: str) -> None:
        """Load it anew, since what was loaded is of no use any more; nothing if it was not there.

        Args:
            reason: why, for who asks meanwhile.
        """
        if self._reason is None:
            self._reason = reason
            log.warning("%s: %s", self.name, reason)
            self.start()

    def stop(self) -> None:
        """Try no more."""
        self._stopped.set()
        self._settled.set()

    def _keep_trying(self) -> None:
        delay = FIRST_DELAY
        while not self._stopped.is_set():
            longest = LONGEST_DELAY
            try:
                self._loaded = self._load()
                self._reason = None
                self._settled.set()
                log.info("%s: ready", self.name)
                return
            except ConnectionLostError as error:
                reason, longest = DATABASE_AWAY, DATABASE_DELAY
                log.warning("%s: %s", self.name, clean(str(error)))
            except LvmdbError as error:
                reason = clean(str(error))
                log.error("%s: %s", self.name, reason)
            except Exception:
                reason = "does not load: the service's log says more"
                log.exception("%s does not load", self.name)
            self._reason = reason
            delay = min(delay, longest)
            self._stopped.wait(delay)
            delay *= 2


class DatabaseProbe:
    """Whether the database answers, asked at most once a second however many want to know.

    Args:
        db: the database.
    """

    name = "database"

    def __init__(self, db: Database) -> None:
        self._db = db
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="lvmdb-database")
        self._asked: Future[str | None] | None = None
        self._answered = float("-inf")
        self._reason: str | None = "is being asked"
        self._at_head = False

    async def reason(self) -> str | None:
        """Why it cannot be used; None where it can."""
        if time.monotonic() - self._answered < FRESH:
            return self._reason
        if self._asked is None or self._asked.done():
            self._asked = self._thread.submit(self._ask)
        try:
            async with asyncio.timeout(DATABASE_SECONDS):
                return await asyncio.shield(asyncio.wrap_future(self._asked))
        except TimeoutError:
            return DATABASE_AWAY

    def close(self) -> None:
        """Ask no more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _ask(self) -> str | None:
        reason = None
        try:
            if self._at_head:
                with self._db.connect() as connection:
                    connection.execute(text("SELECT 1"))
            else:
                # Behind a restart may be another database.
                require_head(self._db)
                self._at_head = True
        except ConnectionLostError as error:
            reason, self._at_head = DATABASE_AWAY, False
            self._say(reason, str(error))
        except LvmdbError as error:
            reason, self._at_head = clean(str(error)), False
            self._say(reason, reason)
        except Exception:
            reason, self._at_head = "cannot be asked: the service's log says more", False
            log.exception("the database cannot be asked")
        self._reason, self._answered = reason, time.monotonic()
        return reason

    def _say(self, reason: str, said: str) -> None:
        if reason != self._reason:
            log.warning("database: %s", clean(said))
