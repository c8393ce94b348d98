"""`lvmdb bench stream`: vectors and windows a second, beside other clients and beside memory.

All contenders read the same concepts of one split, in the same order, and end with float32 arrays;
how many each read is checked. They take turns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lvmdb.db import native
from lvmdb.db.benchmarks import Measured
from lvmdb.db.engine import Database
from lvmdb.errors import SequenceError, UnknownNameError
from lvmdb.progress import SILENT, Progress
from lvmdb.sequences.batch import SequenceBatch
from lvmdb.sequences.held import batches, copied, npy_file
from lvmdb.sequences.peers import ADAPTER, PEERS, Blocks, Peer, Split, adapter
from lvmdb.sequences.sets import SequenceSet
from lvmdb.sequences.stream import SequenceStream, StreamOptions
from lvmdb.sequences.turns import Contender, take_turns

MEMORY, MAPPED = "array in memory", "memory-mapped NPY"
MEMORY_WINDOWS, MAPPED_WINDOWS = f"windows of an {MEMORY}", f"windows of a {MAPPED}"
HALF = "lvmdb, halfvec"

READERS = (1, 2, 4)
FETCH_SIZES = (50, 200, 500, 1_000, 2_000)
"""Rows a round trip that are tried, of the adapter and of lvmdb."""

_SWEEP_ROWS, _SWEEP_PASSES = 10_000, 5
"""How much is read for each fetch size, and how often."""

_BATCH = 64

Warn: TypeAlias = Callable[[str], None]


def bench_stream(
    db: Database,
    sequences: SequenceSet,
    *,
    split: str = "train",
    repetitions: int = 5,
    readers: Sequence[int] = READERS,
    only: Sequence[str] = (),
    progress: Progress = SILENT,
    warn: Warn = lambda _: None,
) -> list[Measured]:
    """Measure each way of reading a split.

    Args:
        db, sequences, split: what is read.
        repetitions: measured passes; the slow contenders have fewer.
        readers: connections that lvmdb reads with, one contender each.
        only: parts of the names of the contenders that are measured; none names all.
        progress: told of every pass.
        warn: told of each contender that is left out, and why.

    Returns:
        Vectors a second and windows (in shuffled batches of 64) a second, and peak memory in MB.

    Raises:
        SequenceError: the set is a draft, or a contender read more or fewer than it holds.
        UnknownNameError: `only` names no contender.
        InputError: the vectors cannot be written to a temporary file.
    """
    sequences.frozen_fingerprint  # noqa: B018  (a draft is refused)
    what = Split(db, sequences, split)
    with ExitStack() as stack:
        field = _Field(what, readers, stack, progress)
        names = _chosen(list(field.makers), only)
        contenders = []
        for name in names:
            unable = field.unable(name)
            if unable is None:
                contenders.append(field.makers[name]())
            else:
                warn(f"{name} is left out: {unable}")
        return take_turns(contenders, repetitions, progress=progress, peaks=True)


class _Field:
    """Who takes part: contenders by name, made when they are asked for."""

    def __init__(
        self, what: Split, readers: Sequence[int], stack: ExitStack, progress: Progress
    ) -> None:
        self._what, self._progress = what, progress
        self._peers = {peer.name: peer for peer in PEERS}
        # Written once, by the first who needs it.
        self._npy = cache(
            lambda: stack.enter_context(npy_file(self._lvmdb().vectors, what.concepts))
        )
        self._lvmdb_rows = cache(lambda: self._sweep("lvmdb", self._of_size))
        self.makers: dict[str, Callable[[], Contender]] = {
            ADAPTER: self._adapter,
            **{peer.name: partial(self._peer, peer) for peer in PEERS},
            **{_named(count): partial(self._ours, count) for count in readers},
            HALF: partial(self._ours, 1, half=True),
            MEMORY: partial(self._held, MEMORY),
            MAPPED: partial(self._held, MAPPED),
            MEMORY_WINDOWS: partial(self._held_windows, MEMORY),
            MAPPED_WINDOWS: partial(self._held_windows, MAPPED),
            **{_windows_named(count): partial(self._our_windows, count) for count in readers},
        }

    def unable(self, name: str) -> str | None:
        """Why a contender cannot take part; None where it can."""
        peer = self._peers.get(name)
        return peer.unable(self._what) if peer and peer.optional else None

    def _adapter(self) -> Contender:
        rows, tried = self._sweep(ADAPTER, partial(adapter, self._what))
        how = "named cursor, binary, pgvector's numpy adapter"
        given = Peer(ADAPTER, how, adapter, "pgvector").parameters
        given |= {"fetch_rows": rows, "tried": tried}
        return self._vectors(ADAPTER, partial(adapter, self._what, rows), given)

    def _peer(self, peer: Peer) -> Contender:
        read = partial(peer.read, self._what)
        return self._vectors(peer.name, read, peer.parameters, peer.passes)

    def _ours(self, readers: int, *, half: bool = False) -> Contender:
        rows, tried = self._lvmdb_rows()
        stream = self._lvmdb(readers=readers, half=half, fetch_rows=rows)
        # How the server sends vectors decides what this costs.
        with closing(self._what.db.raw_connection()) as connection:
            sent = "halfvec" if half else "as stored" if native.allowed(connection) else "portable"
        given = {"kind": "lvmdb", "readers": readers, "sent": sent}
        name = HALF if half else _named(readers)
        return self._vectors(name, stream.vectors, {**given, "fetch_rows": rows, "tried": tried})

    def _our_windows(self, readers: int) -> Contender:
        stream = self._lvmdb(readers=readers, shuffle=True, batch_size=_BATCH)
        given = {"kind": "lvmdb", "readers": readers, "batch": _BATCH}
        return self._windows(_windows_named(readers), lambda: lambda: iter(stream), given)

    def _held(self, name: str) -> Contender:
        path = self._npy()
        return Contender(
            name,
            "vectors/s",
            lambda: partial(_all, name, copied(_opened(name, path)), self._what.concepts),
            ADAPTER,
            parameters={"kind": "memory", "how": _HELD[name]},
        )

    def _held_windows(self, source: str) -> Contender:
        path = self._npy()
        name = MEMORY_WINDOWS if source == MEMORY else MAPPED_WINDOWS

        def opened() -> Callable[[], Iterable[SequenceBatch]]:
            generator = np.random.default_rng(0)
            return partial(batches, _opened(source, path), self._what, _BATCH, generator)

        given = {"kind": "memory", "how": _HELD[source], "batch": _BATCH}
        return self._windows(name, opened, given)

    def _vectors(
        self,
        name: str,
        read: Callable[[], Blocks],
        parameters: dict[str, Any],
        passes: int | None = None,
    ) -> Contender:
        def ready() -> Callable[[], int]:
            return lambda: _all(name, read(), self._what.concepts)

        return Contender(name, "vectors/s", ready, ADAPTER, passes, parameters)

    def _windows(
        self,
        name: str,
        opened: Callable[[], Callable[[], Iterable[SequenceBatch]]],
        parameters: dict[str, Any],
    ) -> Contender:
        expected = self._what.sequences.window_count(self._what.name)

        def ready() -> Callable[[], int]:
            made = opened()
            return lambda: _all(name, made(), expected)

        return Contender(name, "windows/s", ready, MEMORY_WINDOWS, None, parameters)

    def _lvmdb(self, **options: Any) -> SequenceStream:
        what = self._what
        return SequenceStream(what.db, what.sequences, what.name, StreamOptions(**options))

    def _of_size(self, rows: int) -> Blocks:
        return self._lvmdb(fetch_rows=rows).vectors()

    def _sweep(self, name: str, read: Callable[[int], Blocks]) -> tuple[int, dict[str, int]]:
        """The fetch size that reads the beginning of the split fastest; what each reaches."""
        sizes = [
            Contender(str(rows), "vectors/s", partial(partial, _some, read, rows))
            for rows in FETCH_SIZES
        ]
        measured = take_turns(
            sizes, _SWEEP_PASSES, progress=self._progress, title=f"fetch size of {name}"
        )
        best = max(measured, key=lambda m: m.value)
        return int(best.contender), {m.contender: round(m.value) for m in measured}


_HELD = {
    MEMORY: "copied block by block; the peak holds the whole array",
    MAPPED: "np.load(mmap_mode='r') of a file in the page cache; pages that are touched count",
}


def _opened(source: str, path: Path) -> NDArray[np.float32]:
    vectors: NDArray[np.float32] = np.load(path, mmap_mode="r" if source == MAPPED else None)
    return vectors


def _named(readers: int) -> str:
    return f"lvmdb, {readers} reader" + ("s" if readers > 1 else "")


def _windows_named(readers: int) -> str:
    return f"windows by {_named(readers)}"


def _chosen(names: Sequence[str], only: Sequence[str]) -> list[str]:
    for part in only:
        if not any(part.lower() in name.lower() for name in names):
            raise UnknownNameError("contender", part, names)
    return [
        name for name in names if not only or any(part.lower() in name.lower() for part in only)
    ]


def _all(name: str, parts: Iterable[Any], expected: int) -> int:
    """How many vectors or windows the parts hold together, all of them read.

    Raises:
        SequenceError: other than expected.
    """
    count = sum(map(len, parts))
    if count != expected:
        raise SequenceError(
            f"{name} read {count} where the sequence set has {expected}: run 'lvmdb verify'"
        )
    return count


def _some(read: Callable[[int], Blocks], rows: int) -> int:
    """How many vectors the first blocks hold, up to a number that tells their speed."""
    count = 0
    with closing(read(rows)) as blocks:
        for block in blocks:
            count += len(block)
            if count >= _SWEEP_ROWS:
                break
    return count
