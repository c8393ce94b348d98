"""Ranges of a source: which articles each has, and that those of others are not made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from lvmdb.corpus.articles import RawArticle
from lvmdb.corpus.chunker import get_chunker
from lvmdb.corpus.plan import IngestPlan
from lvmdb.corpus.ranges import Ranges
from lvmdb.corpus.readers.base import OnError, Place, Reader, made
from lvmdb.errors import InputError

BROKEN = (0, 5, 6, 7, 19)


@pytest.fixture
def places() -> list[int]:
    """Places that were made into articles."""
    return []


def _reader(places: list[int], count: int, *, passes_over: bool) -> Reader:
    def make(place: int) -> RawArticle:
        places.append(place)
        if place in BROKEN:
            raise InputError(f"{place} is broken")
        return RawArticle(str(place), "", "")

    def read(
        source: str | Path,
        *,
        start: int = 0,
        limit: int | None = None,
        on_error: OnError | None = None,
    ) -> Iterator[RawArticle]:
        all_of_them: list[Place] = [partial(make, place) for place in range(count)]
        articles = made(all_of_them, start, limit, on_error)
        return articles if passes_over else map(replace, articles)

    return read


def _plan(reader: Reader, *, size: int, limit: int | None = None) -> IngestPlan:
    return IngestPlan(
        dataset="d",
        reader_name="r",
        reader=reader,
        source="s",
        chunker=get_chunker("sentence"),
        encoder=None,
        load_encoder=lambda: pytest.fail("nothing is encoded"),
        limit=limit,
        range_articles=size,
        skip_broken=True,
    )


@pytest.mark.parametrize("passes_over", [True, False])
@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4, 5, 6), (1, 3, 4, 0, 2, 6, 5), (2, 2, 0, 6, 0)])
@pytest.mark.parametrize("limit", [None, 18, 8])
def test_a_range_is_the_same_in_whatever_order(
    places: list[int], passes_over: bool, order: tuple[int, ...], limit: int | None
) -> None:
    plan = _plan(_reader(places, 20, passes_over=passes_over), size=4, limit=limit)
    count = limit or 20
    ranges = Ranges(plan)
    for ordinal in order:
        found = ranges.get(ordinal)
        inside = range(min(4 * ordinal, count), min(4 * ordinal + 4, count))
        assert [a.source_key for a in found.articles] == [str(p) for p in inside if p not in BROKEN]
        assert found.broken == [f"{p} is broken" for p in inside if p in BROKEN]
        assert found.read == len(inside)
        # It has ended where nothing lies behind it.
        assert found.ended == (4 * ordinal + 4 >= count)


def test_articles_of_others_are_not_made(places: list[int]) -> None:
    ranges = Ranges(_plan(_reader(places, 200, passes_over=True), size=4))
    for ordinal in (0, 2, 20):
        ranges.get(ordinal)
    # One behind each range tells that the source goes on.
    assert places == [*range(5), *range(8, 13), *range(80, 85)]
