"""The picture of a vecRAG benchmark, and the measures in it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lvmdb.errors import RunError
from lvmdb.evaluation.vecrag_rows import measures, vecrag_rows
from lvmdb.reports.vecrag import dots


def test_measures_by_hand() -> None:
    relevant = np.zeros((3, 10), dtype=bool)
    relevant[0, [0, 4, 9]] = True
    relevant[1, 3] = True
    found = measures(relevant)
    assert found["P@1"].tolist() == [1, 0, 0]
    assert found["P@5"].tolist() == [2 / 5, 1 / 5, 0]
    assert found["MRR@10"].tolist() == [1, 1 / 4, 0]


def rows() -> list[dict[str, Any]]:
    """Ten articles of two queries: the prediction is right wherever the plain vector is, and once
    more in each article."""
    plain = np.zeros((20, 10), dtype=bool)
    plain[::4, 0] = True
    predicted = plain.copy()
    predicted[1::2, 0] = True
    relevant = {
        (name, notion): found
        for name, found in (("plain vector", plain), ("prediction", predicted))
        for notion in ("next", "article")
    }
    return vecrag_rows(relevant, np.repeat(np.arange(10), 2), "plain vector")


def test_gains_are_paired_by_article() -> None:
    first, second = rows()[:2]
    assert (first["contender"], first["value"], first["gain"]) == ("plain vector", 0.25, None)
    assert first["low"] < 0.25 < first["high"]
    assert (second["contender"], second["value"], second["gain"]) == ("prediction", 0.75, 0.5)
    # Each article gains the same: there is nothing to be unsure of.
    assert [second["gain_low"], second["gain_high"]] == pytest.approx([0.5, 0.5])
    assert (second["verdict"], second["queries"], second["articles"]) == ("better", 20, 10)


def test_a_picture() -> None:
    assert dots(rows(), "s, run 1").startswith(b"\x89PNG")
    with pytest.raises(RunError, match="nothing to draw"):
        dots([], "s, run 1")
