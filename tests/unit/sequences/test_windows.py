"""Windows against counting them one by one."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lvmdb.sequences.windows import (
    Articles,
    Windows,
    article_windows,
    blocks_of_articles,
    corpus_split_range,
    corpus_windows,
    generator_for,
    windows_per_article,
)

LENGTHS = st.lists(st.integers(0, 12), max_size=12)
CONTEXT = st.integers(1, 6)
STRIDE = st.integers(1, 4)


def articles(lengths: Iterable[int]) -> Articles:
    counts = np.array(list(lengths), dtype=np.int64)
    return Articles(100 + np.arange(len(counts)), counts)


def listed(windows: Windows) -> list[tuple[int, int, int]]:
    return list(
        zip(
            windows.start.tolist(),
            windows.article_id.tolist(),
            windows.target_seq.tolist(),
            strict=True,
        )
    )


@given(LENGTHS, CONTEXT, STRIDE)
def test_windows_of_articles(lengths: list[int], context_len: int, stride: int) -> None:
    expected = []
    first = 0
    for number, length in enumerate(lengths):
        for target in range(context_len, length, stride):
            expected.append((first + target - context_len, 100 + number, target))
        first += length
    windows = article_windows(articles(lengths), context_len, stride)
    assert listed(windows) == expected
    counts = windows_per_article(np.array(lengths, dtype=np.int64), context_len, stride)
    assert counts.sum() == len(expected)
    assert counts.tolist() == [len(range(context_len, n, stride)) for n in lengths]


@given(LENGTHS, st.integers(1, 20))
def test_blocks_hold_every_article_once_and_in_order(counts: list[int], buffer_size: int) -> None:
    groups = blocks_of_articles(np.array(counts, dtype=np.int64), buffer_size)
    assert [i for g in groups for i in range(g.start, g.stop)] == list(range(len(counts)))
    for group in groups:
        held = counts[group]
        assert sum(held[:-1]) < buffer_size
    for group in groups[:-1]:
        assert sum(counts[group]) >= buffer_size


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=10),
    CONTEXT,
    STRIDE,
    st.integers(1, 12),
    st.data(),
)
def test_windows_across_articles(
    lengths: list[int], context_len: int, stride: int, buffer_size: int, data: st.DataObject
) -> None:
    """Read in blocks that carry `context_len` rows over, as the stream does."""
    owner = [(100 + number, seq) for number, n in enumerate(lengths) for seq in range(n)]
    targets = list(range(context_len, len(owner), stride))
    low = data.draw(st.integers(0, len(targets)))
    high = data.draw(st.integers(low, len(targets)))
    expected = [(t - context_len, *owner[t]) for t in targets[low:high]]

    whole = articles(lengths)
    found = []
    place = carried = 0
    for group in blocks_of_articles(whole.concepts, buffer_size):
        members = Articles(whole.article_id[group], whole.concepts[group])
        windows = corpus_windows(
            members,
            context_len,
            stride,
            first_place=place,
            carried=carried,
            window_range=(low, high),
        )
        rows = carried + int(members.concepts.sum())
        assert ((windows.start >= 0) & (windows.start + context_len < rows)).all()
        found += [(place + start, *rest) for start, *rest in listed(windows)]
        place += max(rows - context_len, 0)
        carried = min(rows, context_len)
    assert found == expected


@given(st.lists(st.integers(0, 50), min_size=3, max_size=3))
def test_splits_of_a_corpus_follow_each_other(counts: list[int]) -> None:
    ranges = [corpus_split_range(counts, split) for split in range(3)]
    assert [high - low for low, high in ranges] == counts
    assert [ranges[0][0], ranges[1][0], ranges[2][0]] == [0, ranges[0][1], ranges[1][1]]


@settings(max_examples=30)
@given(st.binary(min_size=32, max_size=32), st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4))
def test_a_generator_depends_on_data_and_numbers_alone(key: bytes, numbers: list[int]) -> None:
    def draw(key: bytes, *numbers: int) -> list[int]:
        drawn: list[int] = generator_for(key, *numbers).integers(0, 2**62, 4).tolist()
        return drawn

    assert draw(key, *numbers) == draw(key, *numbers)
    assert draw(key, *numbers, 1) != draw(key, *numbers, 2)
    assert draw(bytes([key[0] ^ 1]) + key[1:], *numbers) != draw(key, *numbers)


def test_taking_and_permuting_keeps_rows_together() -> None:
    windows = article_windows(articles([5, 4]), 2, 1)
    order = np.array([4, 0, 2])
    assert listed(windows.take(order)) == [listed(windows)[i] for i in order]
    permuted = articles(range(9)).permuted(np.random.default_rng(0))
    assert sorted(permuted.article_id) == list(range(100, 109))
    assert (permuted.article_id - 100 == permuted.concepts).all()
