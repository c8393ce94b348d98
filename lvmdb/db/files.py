"""Where `sql/` and `migrations/` are: inside the installed package, else in the checkout."""

from __future__ import annotations

from pathlib import Path

from lvmdb.errors import LvmdbError

_PACKAGE = Path(__file__).resolve().parent.parent


def project_folder(name: str) -> Path:
    """The folder `sql` or `migrations`.

    A wheel carries both inside the package, where they are looked for first; a checkout has
    them beside it.

    Raises:
        LvmdbError: neither is there: the installation is broken.
    """
    for folder in (_PACKAGE / name, _PACKAGE.parent / name):
        if folder.is_dir():
            return folder
    raise LvmdbError(f"the folder '{name}' of lvmdb is missing: install lvmdb again")
