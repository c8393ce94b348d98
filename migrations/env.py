"""Alembic's environment: how `lvmdb migrate` reaches the database.

One migration runs at a time (an advisory lock), none waits for ever for a lock that others hold,
and none runs for ever.
"""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, text

from lvmdb.db.migrate import LOCK_KEY, LOCK_TIMEOUT, STATEMENT_TIMEOUT, include_object
from lvmdb.db.schema.tables import metadata


def run_online(connection: Connection) -> None:
    """Migrate through the connection that the caller opened."""
    connection.execute(text("SELECT set_config('lock_timeout', :t, false)"), {"t": LOCK_TIMEOUT})
    connection.execute(
        text("SELECT set_config('statement_timeout', :t, false)"), {"t": STATEMENT_TIMEOUT}
    )
    connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": LOCK_KEY})
    connection.commit()
    try:
        context.configure(
            connection=connection,
            target_metadata=metadata,
            include_object=include_object,
            transaction_per_migration=True,
        )
        with context.begin_transaction():
            context.run_migrations()
    finally:
        connection.rollback()
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": LOCK_KEY})
        connection.execute(text("RESET lock_timeout"))
        connection.execute(text("RESET statement_timeout"))
        connection.commit()


def run_offline() -> None:
    """Write the SQL instead of executing it."""
    context.configure(
        dialect_name="postgresql",
        # The default style of parameters would double every percent sign.
        dialect_opts={"paramstyle": "named"},
        target_metadata=metadata,
        literal_binds=True,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    run_offline()
else:
    run_online(context.config.attributes["connection"])
