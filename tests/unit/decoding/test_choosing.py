"""Bands, thresholds, and the decoder that chooses between two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lvmdb.corpus.articles import Vectors
from lvmdb.decoding.auto import AutoDecoder
from lvmdb.decoding.calibration import Calibrated, _Judged, chosen, sweep
from lvmdb.decoding.decoded import Decoded, band
from lvmdb.decoding.inverting import InvertingDecoder
from lvmdb.decoding.vec2text import Inverted
from lvmdb.errors import EncoderError, EndpointAwayError, EndpointError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@pytest.mark.parametrize(
    ("cosine", "name"),
    [
        *((1.0, "certain"), (0.95, "certain"), (0.949, "likely"), (0.85, "likely")),
        *((0.849, "possible"), (0.75, "possible"), (0.749, "unsure"), (float("nan"), "unsure")),
    ],
)
def test_bands(cosine: float, name: str) -> None:
    assert band(cosine) == name


class Found:
    """Says of each vector how near its nearest concept is: the vector's first number."""

    def decode(self, vectors: Vectors, *, without: Any = None) -> list[Decoded]:
        return [
            Decoded("found", "nearest", float(each[0]), "b", (), {"search": 1.0, "decode": 1.0})
            for each in vectors
        ]


def inverted(vectors: Vectors) -> list[Inverted]:
    return [Inverted(f"written for {each[0]:.1f}", 0.97, each) for each in vectors]


def at(*cosines: float) -> Vectors:
    return np.array([[each, *[0.0] * 767] for each in cosines], dtype=np.float32)


def test_what_is_near_is_found_and_the_rest_is_written() -> None:
    auto = AutoDecoder(Found(), InvertingDecoder(inverted), 0.75)
    found = auto.decode(at(0.75, 0.5, 0.9, np.nan))
    texts = ["found", "written for 0.5", "found", "written for nan"]
    assert [each.text for each in found] == texts
    assert [each.method for each in found] == ["nearest", "vec2text", "nearest", "vec2text"]
    assert [each.why for each in found] == [None] * 4
    assert (found[1].cosine, found[1].band) == (0.97, "certain")
    assert found[1].vector is not None
    # What the search took is part of what the text took.
    assert found[1].seconds["search"] == 1.0
    assert found[1].seconds["decode"] > 1.0


def test_what_is_missing_is_said() -> None:
    found = AutoDecoder(Found(), None, 0.75).decode(at(0.8, 0.5))
    assert [each.why for each in found] == [None, "below 0.75, and there is no vec2text"]
    assert [each.text for each in found] == ["found", "found"]
    found = AutoDecoder(Found(), InvertingDecoder(inverted), None).decode(at(0.8, 0.5))
    assert [each.why for each in found] == ["no threshold is calibrated"] * 2


@pytest.mark.parametrize(
    ("error", "tries"),
    [(EncoderError("not mine"), 1), (EndpointAwayError("gone"), 1), (EndpointError("late"), 2)],
)
def test_a_service_that_fails_is_said_and_asked_again_where_that_may_help(
    error: Exception, tries: int
) -> None:
    asked = []

    def fail(vectors: Vectors) -> list[Inverted]:
        asked.append(len(vectors))
        raise error

    auto = AutoDecoder(Found(), InvertingDecoder(fail), 0.75)
    for _ in range(2):
        (found,) = auto.decode(at(0.5))
        assert (found.text, found.why) == ("found", f"below 0.75, and no vec2text: {error}")
    assert asked == [1] * tries


def judged(cosines: Floats, right: Callable[[Floats], Bools]) -> _Judged:
    return _Judged(cosines, right(cosines), right(cosines), (0.001, 0.002))


def test_a_sweep_counts_hits_and_goes_on_until_there_are_enough() -> None:
    cosines = np.linspace(0.5, 0.9, 401)
    rows = sweep("predictions", judged(cosines, lambda c: c >= 0.8), 0.05)
    thresholds = [row.threshold for row in rows]
    # Down to .75 as always, and on to where more than 70 % are hits.
    assert thresholds == pytest.approx([0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6])
    by = {round(row.threshold, 2): row for row in rows}
    assert (by[0.95].hits, by[0.95].accuracy) == (0, None)
    assert by[0.8].hits == pytest.approx(101, abs=1)
    assert by[0.8].accuracy == 1.0
    assert by[0.6].hit_rate == pytest.approx(0.75, abs=0.01)
    assert by[0.6].accuracy == pytest.approx(1 / 3, abs=0.01)
    assert (by[0.6].latency_p50, by[0.6].latency_p95) == (0.001, 0.002)
    best = chosen(rows, "predictions")
    assert [row.threshold for row in best if row.chosen] == pytest.approx([0.6])
    assert [replace(row, chosen=False) for row in best] == rows
    # Where nothing is far, it ends at .75; where nothing is near, it ends.
    assert len(sweep("truths", judged(np.ones(9), lambda c: c > 0), 0.05)) == 5
    assert sweep("truths", judged(-np.ones(9), lambda c: c > 0), 0.05)[-1].hits == 0


def test_the_best_accuracy_is_chosen_then_the_article_then_the_most_hits() -> None:
    def row(threshold: float, hits: int, accuracy: float | None, same: float) -> Calibrated:
        return Calibrated("predictions", threshold, 100, hits, accuracy, same, 0.1, 0.1)

    def best(*rows: Calibrated, kind: str = "predictions") -> list[float]:
        return [each.threshold for each in chosen(rows, kind) if each.chosen]

    # 70 % is not above 70 %.
    rows = [row(0.9, 70, 1.0, 1.0), row(0.8, 71, 0.5, 0.6), row(0.7, 90, 0.4, 0.9)]
    assert best(*rows) == [0.8]
    assert best(*rows[:1]) == []
    assert best(*rows, kind="truths") == []
    assert best(row(0.8, 80, 0.5, 0.6), row(0.7, 90, 0.5, 0.7)) == [0.7]
    assert best(row(0.8, 80, None, 0.6), row(0.7, 90, None, 0.6)) == [0.7]
