"""The semantic chunker: cut where neighbours are far apart, each sentence encoded once."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvmdb.corpus.articles import Vectors
from lvmdb.corpus.chunker import flag_options, get_chunker
from lvmdb.corpus.chunkers.semantic import SemanticChunker
from lvmdb.corpus.chunkers.sentence import SentenceChunker
from lvmdb.corpus.chunkers.words import count_words, paragraphs
from lvmdb.errors import UnknownNameError, UsageError


class Topics:
    """An encoder of sentences that begin with a number: the cosine falls with their distance."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def __call__(self, texts: Sequence[str]) -> Vectors:
        self.calls.append(list(texts))
        angles = np.array([self.angle(text) for text in texts])
        vectors = np.zeros((len(texts), 768), dtype=np.float32)
        vectors[:, 0], vectors[:, 1] = np.cos(angles), np.sin(angles)
        return vectors

    @staticmethod
    def angle(text: str) -> float:
        number = text.split()[0].removeprefix("N").strip(".,")
        return float(number) / 100 if number.isdecimal() else 0.0


def sentence(topic: int, words: int = 12) -> str:
    return " ".join([f"N{topic}", *["word"] * (words - 2), "end."])


def text_of(*topics: int, words: int = 12) -> str:
    return " ".join(sentence(topic, words) for topic in topics)


def topics(chunks: Sequence[str]) -> list[list[int]]:
    return [[int(w[1:]) for w in chunk.split() if w[0] == "N"] for chunk in chunks]


def test_a_text_is_cut_at_its_largest_distances() -> None:
    text = text_of(10, 11, 12, 40, 41, 42, 90, 91)
    chunks = SemanticChunker(Topics(), percentile=70).chunk(text)
    assert topics(chunks) == [[10, 11, 12], [40, 41, 42], [90, 91]]
    assert " ".join(chunks) == text
    assert topics(SemanticChunker(Topics(), percentile=90).chunk(text)) == [
        [10, 11, 12, 40, 41, 42],
        [90, 91],
    ]
    assert topics(SemanticChunker(Topics(), percentile=100, high=90).chunk(text)) == [
        [10, 11, 12, 40, 41, 42],
        [90, 91],
    ]


def test_what_is_short_joins_the_nearer_neighbour() -> None:
    text = text_of(10, 11, 30, 41, 42)
    chunks = SemanticChunker(Topics(), percentile=50).chunk(text)
    assert topics(chunks) == [[10, 11], [30, 41, 42]]


def test_paragraphs_are_never_joined_and_their_distance_counts_for_nothing() -> None:
    text = f"{text_of(10, 11)}\n\nA heading\n\n{text_of(99, 12)}\n\n{text_of(12, 12)}"
    chunks = SemanticChunker(Topics(), percentile=60).chunks(text)
    assert [(topics([c.text])[0], c.paragraph) for c in chunks] == [
        ([10, 11], 0),
        ([99, 12], 2),
        ([12, 12], 3),
    ]
    chunks = SemanticChunker(Topics(), percentile=60, low=10).chunks(text)
    assert topics([c.text for c in chunks]) == [[10, 11], [99], [12], [12, 12]]


def test_each_sentence_is_encoded_once_and_its_vector_kept() -> None:
    embed = Topics()
    text = f"{text_of(10, 11, 50)}\n\n{text_of(70, words=30)}"
    chunks = SemanticChunker(embed, percentile=50, low=10).chunks(text)
    assert embed.calls == [[sentence(10), sentence(11), sentence(50), sentence(70, 30)]]
    assert topics([c.text for c in chunks]) == [[10, 11], [50], [70]]
    for chunk in chunks:
        assert chunk.sentences is not None
        assert len(chunk.sentences) == len(topics([chunk.text])[0])
    assert chunks[0].vector is None
    for chunk in chunks[1:]:
        assert chunk.vector is not None
        assert (chunk.vector == Topics()([chunk.text])[0]).all()
    assert SemanticChunker(embed).chunk(" \n\nHeading") == []
    assert len(embed.calls) == 1


def test_an_overlong_sentence_is_cut_into_parts() -> None:
    embed = Topics()
    chunks = SemanticChunker(embed).chunk(sentence(10, 250))
    assert [count_words(c) for c in chunks] == [83, 83, 84]
    assert embed.calls == [chunks]


@settings(max_examples=20)
@given(
    st.lists(
        st.lists(st.builds(sentence, st.integers(0, 99), st.integers(2, 130)), max_size=10).map(
            " ".join
        )
        | st.text(max_size=60),
        max_size=4,
    ).map("\n\n".join)
)
def test_nothing_is_lost_and_no_chunk_is_too_long(text: str) -> None:
    chunks = iter(SemanticChunker(Topics()).chunks(text))
    for number, paragraph in enumerate(paragraphs(text)):
        if count_words(paragraph) < 8:
            continue
        rest = paragraph
        while rest:
            chunk = next(chunks)
            assert chunk.paragraph == number
            assert rest.startswith(chunk.text)
            assert count_words(chunk.text) <= 100
            rest = rest[len(chunk.text) :].lstrip()
    assert list(chunks) == []


def test_options_are_json_and_reproduce_the_chunker() -> None:
    chunker = get_chunker("semantic", embed=Topics(), percentile=60)
    options = json.loads(json.dumps(chunker.options))
    assert options == {
        "percentile": 60,
        "language": "en",
        "min_words": 8,
        "low": 20,
        "high": 100,
    }
    assert get_chunker("semantic", embed=Topics(), **options) == chunker


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"percentile": 101}, "--percentile is between 0 and 100, not 101"),
        ({"low": 60}, "high at least twice low"),
        ({"min_words": 21}, "min_words <= low"),
        ({"embed": None}, "needs an encoder"),
    ],
)
def test_wrong_options_say_so(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        get_chunker("semantic", **{"embed": Topics(), **options})  # type: ignore[arg-type]


def test_the_encoder_is_no_option() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'percentile'"):
        get_chunker("semantic", embed=Topics(), percentil=3)


def test_flags_are_options() -> None:
    assert flag_options("sentence") == flag_options("semantic") == flag_options("paragraph") == {}
    # The defaults are those of 40-80 words.
    assert get_chunker("sentence", **flag_options("sentence", words="40-80")) == SentenceChunker()
    narrow = get_chunker("sentence", **flag_options("sentence", words="5-30"))
    assert (narrow.options["min_words"], narrow.options["longest"]) == (5, 41)
    assert flag_options("semantic", words="30-90", percentile=50) == {
        "min_words": 8,
        "low": 30,
        "high": 90,
        "percentile": 50,
    }


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        ("sentence", {"words": "80-40"}, "--words takes LOW-HIGH, as 40-80, not '80-40'"),
        ("sentence", {"words": "forty"}, "--words takes LOW-HIGH"),
        ("sentence", {"words": "0-40"}, "--words takes LOW-HIGH"),
        ("paragraph", {"words": "40-80"}, "--words: the paragraph chunker leaves"),
        ("sentence", {"percentile": 50.0}, "--percentile: the sentence chunker has no use"),
    ],
)
def test_wrong_flags_are_named(name: str, flags: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        flag_options(name, **flags)  # type: ignore[arg-type]
