"""The picture of the learning curves: its size, and what is on it."""

from __future__ import annotations

import io
import math

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from lvmdb.errors import RunError, UsageError
from lvmdb.reports import learning
from lvmdb.reports.learning import learning_curves

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


def pixels(picture: bytes) -> npt.NDArray[np.uint8]:
    with Image.open(io.BytesIO(picture)) as image:
        return np.asarray(image.convert("RGB"))


def count(picture: bytes, colour: tuple[int, int, int]) -> int:
    return int((np.abs(pixels(picture).astype(int) - colour) <= 2).all(axis=2).sum())


def test_size_and_a_line_for_each_run() -> None:
    picture = learning_curves(rows(1, "lstm") + rows(2, "mamba2"))
    assert pixels(picture).shape == (700, 1200, 3)
    # A line of 2 pixels across most of 1200.
    assert count(picture, BLUE) > 500
    assert count(picture, VERMILION) > 500


def test_the_reference_is_drawn() -> None:
    without = learning_curves(rows(1, "lstm"))
    with_it = learning_curves(rows(1, "lstm"), reference=0.95, reference_label="best baseline")
    assert (pixels(without) != pixels(with_it)).any()


def test_the_same_rows_in_any_order_give_the_same_picture() -> None:
    assert learning_curves(rows(1, "lstm")) == learning_curves(rows(1, "lstm")[::-1])


@pytest.mark.parametrize("epochs", [1, 2, 100])
def test_short_and_long_runs(epochs: int) -> None:
    assert count(learning_curves(rows(1, "lstm", epochs)), BLUE) > 20


def test_many_runs_with_long_names() -> None:
    many = [r for i in range(30) for r in rows(i, "an-architecture-of-a-very-long-name")]
    picture = pixels(learning_curves(many, reference=1.0))
    assert picture.shape == (700, 1200, 3)
    # The names end before the picture does.
    assert (picture[:, -5:] == 255).all()


def test_diverged_and_missing_values_are_left_out() -> None:
    bad: list[dict[str, object]] = [
        {"run_id": 1, "architecture": "lstm", "split": "train", "epoch": 9, "value": value}
        for value in (math.nan, math.inf, None, 1e6)
    ]
    assert count(learning_curves(rows(1, "lstm") + bad), BLUE) > 100


def test_best_epoch_and_label() -> None:
    train = [(1.0, 0.5)]
    alone = learning._Curve(7, "gru", {"train": train, "validation": []})
    assert alone.best is None
    assert alone.label == alone.short_label == "gru · run 7"
    validation = [(1.0, 0.9), (2.0, 0.8), (3.0, 0.8), (4.0, 0.85)]
    curve = learning._Curve(7, "gru", {"train": train, "validation": validation})
    assert curve.best == (2.0, 0.8)
    assert curve.end == (4.0, 0.85)
    assert curve.label == "gru · run 7\nbest 0.8000 at epoch 2"
    assert curve.short_label == "gru · run 7: 0.8000"


@pytest.mark.parametrize("nothing", [[], [{**rows(1, "lstm")[0], "value": math.nan}]])
def test_nothing_to_draw_says_what_to_do(nothing: list[dict[str, object]]) -> None:
    with pytest.raises(RunError, match="train a run first"):
        learning_curves(nothing)


def test_another_split_is_refused() -> None:
    with pytest.raises(UsageError, match="not 'test'"):
        learning_curves([{**rows(1, "lstm")[0], "split": "test"}])
