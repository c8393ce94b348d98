"""`lvmdb runs export`: what training measured, as rows, or as a folder that TensorBoard reads."""

from __future__ import annotations

import io
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

from sqlalchemy import select

from lvmdb.db.engine import Database
from lvmdb.db.schema.runs import experiment_run
from lvmdb.errors import InputError, MissingDependencyError, RunError, UnknownNameError, UsageError
from lvmdb.reports.files import replace
from lvmdb.reports.named import listing
from lvmdb.reports.render import render

_EVENTS = "events.out.tfevents."
"""How TensorBoard's files begin."""


def chosen(db: Database, run_ids: Sequence[int], everything: bool) -> list[int]:
    """The runs that are to be exported.

    Raises:
        UsageError: none are named, or some and all.
        UnknownNameError: one of them is not there.
        RunError: there are none.
    """
    if bool(run_ids) == everything:
        raise UsageError("runs export takes run ids, or --all")
    with db.connect() as connection:
        known = list(connection.execute(select(experiment_run.c.run_id)).scalars())
    if everything:
        if not known:
            raise RunError("there are no runs to export")
        return sorted(known)
    for run_id in run_ids:
        if run_id not in known:
            raise UnknownNameError("run", run_id, hint="'lvmdb runs list' shows those that exist")
    return sorted(set(run_ids))


def export_rows(db: Database, run_ids: Sequence[int], output_format: str, path: Path | None) -> int:
    """Print every number, or write them to a file that appears only when it is whole.

    Args:
        db: the database.
        run_ids: which runs.
        output_format: csv or json.
        path: of the file; None for standard output.

    Returns:
        How many numbers there are.

    Raises:
        InputError: the file cannot be written.
    """
    columns, rows = listing(db, "metrics", "of_runs", {"run_ids": list(run_ids)})
    out = io.StringIO()
    render(columns, rows, output_format, sys.stdout if path is None else out)
    if path is not None:
        replace(path, out.getvalue().encode())
    return len(rows)


def export_events(
    db: Database, run_ids: Sequence[int], folder: Path, *, overwrite: bool = False
) -> int:
    """Write a folder for TensorBoard, with a folder for each run in it.

    A number's tag is `split/name`, its step the batch, its time that at which it was recorded. What
    the run is, options included, is the text `run`. The format holds values in single precision.
    The folder appears only when it is whole.

    Args:
        db: the database.
        run_ids: which runs.
        folder: not there yet, or empty.
        overwrite: one that holds nothing but an earlier export is replaced.

    Returns:
        How many numbers were written.

    Raises:
        MissingDependencyError: tensorboardX is not installed.
        InputError: the folder is there already, or cannot be written.
    """
    folder = folder.absolute()
    _refuse(folder, overwrite)
    writer = _writer()
    parameters = {"run_ids": list(run_ids)}
    _, found = listing(db, "metrics", "runs", parameters)
    _, metrics = listing(db, "metrics", "of_runs", parameters)
    by_run = {run: list(rows) for run, rows in groupby(metrics, key=lambda row: row["run"])}
    with _whole(folder) as draft:
        for run in found:
            writer(draft / _name(run), run, by_run.get(run["run"], []))
    return len(metrics)


def _name(run: Mapping[str, Any]) -> str:
    """A run's folder: TensorBoard shows it as the run's name."""
    return re.sub(r"[^\w.-]", "_", f"run-{run['run']:04}-{run['architecture']}-seed{run['seed']}")


def _writer() -> Any:
    """A function that writes one run's folder."""
    try:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar, text
    except ImportError as error:
        raise MissingDependencyError(
            "tensorboardX", "tensorboard", "writing TensorBoard's files"
        ) from error

    def write(folder: Path, run: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]]) -> None:
        folder.mkdir()
        # Not its SummaryWriter, which writes in another thread and keeps what goes wrong there.
        with closing(EventsWriter(str(folder / "events"))) as events:
            began = run["created_at"].timestamp()
            told = text("run", _described(run))
            events.write_event(Event(wall_time=began, step=0, summary=told))
            for row in metrics:
                event = Event(
                    wall_time=row["recorded_at"].timestamp(),
                    step=row["step"],
                    summary=scalar(f"{row['split']}/{row['name']}", row["value"]),
                )
                events.write_event(event)

    return write


def _described(run: Mapping[str, Any]) -> str:
    """What a run is, as a table in Markdown."""
    facts = {name: value for name, value in run.items() if name != "hyperparameters"}
    lines = ["| | |", "|---|---|"]
    for name, value in {**facts, **run["hyperparameters"]}.items():
        if value not in (None, ""):
            told = " ".join(str(value).split()).replace("|", r"\|")
            lines.append(f"| {name} | {told} |")
    return "\n".join(lines)


def _refuse(folder: Path, overwrite: bool) -> None:
    """Refuse a place where something is that must not go."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"{folder} is there and is not a folder")
    entries = sorted(folder.iterdir())
    if entries and not overwrite:
        raise InputError(f"{folder} is there and is not empty: name another, or give --overwrite")
    for entry in entries:
        inside = list(entry.iterdir()) if entry.is_dir() and not entry.is_symlink() else []
        if not inside or any(not file.name.startswith(_EVENTS) for file in inside):
            raise InputError(
                f"{folder} holds '{entry.name}', which is of no export: name another folder"
            )


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A folder beside the place, which takes it in the end; a failure leaves what was there."""
    try:
        draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror or error}") from error
    old = draft / "old"
    new = draft / "new"
    try:
        new.mkdir()
        yield new
        _sync(new)
        if folder.exists():
            folder.rename(old)
        try:
            new.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _sync(folder: Path) -> None:
    """See that all files are on the disk before they take their place."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
