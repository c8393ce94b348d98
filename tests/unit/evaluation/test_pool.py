"""The pool: a concept's row by its article and place, whatever the articles' ids are."""

from __future__ import annotations

import numpy as np
import pytest

from lvmdb.errors import CorpusError
from lvmdb.evaluation.pool import Pool

# In corpus order: three concepts of article 30, two of article 10, four of article 20.
POOL = Pool(
    cpe_id=[bytes([n]) * 16 for n in range(9)],
    vectors=np.eye(9, 768, dtype=np.float32),
    fingerprint=b"",
    article_id=np.array([10, 20, 30]),
    first=np.array([3, 5, 0]),
    length=np.array([2, 4, 3]),
)


def rows(*places: tuple[int, int]) -> list[int]:
    articles, seqs = zip(*places, strict=True)
    found: list[int] = POOL.rows(np.array(articles), np.array(seqs)).tolist()
    return found


def test_places_are_found() -> None:
    assert len(POOL) == 9
    assert rows((30, 0), (30, 2), (10, 0), (10, 1), (20, 0), (20, 3)) == [0, 2, 3, 4, 5, 8]


@pytest.mark.parametrize("place", [(30, 3), (10, 2), (20, 4), (5, 0), (15, 0), (31, 0)])
def test_a_place_that_is_not_there_is_an_error(place: tuple[int, int]) -> None:
    with pytest.raises(CorpusError, match="no longer in the dataset"):
        rows((10, 0), place)
