"""A report's answer on standard output, in a file, or as a picture."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

from lvmdb.db.engine import Database
from lvmdb.errors import InputError, RunError
from lvmdb.reports.named import Report, run_report
from lvmdb.reports.plots import learning_curves
from lvmdb.reports.render import render

SPLIT_NAMES = {"val": "validation"}


def write(db: Database, answer: Report, output_format: str, path: Path | None) -> None:
    """Print an answer, or write it to a file that appears only when it is whole.

    Raises:
        InputError: the file cannot be written.
        RunError: there is nothing to draw.
    """
    if output_format == "png":
        assert path is not None
        draw_learning_curves(db, path, answer)
        return
    if path is None:
        render(answer.columns, answer.rows, output_format, sys.stdout)
        return
    out = io.StringIO()
    render(answer.columns, answer.rows, output_format, out)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(out.getvalue(), encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
    finally:
        draft.unlink(missing_ok=True)


def draw_learning_curves(db: Database, path: Path, answer: Report | None = None) -> None:
    """The cosine of every model's epochs, with the best baseline as a line.

    Raises:
        RunError: no model has finished an epoch.
    """
    answer = answer or run_report(db, "learning_curve")
    rows = [
        {**row, "split": SPLIT_NAMES.get(row["split"], row["split"])}
        for row in answer.rows
        if row["name"] == "loss"
    ]
    if not rows:
        raise RunError("no model has finished an epoch yet: there is no curve to draw")
    learning_curves(rows, path)
