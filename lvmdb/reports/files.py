"""A report's answer on standard output, in a file, or as a picture."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

from lvmdb.db.engine import Database
from lvmdb.db.queries import query
from lvmdb.errors import InputError, RunError
from lvmdb.reports.named import Report
from lvmdb.reports.plots import learning_curves
from lvmdb.reports.render import Rows, render

SPLIT_NAMES = {"val": "validation"}


def write(db: Database, answer: Report, output_format: str, path: Path | None) -> None:
    """Print an answer, or write it to a file that appears only when it is whole.

    Raises:
        InputError: the file cannot be written.
        RunError: there is nothing to draw.
    """
    if output_format == "png":
        assert path is not None
        draw_learning_curves(db, path, answer.rows)
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


def draw_learning_curves(db: Database, path: Path, rows: Rows) -> None:
    """Train and validation loss of every epoch, the best baseline's as a line where it compares.

    Args:
        db: the database.
        path: of the picture.
        rows: of the report `learning_curve`.

    Raises:
        RunError: no model has finished an epoch.
    """
    drawn = [
        {**row, "split": SPLIT_NAMES.get(str(row["split"]), row["split"])}
        for row in rows
        if row["name"] == "loss"
    ]
    if not drawn:
        raise RunError("no model has finished an epoch yet: there is no curve to draw")
    run_ids = sorted({row["run_id"] for row in rows}, key=str)
    with db.connect() as connection:
        best = connection.execute(
            query("runs", "best_baseline_loss"), {"run_ids": run_ids}
        ).one_or_none()
    learning_curves(
        drawn,
        path,
        reference=None if best is None else float(best.value),
        reference_label=None if best is None else f"best baseline: {best.architecture}",
    )
