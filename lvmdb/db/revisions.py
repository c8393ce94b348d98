"""The revisions of the database and of the program: whether they fit is asked by every command.

So it is asked without Alembic, which takes a fifth of a command's start to import. Migrations are
one line, each named by its number: their files say what there is.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

from lvmdb.db.engine import Database
from lvmdb.db.files import project_folder
from lvmdb.errors import RevisionError


def known() -> list[str]:
    """All revisions of this program, the oldest first."""
    files = (project_folder("migrations") / "versions").glob("[0-9]*_*.py")
    return sorted(file.name.partition("_")[0] for file in files)


def head() -> str:
    """The newest revision of this program."""
    return known()[-1]


def current_revision(connection: Connection) -> str | None:
    """The revision of the database; None where no migration has run."""
    if connection.execute(text("SELECT to_regclass('alembic_version')")).scalar() is None:
        return None
    revision: str | None = connection.execute(
        text("SELECT version_num FROM alembic_version")
    ).scalar()
    return revision


def refuse_unknown(revision: str | None) -> None:
    """Refuse the revision of a newer program.

    Raises:
        RevisionError: this program does not know it.
    """
    if revision is not None and revision not in known():
        raise RevisionError(
            f"the database is at revision {revision}, which this program does not know: "
            "upgrade lvmdb"
        )


def require_head(db: Database) -> None:
    """Refuse to work on a database at another revision than the program's.

    Raises:
        RevisionError: it is older, newer or unknown.
    """
    with db.connect() as connection:
        current = current_revision(connection)
    if current == head():
        return
    if current is None:
        raise RevisionError("the database has no lvmdb tables yet: run 'lvmdb migrate'")
    refuse_unknown(current)
    raise RevisionError(
        f"the database is at revision {current}, the program at {head()}: run 'lvmdb migrate'"
    )
