"""Vectors as the server holds them: read without being converted, where the server allows it.

pgvector's `vector_send` turns every number to network order, which is the larger part of what it
costs a server to send a vector. A cast to bytea that calls no function gives the bytes as they lie
on the page: two of dimensions, two unused, then float32, in the server's byte order. That layout
is on disk, so no release of pgvector can change it without rewriting every table. Only a superuser
may create such a cast; without it vectors are read in the portable form.

The cast joins the extension `vector`, so that a dump does not hold it and anyone can restore it.
"""

from __future__ import annotations

from typing import Any

import psycopg
from sqlalchemy import Connection

from lvmdb.db.queries import psycopg_sql, query


def allow(connection: Connection) -> None:
    """Create the cast, if this user may and it is not there."""
    connection.execute(query("corpus", "allow_native_vectors"))


def allowed(connection: psycopg.Connection[Any]) -> bool:
    """Whether the cast is there."""
    row = connection.execute(psycopg_sql("corpus", "native_vectors_allowed")).fetchone()
    return bool(row and row[0])
