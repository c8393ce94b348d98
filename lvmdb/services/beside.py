"""What stands beside predictions on a page: runs to pick from, what they are worth, and curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from lvmdb.db.aliases import DEFAULT
from lvmdb.db.engine import Database
from lvmdb.evaluation.inference import Inference
from lvmdb.reports.named import listing, run_report
from lvmdb.reports.pictures import picture
from lvmdb.services.lvm_state import Lvm
from lvmdb.services.page_asked import Form
from lvmdb.services.problems import ProblemError
from lvmdb.services.recent import Recent

MOST_RUNS = 200
"""Runs that can be picked from a list."""

LISTED, DRAWN = 10.0, 60.0
"""Seconds for which lists and pictures are kept."""

PICTURED = ("learning_curve", "leaderboard")

NO_PLOTS = "Pictures need the extra plots: pip install 'lvmdb[plots]'."

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Worth:
    """What is known of a run.

    Attributes:
        leaderboard: it and others of its set, best first.
        curve: what its learning curve shows, in words; None where it has none.
    """

    leaderboard: Sequence[Row]
    curve: str | None


class Beside:
    """Lists and pictures, kept for a moment.

    Args:
        lvm: the service.
    """

    def __init__(self, lvm: Lvm) -> None:
        self._lvm, self._db = lvm, lvm.context.database
        self._runs: Recent[Sequence[Row]] = Recent(lvm.context.work, LISTED, 1)
        self._worth: Recent[Worth] = Recent(lvm.context.work, LISTED)
        self._pictures: Recent[bytes] = Recent(lvm.context.work, DRAWN)

    @property
    def no_pictures(self) -> str | None:
        """Why there are none; None where there are."""
        return None if find_spec("matplotlib") is not None else NO_PLOTS

    async def runs(self) -> Sequence[Row]:
        """Runs that have succeeded, those that are promoted first."""
        return await self._runs.get("runs", lambda: _rows(self._db, "runs_to_pick", {}, MOST_RUNS))

    async def model(self, form: Form) -> Inference:
        """The run that was picked; else the one that is promoted; else the newest.

        Raises:
            UnknownNameError: there is none of that name or number.
            ProblemError: 404, there is none at all; 409, it cannot be used; 503.
        """
        name = form.model
        if name is None:
            runs = await self.runs()
            if not runs:
                raise ProblemError(
                    404, "not_found", "no run has succeeded yet: 'lvmdb train' makes one"
                )
            promoted = any(DEFAULT in run["names"] for run in runs)
            name = DEFAULT if promoted else int(runs[0]["run_id"])
        return await self._lvm.models.get(name)

    async def worth(self, run_id: int, most: int) -> Worth:
        """What a run is worth, beside at most so many of its set."""
        return await self._worth.get((run_id, most), lambda: _worth(self._db, run_id, most))

    async def picture(self, name: str, run_id: int | None) -> bytes:
        """A report's picture as a PNG.

        Raises:
            RunError: there is nothing to draw.
            MissingDependencyError: matplotlib is not installed.
        """
        if name not in PICTURED:
            raise ProblemError(404, "not_found", "there is no such picture")
        return await self._pictures.get(
            (name, run_id), lambda: picture(self._db, run_report(self._db, name, run_id=run_id))
        )


def _rows(db: Database, name: str, asked: dict[str, object], most: int) -> Sequence[Row]:
    return listing(db, "page", name, {**asked, "most": most})[1]


def _worth(db: Database, run_id: int, most: int) -> Worth:
    rows = run_report(db, "learning_curve", run_id=run_id).rows
    losses = [row for row in rows if row["name"] == "loss"]
    curve = None
    if losses:
        curve = f"Learning curve of run {run_id}: loss by epoch"
        held_out = [row for row in losses if row["split"] == "val"]
        if held_out:
            best = min(held_out, key=lambda row: row["value"])
            curve += f"; the best of validation is {best['value']:.4g}, in epoch {best['epoch']}"
    return Worth(_rows(db, "leaderboard_beside", {"run_id": run_id}, most), curve)
