"""Episodes: cases worked out by hand, and what always holds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvmdb.corpus.articles import Vectors
from lvmdb.corpus.episodes import Episode, EpisodeOptions, episodes
from lvmdb.corpus.runs import runs
from lvmdb.errors import UsageError


def vectors(cosines: Sequence[float]) -> Vectors:
    """Unit vectors whose neighbours have these cosines."""
    angles = np.concatenate([[0.0], np.cumsum(np.arccos(cosines))])
    found = np.zeros((len(angles), 768), dtype=np.float32)
    found[:, 5], found[:, 7] = np.cos(angles), np.sin(angles)
    return found


def sizes(cosines: Sequence[float], paragraphs: Sequence[int], **options: float) -> list[int]:
    found = episodes(vectors(cosines), paragraphs, EpisodeOptions(**options))  # type: ignore[arg-type]
    return [e.last_seq - e.first_seq + 1 for e in found]


NEAR, FAR, APART = 0.9, 0.5, 0.2


@pytest.mark.parametrize(
    ("cosines", "paragraphs", "expected"),
    [
        pytest.param([NEAR] * 7, range(8), [8], id="together"),
        pytest.param([NEAR, NEAR, FAR, NEAR, NEAR], range(6), [3, 3], id="two"),
        pytest.param([0.6 + 1e-6] * 5, range(6), [6], id="at-least-0.6"),
        pytest.param([FAR] * 5, [0] * 6, [6], id="a-paragraph-stays-whole"),
        pytest.param([NEAR] * 2 + [FAR] + [APART] * 4, [0, 0, 0, *[1] * 5], [3, 5], id="whole-too"),
        pytest.param([FAR, FAR, APART, FAR, FAR], range(6), [3, 3], id="short-runs-nearer"),
        pytest.param([APART, NEAR, NEAR], range(4), [4], id="first-is-short"),
        pytest.param([NEAR, NEAR, APART], range(4), [4], id="last-is-short"),
        pytest.param([NEAR, NEAR, FAR, APART, NEAR, NEAR], range(7), [4, 3], id="nearer-before"),
        pytest.param([NEAR, NEAR, APART, FAR, NEAR, NEAR], range(7), [3, 4], id="nearer-behind"),
        pytest.param([APART], range(2), [2], id="fewer-than-an-episode"),
        pytest.param([], range(1), [1], id="one"),
        pytest.param([NEAR] * 10 + [0.7] + [NEAR] * 9, range(21), [11, 10], id="too-long"),
        pytest.param(
            [0.65, 0.7, 0.8] + [NEAR] * 17, range(21), [3, 18], id="both-sides-have-three"
        ),
        pytest.param(
            [NEAR] * 10 + [FAR] + [NEAR] * 3 + [0.7] + [NEAR] * 5,
            [*[0] * 15, *[1] * 6],
            [15, 6],
            id="between-paragraphs-first",
        ),
        pytest.param([NEAR] * 10 + [FAR] + [NEAR] * 9, [0] * 21, [11, 10], id="else-within"),
        pytest.param(
            [NEAR] * 8 + [0.7] + [NEAR] * 10 + [FAR],
            range(21),
            [9, 12],
            id="joined-and-cut-anew",
        ),
    ],
)
def test_how_concepts_are_grouped(
    cosines: Sequence[float], paragraphs: Sequence[int], expected: list[int]
) -> None:
    assert sizes(cosines, paragraphs) == expected


def test_coherence_is_the_mean_cosine_of_neighbours_within() -> None:
    found = episodes(vectors([0.9, 0.7, 0.1, 0.8, 1.0]), range(6), EpisodeOptions())
    assert [(e.first_seq, e.last_seq) for e in found] == [(0, 2), (3, 5)]
    assert [e.coherence for e in found] == pytest.approx([0.8, 0.9], abs=1e-6)
    alone = episodes(vectors([]), [0], EpisodeOptions())
    assert alone == [Episode(0, 0, None)]
    assert episodes(np.empty((0, 768), np.float32), [], EpisodeOptions()) == []


def test_options_change_what_is_grouped() -> None:
    cosines = [0.5] * 5
    assert sizes(cosines, range(6), coherence=0.4) == [6]
    assert sizes(cosines, range(6), min_chunks=1) == [1] * 6
    assert sizes(cosines, range(6), min_chunks=2, max_chunks=3) == [2, 2, 2]
    assert EpisodeOptions(**EpisodeOptions(4, 9, 0.5).options) == EpisodeOptions(4, 9, 0.5)


@settings(max_examples=30)
@given(st.data())
def test_episodes_cover_everything_in_sizes_that_are_promised(data: st.DataObject) -> None:
    options = EpisodeOptions(
        low := data.draw(st.integers(1, 5)), data.draw(st.integers(2 * low - 1, 14)), 0.6
    )
    steps = data.draw(st.lists(st.integers(0, 1), max_size=60))
    cosines = data.draw(st.lists(st.floats(-1, 1), min_size=len(steps), max_size=len(steps)))
    paragraphs = np.concatenate([[0], np.cumsum(steps)]).tolist()
    found = episodes(vectors(cosines), paragraphs, options)
    assert [e.first_seq for e in found[1:]] == [e.last_seq + 1 for e in found[:-1]]
    assert (found[0].first_seq, found[-1].last_seq) == (0, len(steps))
    lengths = [e.last_seq - e.first_seq + 1 for e in found]
    assert max(lengths) <= options.max_chunks
    if len(paragraphs) >= low:
        assert min(lengths) >= low


def test_of_equal_places_the_first_is_cut_and_the_one_before_joined() -> None:
    closeness = np.array([0.9, 0.9, 0.5, 0.5, 0.9, 0.9])
    assert runs([1] * 7, closeness, closeness < 0.6, low=3, high=20) == [(0, 4), (4, 7)]
    assert runs([1] * 7, np.full(6, 0.9), np.zeros(6, bool), low=3, high=6) == [(0, 3), (3, 7)]


def test_sizes_count_where_units_are_unequal() -> None:
    none = np.zeros(2, bool)
    closeness = np.array([0.1, 0.2])
    # Cut at 0.1 would leave 10; at 0.2, 60 and 50.
    assert runs([10, 50, 50], closeness, none, low=20, high=100) == [(0, 2), (2, 3)]
    # No place leaves 40 on both sides: the middle.
    assert runs([30, 30, 10], closeness, none, low=40, high=60) == [(0, 1), (1, 3)]
    # The short one fits to neither neighbour.
    assert runs([90, 10, 95], closeness, ~none, low=20, high=99) == [(0, 1), (1, 2), (2, 3)]
    assert runs([90, 9, 95], closeness, ~none, low=20, high=99) == [(0, 2), (2, 3)]
    assert runs([120], np.empty(0), np.empty(0, bool), low=20, high=99) == [(0, 1)]


@settings(max_examples=30)
@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=40),
    st.integers(1, 30),
    st.integers(30, 90),
    st.randoms(use_true_random=False),
)
def test_runs_of_any_sizes_are_bounded(words: list[int], low: int, high: int, r: object) -> None:
    closeness = np.array([r.random() for _ in words[1:]])  # type: ignore[attr-defined]
    found = runs(words, closeness, closeness < 0.2, low=low, high=high)
    assert [a for a, _ in found[1:]] == [b for _, b in found[:-1]]
    assert (found[0][0], found[-1][1]) == (0, len(words))
    assert all(sum(words[a:b]) <= high or b - a == 1 for a, b in found)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_chunks": 0}, "--episode-min must be at least 1, not 0"),
        ({"max_chunks": 4}, "--episode-max must be at least 5"),
        ({"coherence": 1.1}, "--episode-coherence is a cosine"),
        ({"coherence": float("nan")}, "--episode-coherence is a cosine"),
    ],
)
def test_wrong_options_name_their_flag(options: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        EpisodeOptions(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("paragraphs", [[0], [0, 1, 0], [0, 0, 0, 0]])
def test_what_does_not_belong_together_is_refused(paragraphs: list[int]) -> None:
    with pytest.raises(ValueError, match="as many paragraphs, never decreasing"):
        episodes(vectors([0.5, 0.5]), paragraphs, EpisodeOptions())


def test_a_vector_that_is_not_a_number_is_refused() -> None:
    broken = vectors([0.5, 0.5])
    broken[1, 0] = np.nan
    with pytest.raises(ValueError, match="not a number"):
        episodes(broken, range(3), EpisodeOptions())
