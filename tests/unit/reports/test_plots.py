"""The learning-curve picture: its size, what is on it, and that it appears whole or not at all."""

from __future__ import annotations

import builtins
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from lvmdb.errors import InputError, MissingDependencyError, RunError, UsageError
from lvmdb.reports import plots
from lvmdb.reports.plots import learning_curves

BLUE, VERMILION = (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)


def rows(run_id: int, architecture: str, epochs: int = 8) -> list[dict[str, object]]:
    return [
        {
            "run_id": run_id,
            "architecture": architecture,
            "split": split,
            "epoch": epoch,
            "value": start + math.exp(-epoch / 3) + run_id / 10,
        }
        for epoch in range(1, epochs + 1)
        for split, start in (("train", 0.7), ("validation", 0.8))
    ]


def pixels(path: Path) -> npt.NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def count(path: Path, colour: tuple[int, int, int]) -> int:
    return int((np.abs(pixels(path).astype(int) - colour) <= 2).all(axis=2).sum())


def test_size_and_a_line_for_each_run(tmp_path: Path) -> None:
    path = tmp_path / "new" / "curve.png"
    learning_curves(rows(1, "lstm") + rows(2, "mamba2"), path)
    assert pixels(path).shape == (700, 1200, 3)
    # A line of 2 pixels across most of 1200.
    assert count(path, BLUE) > 500
    assert count(path, VERMILION) > 500
    assert [p.name for p in path.parent.iterdir()] == ["curve.png"]


def test_the_reference_is_drawn(tmp_path: Path) -> None:
    without, with_it = tmp_path / "a.png", tmp_path / "b.png"
    learning_curves(rows(1, "lstm"), without)
    learning_curves(rows(1, "lstm"), with_it, reference=0.95, reference_label="best baseline")
    assert (pixels(without) != pixels(with_it)).any()


def test_the_same_rows_in_any_order_give_the_same_picture(tmp_path: Path) -> None:
    first, second = tmp_path / "a.png", tmp_path / "b.png"
    learning_curves(rows(1, "lstm"), first)
    learning_curves(rows(1, "lstm")[::-1], second)
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("epochs", [1, 2, 100])
def test_short_and_long_runs(tmp_path: Path, epochs: int) -> None:
    path = tmp_path / "curve.png"
    learning_curves(rows(1, "lstm", epochs), path)
    assert count(path, BLUE) > 20


def test_many_runs(tmp_path: Path) -> None:
    path = tmp_path / "curve.png"
    learning_curves([r for i in range(30) for r in rows(i, "lstm")], path, reference=1.0)
    assert pixels(path).shape == (700, 1200, 3)


def test_diverged_and_missing_values_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "curve.png"
    bad: list[dict[str, object]] = [
        {"run_id": 1, "architecture": "lstm", "split": "train", "epoch": 9, "value": value}
        for value in (math.nan, math.inf, None, 1e6)
    ]
    learning_curves(rows(1, "lstm") + bad, path)
    assert count(path, BLUE) > 100


def test_best_epoch_and_label() -> None:
    train = [(1.0, 0.5)]
    alone = plots._Curve(7, "gru", {"train": train, "validation": []})
    assert alone.best is None
    assert alone.label == "gru · run 7"
    validation = [(1.0, 0.9), (2.0, 0.8), (3.0, 0.8), (4.0, 0.85)]
    curve = plots._Curve(7, "gru", {"train": train, "validation": validation})
    assert curve.best == (2.0, 0.8)
    assert curve.end == (4.0, 0.85)
    assert curve.label == "gru · run 7\nbest 0.8000 at epoch 2"


def test_labels_are_spread_in_order_and_stay_inside() -> None:
    assert plots._spread([50.0, 20.0], 10, 0, 100) == [50.0, 20.0]
    # 52, 50 and 51 are too near: 50 stays, the others move up.
    assert plots._spread([52.0, 50.0, 51.0], 10, 0, 100) == [70.0, 50.0, 60.0]
    # At the top they are pushed down again: half a gap below 100.
    assert plots._spread([99.0, 98.0, 97.0], 10, 0, 100) == [95.0, 85.0, 75.0]
    assert plots._spread([-5.0, 1.0], 10, 0, 100) == [5.0, 15.0]


@pytest.mark.parametrize("nothing", [[], [{**rows(1, "lstm")[0], "value": math.nan}]])
def test_nothing_to_draw_says_what_to_do(tmp_path: Path, nothing: list[dict[str, object]]) -> None:
    with pytest.raises(RunError, match="train a run first"):
        learning_curves(nothing, tmp_path / "curve.png")
    assert not list(tmp_path.iterdir())


def test_another_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not 'test'"):
        learning_curves([{**rows(1, "lstm")[0], "split": "test"}], tmp_path / "curve.png")


def test_a_failed_write_leaves_the_old_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "curve.png"
    path.write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match=r"cannot write .*curve\.png: No space left on device"):
        learning_curves(rows(1, "lstm"), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        learning_curves(rows(1, "lstm"), tmp_path / "file" / "curve.png")


def test_without_matplotlib_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ModuleNotFoundError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependencyError, match=r"pip install 'lvmdb\[plots\]'"):
        learning_curves(rows(1, "lstm"), tmp_path / "curve.png")
