"""Migrations: to head or to a revision, as SQL, and the check that nothing drifted."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from lvmdb.db import native
from lvmdb.db.engine import Database
from lvmdb.db.files import project_folder
from lvmdb.db.revisions import current_revision, known, refuse_unknown, require_head
from lvmdb.db.schema.tables import metadata
from lvmdb.errors import UnknownNameError

LOCK_KEY = 0x6C766D6462
"""Key of the advisory lock under which migrations run: "lvmdb" in ASCII."""

LOCK_TIMEOUT = "30s"
STATEMENT_TIMEOUT = "30min"

RUNTIME_TABLES = ("cpe_entry_", "procrastinate_")
"""Prefixes of tables that are made at run time: subsets of concepts, the queue's own."""


def include_object(
    item: Any, name: str | None, kind: str, reflected: bool, compare_to: Any
) -> bool:
    """Whether a difference in this object is drift: what is made at run time is none."""
    if kind == "table":
        return not (reflected and compare_to is None and (name or "").startswith(RUNTIME_TABLES))
    if kind == "index" and reflected and compare_to is None:
        # Indexes on vectors are built after loading, by `lvmdb index build`.
        return item.dialect_options["postgresql"].get("using") not in ("hnsw", "ivfflat")
    return True


def upgrade(db: Database, revision: str = "head") -> tuple[str | None, str | None]:
    """Migrate to `revision`, up or down; returns the revision before and after.

    Raises:
        UnknownNameError: there is no such revision.
        RevisionError: the database is at a revision that this program does not know.
    """
    script = ScriptDirectory.from_config(_config())
    target = _resolve(script, revision)
    with db.connect() as connection:
        before = current_revision(connection)
        connection.rollback()
        refuse_unknown(before)
        config = _config()
        config.attributes["connection"] = connection
        if _is_below(script, target, before):
            command.downgrade(config, target or "base")
        elif target is not None:
            command.upgrade(config, target)
        connection.rollback()
        native.allow(connection)
        connection.commit()
        return before, current_revision(connection)


def goes_down(db: Database, revision: str) -> bool:
    """Whether migrating to `revision` would drop something.

    Raises:
        UnknownNameError: there is no such revision.
    """
    script = ScriptDirectory.from_config(_config())
    target = _resolve(script, revision)
    with db.connect() as connection:
        current = current_revision(connection)
    refuse_unknown(current)
    return _is_below(script, target, current)


def upgrade_sql(revision: str = "head") -> str:
    """The SQL of all migrations up to `revision`."""
    script = ScriptDirectory.from_config(_config())
    target = _resolve(script, revision)
    out = io.StringIO()
    config = _config(output=out)
    command.upgrade(config, target or "base", sql=True)
    return out.getvalue()


def drift(db: Database) -> list[str]:
    """How the database differs from the tables of this program, one line each.

    Raises:
        RevisionError: the database is not at head, so that a comparison says nothing.
    """
    require_head(db)
    with db.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "include_object": include_object,
                "compare_type": True,
                "compare_server_default": False,
            },
        )
        return [_describe(difference) for difference in _flat(compare_metadata(context, metadata))]


def _config(output: io.StringIO | None = None) -> Config:
    config = Config(output_buffer=output) if output else Config()
    folder = str(project_folder("migrations"))
    config.set_main_option("script_location", folder.replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    return config


def _resolve(script: ScriptDirectory, revision: str) -> str | None:
    if revision == "base":
        return None
    if revision == "head":
        return script.get_current_head()
    if revision not in known():
        raise UnknownNameError("revision", revision, ["head", "base", *known()])
    return revision


def _is_below(script: ScriptDirectory, target: str | None, current: str | None) -> bool:
    if current is None or target == current:
        return False
    below = {s.revision for s in script.iterate_revisions(current, "base")}
    return target is None or target in below


def _flat(differences: list[Any]) -> Iterator[tuple[Any, ...]]:
    for difference in differences:
        if isinstance(difference, list):
            yield from difference
        else:
            yield difference


def _describe(difference: tuple[Any, ...]) -> str:
    kind, *rest = difference
    names = [str(getattr(part, "name", part)) for part in rest if part is not None]
    return f"{kind}: {' '.join(names)}"
