"""`lvmdb bench stream`: vectors a second, beside what a plain client reaches.

All contenders read the same concepts in the same order over one connection and end with float32
arrays in memory. They take turns, so that what else the machine does meets them alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing

import numpy as np
import psycopg
from pgvector.psycopg import register_vector

from lvmdb.db.benchmarks import Measured
from lvmdb.db.engine import Database, translated_errors
from lvmdb.db.queries import psycopg_sql
from lvmdb.progress import SILENT, Progress
from lvmdb.sequences.sets import SequenceSet
from lvmdb.sequences.stream import SequenceStream, StreamOptions

ADAPTER = "named cursor, pgvector's numpy adapter"
TEXT = "psycopg, text"
STREAM = "lvmdb stream, concepts"
BATCHES = "lvmdb stream, shuffled batches of 64"

PEER_ROWS = 200
"""Rows a round trip of the plain client: its best size; 500 and more take it longer."""


def bench_stream(
    db: Database,
    sequences: SequenceSet,
    *,
    split: str = "train",
    repetitions: int = 5,
    progress: Progress = SILENT,
) -> list[Measured]:
    """Measure each way of reading a split; the peer comes first.

    Returns:
        Vectors read a second. For batches, vectors of the windows' concepts, each counted once.
    """
    plain = SequenceStream(db, sequences, split, StreamOptions())
    shuffled = SequenceStream(db, sequences, split, StreamOptions(shuffle=True))
    held = sum(len(b.vectors) for b in plain.blocks())
    contenders: dict[str, Callable[[], int]] = {
        ADAPTER: lambda: _adapter(db, sequences, split, binary=True),
        TEXT: lambda: _adapter(db, sequences, split, binary=False),
        STREAM: lambda: sum(len(b.vectors) for b in plain.blocks()),
        BATCHES: lambda: held if sum(len(b) for b in shuffled) else 0,
    }
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    with progress.task("measuring", repetitions * len(contenders), "passes") as advance:
        for repetition in range(repetitions + 1):
            for name, read in contenders.items():
                # The slow one is measured once; the first round of the others warms the cache.
                if name == TEXT and repetition != 1:
                    advance(bool(repetition))
                    continue
                began = time.perf_counter()
                vectors = read()
                if repetition:
                    samples[name].append(vectors / (time.perf_counter() - began))
                    advance(1)
    return [Measured(name, "vectors/s", values) for name, values in samples.items()]


def _adapter(db: Database, sequences: SequenceSet, split: str, *, binary: bool) -> int:
    parameters = {"sequence_set_id": sequences.sequence_set_id, "split": split}
    count = 0
    with translated_errors(), closing(db.raw_connection()) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        if binary:
            register_vector(connection)
        with connection.cursor(name="bench", binary=binary) as cursor:
            cursor.execute(psycopg_sql("sequences", "bench_concepts"), parameters)
            while rows := cursor.fetchmany(PEER_ROWS):
                if binary:
                    block = np.stack([_array(row[2]) for row in rows])
                else:
                    block = np.array([row[2][1:-1].split(",") for row in rows], dtype=np.float32)
                count += len(block)
    return count


def _array(value: object) -> np.ndarray:
    to_numpy = getattr(value, "to_numpy", None)
    return np.asarray(to_numpy() if to_numpy else value, dtype=np.float32)
