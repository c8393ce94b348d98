"""A report's answer on standard output or in a file: rows, a page, or a picture."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from lvmdb.db.engine import Database
from lvmdb.errors import InputError, MissingDependencyError, RunError
from lvmdb.reports.named import Report
from lvmdb.reports.page import page
from lvmdb.reports.pictures import PICTURES, learning_picture, picture
from lvmdb.reports.plots import cut
from lvmdb.reports.render import Rows, render

_TEXTS, _CUT = ("context", "truth", "nearest"), 100
"""Of predictions, and how many of their characters a table shows."""


def write(db: Database, answer: Report, output_format: str, path: Path | None) -> None:
    """Print an answer, or write it to a file that appears only when it is whole.

    Args:
        db: where a picture's numbers come from.
        answer: the report's.
        output_format: one of `render.FORMATS`, `html`, or `png`: that needs a path and a report
            that has a picture.
        path: of the file; None for standard output.

    Raises:
        MissingDependencyError: a picture is wanted, and matplotlib is not installed.
        InputError: the file cannot be written.
        RunError: there is nothing to draw.
    """
    if output_format == "png":
        assert path is not None
        replace(path, picture(db, answer))
        return
    if output_format == "html":
        text = _page(db, answer)
    else:
        out = io.StringIO()
        rows = answer.rows
        if answer.name == "predictions" and output_format == "table":
            rows = [_shortened(row) for row in rows]
        render(answer.columns, rows, output_format, sys.stdout if path is None else out)
        text = out.getvalue()
    if path is not None:
        replace(path, text.encode())
    elif output_format == "html":
        encoding = sys.stdout.encoding or "utf-8"
        # The page says that it is UTF-8: in another encoding, only ASCII is read alike.
        plain = text if encoding.lower() in ("utf-8", "utf8") else _ascii(text)
        sys.stdout.write(plain)


def draw_learning_curves(db: Database, path: Path, rows: Rows) -> None:
    """Write the learning curves' picture.

    Args:
        db: the database.
        path: of the picture.
        rows: of the report `learning_curve`.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        InputError: the file cannot be written.
        RunError: no model has finished an epoch.
    """
    replace(path, learning_picture(db, rows))


def replace(path: Path, data: bytes) -> None:
    """Write beside the file, then rename: a reader sees the old one or the new one, whole.

    Raises:
        InputError: the file cannot be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        draft.unlink(missing_ok=True)


def _page(db: Database, answer: Report) -> str:
    if answer.name not in PICTURES:
        return page(answer)
    try:
        return page(answer, picture(db, answer))
    except MissingDependencyError as error:
        return page(answer, note=f"No picture: {error}")
    except RunError:  # nothing to draw, which the rows say as well
        return page(answer)


def _ascii(text: str) -> str:
    return text.encode("ascii", "xmlcharrefreplace").decode("ascii")


def _shortened(row: Mapping[str, object]) -> dict[str, object]:
    """Texts cut to what a table can hold: of the context the end, of others the beginning."""
    texts = {name: " ".join(str(row[name] or "").split()) for name in _TEXTS}
    end = texts["context"][1 - _CUT :]
    short = {name: cut(text, _CUT) for name, text in texts.items()}
    if len(texts["context"]) > _CUT:
        short["context"] = f"…{end}"
    return {**row, **short}
