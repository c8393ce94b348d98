"""What `lvmdb db status` shows of a database."""

from __future__ import annotations

from sqlalchemy import text

from lvmdb.db.engine import Database
from lvmdb.db.queries import query
from lvmdb.db.revisions import current_revision, head

SETTINGS = (
    "shared_buffers",
    "work_mem",
    "maintenance_work_mem",
    "max_wal_size",
    "jit",
    "fsync",
    "synchronous_commit",
)


def database_status(db: Database) -> list[dict[str, object]]:
    """Items and values: versions, revision, sizes, counts, settings."""
    with db.connect() as connection:
        rows: list[dict[str, object]] = [{"item": "connection", "value": db.shown}]
        version = connection.execute(text("SHOW server_version")).scalar_one()
        rows.append({"item": "PostgreSQL", "value": version})
        vector = connection.execute(
            text("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
        ).scalar_one_or_none()
        rows.append({"item": "pgvector", "value": vector or "not installed in this database"})
        revision = current_revision(connection)
        advice = "" if revision == head() else f" (the program is at {head()}: 'lvmdb migrate')"
        rows.append({"item": "revision", "value": f"{revision or 'none'}{advice}"})
        size = connection.execute(
            text("SELECT pg_size_pretty(pg_database_size(current_database()))")
        ).scalar_one()
        rows.append({"item": "size", "value": size})
        if revision == head():
            tables = connection.execute(query("checks", "table_sizes"))
            rows += [{"item": f"table {t.name}", "value": t.described} for t in tables]
        for name in SETTINGS:
            value = connection.execute(
                text("SELECT current_setting(:name)"), {"name": name}
            ).scalar_one()
            rows.append({"item": name, "value": value})
    return rows
