"""Windows and the pieces they are read in, against counting them one by one."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvmdb.sequences import windows as module
from lvmdb.sequences.windows import (
    Articles,
    Pieces,
    Windowing,
    article_pieces,
    corpus_pieces,
    grouped,
    spans_of,
    windows_of,
)

LENGTHS = st.lists(st.integers(0, 12), min_size=1, max_size=12)
RUN = st.lists(st.integers(1, 9), min_size=1, max_size=10)
CONTEXT = st.integers(1, 6)
STRIDE = st.integers(1, 4)
PIECE = st.sampled_from([1, 2, 5, 256])


def articles(lengths: Iterable[int]) -> Articles:
    counts = np.array(list(lengths), dtype=np.int64)
    return Articles(100 + np.arange(len(counts)), counts)


def listed(whole: Articles, pieces: Pieces, windowing: Windowing) -> list[tuple[int, int, int]]:
    """Article and seq of each window's (last) target, and the length of its context."""
    found = windows_of(pieces, windowing)
    number, seq = whole.locate(found.place + found.length)
    ids = whole.article_id[number]
    return list(zip(ids.tolist(), seq.tolist(), found.length.tolist(), strict=True))


def owners(lengths: list[int]) -> list[tuple[int, int]]:
    return [(100 + number, seq) for number, n in enumerate(lengths) for seq in range(n)]


def asked_for(whole: Articles, pieces: Pieces) -> list[tuple[int, int]]:
    spans = spans_of(pieces, whole)
    found = [
        (article, seq)
        for article, first, last in zip(
            spans.article_id.tolist(),
            spans.first_seq.tolist(),
            spans.last_seq.tolist(),
            strict=True,
        )
        for seq in range(first, last + 1)
    ]
    assert spans.concepts.sum() == len(found)
    return found


@given(LENGTHS, CONTEXT, STRIDE, PIECE)
def test_windows_of_articles(lengths: list[int], context_len: int, stride: int, size: int) -> None:
    windowing = Windowing.last(context_len, stride)
    whole = articles(lengths)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PIECE", size)
        pieces = article_pieces(whole, windowing)
    assert listed(whole, pieces, windowing) == [
        (100 + number, target, context_len)
        for number, length in enumerate(lengths)
        for target in range(context_len, length, stride)
    ]
    counted = windowing.count(whole.concepts).tolist()
    assert counted == [len(range(context_len, n, stride)) for n in lengths]


@given(LENGTHS, st.integers(2, 5), PIECE)
def test_sequences_of_articles(lengths: list[int], sequence_len: int, size: int) -> None:
    """Every concept of an article but the first is a target exactly once, whatever the length."""
    windowing = Windowing.every(sequence_len)
    whole = articles(lengths)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PIECE", size)
        pieces = article_pieces(whole, windowing)
    targets = [
        (article, seq)
        for article, last, length in listed(whole, pieces, windowing)
        for seq in range(last - length + 1, last + 1)
    ]
    assert targets == [
        (100 + number, seq) for number, n in enumerate(lengths) for seq in range(1, n)
    ]
    assert all(1 <= n <= sequence_len for _, _, n in listed(whole, pieces, windowing))


@given(RUN, CONTEXT, STRIDE, PIECE, st.data())
def test_windows_across_articles(
    lengths: list[int], context_len: int, stride: int, size: int, data: st.DataObject
) -> None:
    owner = owners(lengths)
    targets = list(range(context_len, len(owner), stride))
    low = data.draw(st.integers(0, len(targets)))
    high = data.draw(st.integers(low, len(targets)))
    windowing = Windowing.last(context_len, stride)
    whole = articles(lengths)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PIECE", size)
        pieces = corpus_pieces(whole, windowing, (low, high))
    expected = [(*owner[target], context_len) for target in targets[low:high]]
    assert listed(whole, pieces, windowing) == expected


@given(RUN, CONTEXT, STRIDE, PIECE, st.booleans())
def test_a_piece_asks_for_the_concepts_of_its_windows(
    lengths: list[int], context_len: int, stride: int, size: int, across: bool
) -> None:
    windowing = Windowing.last(context_len, stride)
    whole = articles(lengths)
    count = int(windowing.count(whole.concepts.sum(keepdims=True))[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PIECE", size)
        pieces = (
            corpus_pieces(whole, windowing, (0, count))
            if across
            else article_pieces(whole, windowing)
        )
    owner = owners(lengths)
    for number in range(len(pieces)):
        one = pieces.take(np.array([number]))
        found = windows_of(one, windowing)
        place = int(one.place[0])
        assert asked_for(whole, one) == owner[place : place + int(one.concepts[0])]
        assert found.place[0] == place
        assert found.place[-1] + found.length[-1] == place + one.concepts[0] - 1
        assert one.concepts[0] <= max(size, stride) + context_len + 1
        if not across:
            assert len({article for article, _ in asked_for(whole, one)}) == 1


def test_an_article_of_ordinary_length_is_one_piece() -> None:
    assert len(article_pieces(articles([5, 250, 6]), Windowing.last(5, 1))) == 2
    assert len(article_pieces(articles([400]), Windowing.last(5, 1))) == 2


@given(st.lists(st.integers(0, 12), max_size=12), st.integers(1, 20))
def test_groups_hold_every_item_once_and_in_order(sizes: list[int], least: int) -> None:
    borders = grouped(np.array(sizes, dtype=np.int64), least).tolist()
    assert borders[0] == 0
    assert borders[-1] == len(sizes)
    groups = [sizes[a:b] for a, b in pairwise(borders)]
    assert [size for group in groups for size in group] == sizes
    assert all(sum(group[:-1]) < least for group in groups)
    assert all(sum(group) >= least for group in groups[:-1])
