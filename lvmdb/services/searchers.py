"""Connections that search, shared by the threads of a service.

    with searchers.take("wiki") as searcher:        # this thread's until the block ends
        hits, found = searcher.hits(vector, 10)

A searcher is for one thread at a time, and dear to make: its connection is set up, its statements
are prepared. So what one thread is done with the next one takes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar
from uuid import UUID

from lvmdb.corpus.articles import Vectors
from lvmdb.db.engine import Database
from lvmdb.decoding.decoded import Decoded
from lvmdb.decoding.decoders import DecodingOptions, decoder
from lvmdb.decoding.generation import Feed
from lvmdb.decoding.passages import snapped
from lvmdb.errors import ConnectionLostError, LvmdbError
from lvmdb.retrieval.searcher import Searcher
from lvmdb.settings import Settings

MOST_IDLE = 8
"""Connections that are kept open while nobody searches."""

RENEWED = 60.0
"""Seconds after which a searcher is made anew: its index may have been tuned or built again."""

log = logging.getLogger("lvmdb.services")

Result = TypeVar("Result")


class Searchers:
    """Searchers of any datasets. Close it.

    Args:
        db: the database.
    """

    def __init__(self, db: Database) -> None:
        self.database = db
        self._lock = threading.Lock()
        self._idle: list[tuple[str, bool, float, Searcher]] = []
        self._closed = False

    @contextmanager
    def take(self, dataset: str, *, exact: bool = False) -> Iterator[Searcher]:
        """A searcher of a dataset, for one thread.

        Args:
            dataset: where to search.
            exact: compare with every vector, and need no index.

        Raises:
            CorpusError: the dataset has no index, and an exact search was not asked for.
            ConnectionLostError: the database does not answer.
        """
        born, searcher = self._found(dataset, exact) or (
            time.monotonic(),
            Searcher(self.database, dataset, exact=exact),
        )
        try:
            yield searcher
        except ConnectionLostError:
            # Whoever else is connected to that server has lost it as well.
            self._close([searcher, *self._taken(everything=True)])
            raise
        except LvmdbError:
            self._give_back((dataset, exact, born, searcher))
            raise
        except BaseException:
            self._close([searcher])
            raise
        self._give_back((dataset, exact, born, searcher))

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            self._closed = True
        self._close(self._taken(everything=True))

    def _give_back(self, used: tuple[str, bool, float, Searcher]) -> None:
        with self._lock:
            self._idle.append(used)
            most = 0 if self._closed else MOST_IDLE
            left, self._idle = self._idle[: -most or None], self._idle[-most:] if most else []
        self._close([searcher for *_, searcher in left])

    def _found(self, dataset: str, exact: bool) -> tuple[float, Searcher] | None:
        self._close(self._taken(everything=False))
        with self._lock:
            # The one used last is the likeliest to have all it needs.
            for place in range(len(self._idle) - 1, -1, -1):
                if self._idle[place][:2] == (dataset, exact):
                    _, _, born, searcher = self._idle.pop(place)
                    return born, searcher
        return None

    def _taken(self, *, everything: bool) -> list[Searcher]:
        """Take out those that are old, or all."""
        oldest = time.monotonic() - RENEWED
        with self._lock:
            old = [s for *_, born, s in self._idle if everything or born < oldest]
            if old:
                self._idle = [i for i in self._idle if not everything and i[2] >= oldest]
        return old

    @staticmethod
    def _close(searchers: Sequence[Searcher]) -> None:
        for searcher in searchers:
            searcher.close()


class SharedDecoder:
    """A `Decoder` that has a searcher, and what else it needs, only while it decodes.

    Args:
        searchers: where it takes one from.
        settings: say where the decoding service is.
        dataset: where to search.
        encoder_id: of its vectors.
        options: how to decode.
        exact: compare with every vector.
    """

    def __init__(
        self,
        searchers: Searchers,
        settings: Settings,
        dataset: str,
        encoder_id: int,
        options: DecodingOptions,
        *,
        exact: bool = False,
    ) -> None:
        self._searchers, self._settings, self._options = searchers, settings, options
        self._dataset, self._encoder_id, self._exact = dataset, encoder_id, exact

    def decode(
        self, vectors: Vectors, *, without: Sequence[Sequence[UUID]] | None = None
    ) -> list[Decoded]:
        """As the decoder that `decoding.decoders` gives."""

        def decode() -> list[Decoded]:
            with (
                self._searchers.take(self._dataset, exact=self._exact) as searcher,
                decoder(
                    self._searchers.database,
                    self._settings,
                    searcher,
                    self._encoder_id,
                    self._options,
                    log.info,
                ) as decodes,
            ):
                return decodes.decode(vectors, without=without)

        return again(decode)

    def feed(self, *, tmd: bool) -> Feed:
        """What gives the vectors of concepts that were found; see `decoding.passages.snapped`."""

        def read(decoded: Decoded) -> Vectors:
            with self._searchers.take(self._dataset, exact=self._exact) as searcher:
                return snapped(searcher, tmd=tmd)(decoded)

        return lambda decoded: again(lambda: read(decoded))


def again(job: Callable[[], Result]) -> Result:
    """What a job gives that reads the database, tried once more where the connection was lost.

    The database may be back, and only the connection have been of before.

    Raises:
        ConnectionLostError: it is not.
    """
    try:
        return job()
    except ConnectionLostError:
        return job()
