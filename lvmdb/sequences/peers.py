"""Other clients that read the same vectors: what `lvmdb bench stream` stands beside.

Each is what a good user of that client would write: it gives float32 arrays `(rows, 768)`, in the
set's order, in bounded blocks where the client can stream. An array may be used again after the
next step.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from itertools import islice
from typing import Any, TypeAlias
from urllib.parse import quote

import numpy as np
import psycopg
from numpy.typing import NDArray
from pgvector.psycopg import register_vector
from pgvector.sqlalchemy import VECTOR
from psycopg import conninfo

from lvmdb.db.engine import Database, raw, translated_errors
from lvmdb.db.queries import psycopg_sql, query
from lvmdb.db.types import DIMENSION
from lvmdb.errors import DatabaseError, MissingDependencyError
from lvmdb.sequences.sets import SequenceSet

Blocks: TypeAlias = Generator[NDArray[np.float32]]

ROWS = 1_000
"""Rows of a block where the client leaves the choice and measures alike around it."""

ADBC_BATCH = 4 << 20
"""Bytes of an Arrow batch, about; the driver's own 16 MiB measure slower."""

COPY_SIGNATURE, COPY_TRAILER = b"PGCOPY\n\xff\r\n\0", b"\xff\xff"
"""How COPY BINARY begins and ends (PostgreSQL's documentation of COPY, "Binary Format")."""

_SENT: list[tuple[str, Any]] = [
    ("dimensions", ">i2"),
    ("unused", ">i2"),
    ("vector", ">f4", (DIMENSION,)),  # type: ignore[list-item]
]
SENT = np.dtype(_SENT)
"""What `vector_send` makes of a vector."""

COPIED = np.dtype([("fields", ">i2"), ("length", ">i4"), ("value", SENT)])
"""A row of COPY BINARY with one vector."""


@dataclass(frozen=True)
class Split:
    """What all contenders read: the concepts of one split of a set (scope corpus: all)."""

    db: Database
    sequences: SequenceSet
    name: str

    @property
    def parameters(self) -> dict[str, object]:
        """Of the statements in `sql/benchmarks.sql`."""
        return {"sequence_set_id": self.sequences.sequence_set_id, "split": self.name}

    @cached_property
    def articles(self) -> NDArray[np.int64]:
        """`(articles, 2)`: id and number of concepts, in order."""
        with self.db.connect() as connection:
            rows = connection.execute(query("sequences", "articles"), self.parameters).all()
        return np.array([tuple(row) for row in rows], dtype=np.int64).reshape(-1, 2)

    @property
    def concepts(self) -> int:
        """How many vectors a contender must read."""
        return int(self.articles[:, 1].sum())

    def literal_statement(self) -> str:
        """The statement with its parameters in it, for clients that cannot bind them."""
        with closing(self.db.raw_connection()) as connection:
            statement = psycopg_sql("benchmarks", "vectors")
            text = psycopg.ClientCursor(connection).mogrify(statement, self.parameters)
        return text.rstrip(";")


@dataclass(frozen=True)
class Peer:
    """Another client.

    Attributes:
        name: as in the results.
        how: what it does, for people.
        read: gives the vectors.
        package: whose version is told.
        passes: how many are measured, at most; slow ones have few.
        optional: it may be missing or unable; then it is left out, and that is said.
    """

    name: str
    how: str
    read: Callable[[Split], Blocks]
    package: str = "psycopg"
    passes: int | None = None
    optional: bool = False

    @property
    def parameters(self) -> dict[str, Any]:
        """What is stored beside its speed."""
        client = f"{self.package} {version(self.package)}"
        return {"kind": "client", "how": self.how, "client": client}

    def unable(self, split: Split) -> str | None:
        """Why it cannot read, in one line without the password; None where it can."""
        try:
            with closing(self.read(split)) as blocks:
                next(blocks, None)
        except Exception as error:  # whatever another client raises
            reason = " ".join(str(error).split()) or type(error).__name__
            _, password = split.db.without_password()
            for secret in (password, quote(password or "", safe="")):
                reason = reason.replace(secret, "***") if secret else reason
            return reason
        return None


def adapter(split: Split, rows: int = ROWS) -> Blocks:
    """psycopg's named cursor in binary, pgvector's adapter; `rows` a round trip."""
    with translated_errors(), closing(split.db.raw_connection()) as connection:
        register_vector(connection)
        with connection.cursor(name="bench", binary=True) as cursor:
            cursor.execute(psycopg_sql("benchmarks", "vectors"), split.parameters)
            while fetched := cursor.fetchmany(rows):
                yield np.stack([row[0].to_numpy() for row in fetched])


def text(split: Split) -> Blocks:
    """psycopg's named cursor, the vector as text, numbers parsed by numpy."""
    with (
        translated_errors(),
        closing(split.db.raw_connection()) as connection,
        connection.cursor(name="bench") as cursor,
    ):
        cursor.execute(psycopg_sql("benchmarks", "vectors"), split.parameters)
        while fetched := cursor.fetchmany(ROWS):
            yield np.array([row[0][1:-1].split(",") for row in fetched], dtype=np.float32)


def sqlalchemy_core(split: Split) -> Blocks:
    """SQLAlchemy Core, `yield_per`, pgvector's column type."""
    statement = query("benchmarks", "vectors").columns(concept_vec=VECTOR(DIMENSION))
    with split.db.connect() as connection:
        streaming = connection.execution_options(yield_per=ROWS)
        for vectors in streaming.execute(statement, split.parameters).scalars().partitions():
            yield np.array(vectors, dtype=np.float32)


def copy_binary(split: Split) -> Blocks:
    """COPY BINARY, many rows parsed by numpy at once, and checked.

    Raises:
        DatabaseError: what arrives is not the format.
    """
    buffer = np.empty((ROWS, DIMENSION), dtype=np.float32)
    with translated_errors(), closing(split.db.raw_connection()) as connection:
        statement = psycopg_sql("benchmarks", "copy_vectors")
        with connection.cursor() as cursor, cursor.copy(statement, split.parameters) as copy:
            messages = iter(copy)
            rest = _without_header(bytes(next(messages, b"")))
            while parts := list(islice(messages, ROWS - 1)):
                joined = b"".join([rest, *parts])
                rows = len(joined) // COPIED.itemsize
                parsed = np.frombuffer(joined, dtype=COPIED, count=rows)
                if np.any(parsed["fields"] != 1) or np.any(parsed["length"] != SENT.itemsize):
                    raise DatabaseError("COPY BINARY sent other rows than one vector each")
                yield _into(buffer[:rows], parsed["value"])
                rest = joined[rows * COPIED.itemsize :]
            if rest != COPY_TRAILER:
                raise DatabaseError("COPY BINARY ended without its trailer")


def pandas_frames(split: Split) -> Blocks:
    """pandas' `read_sql` in chunks, pgvector's adapter registered.

    Raises:
        MissingDependencyError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise _missing("pandas") from error
    with split.db.connect() as connection:
        register_vector(raw(connection))
        # No other is to be given vectors as this one is.
        connection.detach()
        frames = pd.read_sql(
            query("benchmarks", "vectors"),
            connection.execution_options(stream_results=True),
            params=split.parameters,
            chunksize=ROWS,
        )
        for frame in frames:
            yield np.stack([vector.to_numpy() for vector in frame["concept_vec"]])


def adbc(split: Split) -> Blocks:
    """ADBC: the column as opaque bytes in Arrow arrays, parsed by numpy.

    Raises:
        MissingDependencyError: the driver or pyarrow is not installed.
        DatabaseError: a value has not the length of a vector.
    """
    try:
        from adbc_driver_postgresql import StatementOptions, dbapi
    except ImportError as error:
        raise _missing("adbc-driver-postgresql") from error
    options = {StatementOptions.BATCH_SIZE_HINT_BYTES.value: str(ADBC_BATCH)}
    with (
        dbapi.connect(split.db.dsn) as connection,
        connection.cursor(adbc_stmt_kwargs=options) as cursor,
    ):
        cursor.execute(split.literal_statement())
        for batch in cursor.fetch_record_batch():
            column = batch.column(0).storage
            _, offsets, data = column.buffers()
            starts = np.frombuffer(offsets, dtype=np.int32)[column.offset :][: len(column) + 1]
            if np.any(np.diff(starts) != SENT.itemsize):
                raise DatabaseError("ADBC gave other values than vectors of one length")
            parsed = np.frombuffer(data, dtype=SENT, count=len(column), offset=int(starts[0]))
            yield _into(np.empty((len(column), DIMENSION), dtype=np.float32), parsed)


def connectorx(split: Split) -> Blocks:
    """ConnectorX: the column as lists of float in Arrow arrays, as a stream.

    Raises:
        MissingDependencyError: ConnectorX or pyarrow is not installed.
    """
    try:
        import connectorx as cx
        import pyarrow  # noqa: F401  (what it returns)
    except ImportError as error:
        raise _missing("connectorx") from error
    reader = cx.read_sql(
        _url(split.db.dsn), split.literal_statement(), return_type="arrow_stream", batch_size=ROWS
    )
    for batch in reader:
        yield batch.column(0).flatten().to_numpy().reshape(-1, DIMENSION)


ADAPTER = "psycopg, pgvector's adapter"

PEERS: Sequence[Peer] = (
    Peer("psycopg, text", "named cursor; split and parsed by numpy", text, passes=1),
    Peer(
        "SQLAlchemy yield_per",
        "Core, stream_results, pgvector's type: it gets text and makes lists",
        sqlalchemy_core,
        "sqlalchemy",
        passes=1,
    ),
    Peer(
        "pandas read_sql",
        "chunksize, stream_results, pgvector's adapter on text",
        pandas_frames,
        "pandas",
        passes=1,
        optional=True,
    ),
    Peer(
        "ConnectorX",
        "reads vector itself, as large_list<float>; arrow_stream",
        connectorx,
        "connectorx",
        optional=True,
    ),
    Peer(
        "ADBC",
        "reads vector as opaque bytes (by COPY); parsed by numpy",
        adbc,
        "adbc-driver-postgresql",
        optional=True,
    ),
    Peer("COPY BINARY, numpy", "the practical limit of a plain client", copy_binary),
)
"""All but the adapter, whose round trip is chosen by measurement."""


def _without_header(data: bytes) -> bytes:
    """The first message of COPY without signature, flags and extension.

    Raises:
        DatabaseError: it begins otherwise.
    """
    flags_end = len(COPY_SIGNATURE) + 4
    if not data.startswith(COPY_SIGNATURE) or len(data) < flags_end + 4:
        raise DatabaseError("COPY BINARY began without its signature")
    extension = int.from_bytes(data[flags_end : flags_end + 4], "big")
    return data[flags_end + 4 + extension :]


def _into(block: NDArray[np.float32], sent: NDArray[np.void]) -> NDArray[np.float32]:
    if np.any(sent["dimensions"] != DIMENSION):
        raise DatabaseError("a vector of another width was sent")
    block[:] = sent["vector"]
    return block


def _url(dsn: str) -> str:
    """A connection string as the URL that ConnectorX wants; a socket's folder is its host."""
    given = {
        key: quote(str(value), safe="") for key, value in conninfo.conninfo_to_dict(dsn).items()
    }
    user = given.get("user", "")
    password = f":{given['password']}" if "password" in given else ""
    port = f":{given['port']}" if "port" in given else ""
    host = given.get("host", "localhost")
    return f"postgresql://{user}{password}@{host}{port}/{given.get('dbname', '')}"


def _missing(package: str) -> MissingDependencyError:
    return MissingDependencyError(package, "bench", "this contender")
