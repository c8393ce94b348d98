"""Chunkers: nothing lost, nothing out of order, no paragraph joined to the next."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvmdb.corpus.chunker import get_chunker
from lvmdb.corpus.chunkers.paragraph import ParagraphChunker
from lvmdb.corpus.chunkers.sentence import SentenceChunker
from lvmdb.corpus.chunkers.words import count_words, paragraphs, word_counter
from lvmdb.errors import UnknownNameError, UsageError


def sentence(words: int, mark: str = "word") -> str:
    """A sentence of so many words."""
    return " ".join([mark.capitalize(), *[mark] * (words - 1)]) + "."


def sizes(text: str) -> list[int]:
    return [count_words(c) for c in SentenceChunker().chunk(text)]


_text = st.lists(
    st.lists(
        st.builds(sentence, st.integers(1, 250), st.sampled_from(["alpha", "b,", "Dr", "1.5"])),
        max_size=12,
    ).map(" ".join)
    | st.text(max_size=80),
    max_size=5,
).map("\n\n".join)


@settings(max_examples=80)
@given(_text)
def test_every_chunk_lies_in_one_paragraph_and_nothing_is_lost(text: str) -> None:
    chunker = SentenceChunker()
    chunks = iter(chunker.chunk(text))
    for paragraph in paragraphs(text):
        if count_words(paragraph) < chunker.min_words:
            continue
        rest = paragraph
        while rest:
            chunk = next(chunks)
            assert rest.startswith(chunk)
            assert count_words(chunk) <= chunker.longest
            assert chunk == " ".join(chunk.split())
            rest = rest[len(chunk) :].lstrip()
    assert list(chunks) == []


@settings(max_examples=50)
@given(st.lists(st.integers(3, 79), min_size=1, max_size=30))
def test_chunks_of_ordinary_sentences_are_of_the_size_that_is_promised(lengths: list[int]) -> None:
    found = sizes(" ".join(sentence(n) for n in lengths))
    if sum(lengths) >= 8:
        assert sum(found) == sum(lengths)
        assert max(found) <= 95 + 7  # the last few words of a paragraph are never left alone
        assert min(found) >= 8


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([7], []),
        ([8], [8]),
        ([20, 20, 20, 20], [80]),
        ([20, 20, 20, 20, 20], [60, 40]),
        ([30, 30, 10], [70]),
        ([50, 30], [80]),
        ([50, 31], [50, 31]),
        ([39, 56], [95]),
        ([39, 57], [39, 57]),
        ([40, 41], [40, 41]),
        ([66, 24], [90]),
        ([67, 24], [67, 24]),
        ([60, 25], [60, 25]),
        ([90, 7], [97]),
        ([110], [110]),
        ([111], [56, 55]),
        ([300], [75, 75, 75, 75]),
    ],
)
def test_how_sentences_are_merged(lengths: list[int], expected: list[int]) -> None:
    assert sizes(" ".join(sentence(n) for n in lengths)) == expected


def test_an_overlong_sentence_is_cut_behind_a_clause() -> None:
    text = "A" + " a" * 59 + ", " + "b " * 59 + "b."
    assert [count_words(c) for c in SentenceChunker().chunk(text)] == [60, 60]
    text = "A" + " a" * 50 + ", " + "b " * 68 + "b."
    first, second = SentenceChunker().chunk(text)
    assert first.endswith("a,")
    assert second.startswith("b ")


def test_paragraphs_are_never_joined() -> None:
    text = f"{sentence(10, 'one')}\n \n{sentence(10, 'two')}\r\n\r\n{sentence(10, 'three')}"
    assert [c.split()[0] for c in SentenceChunker().chunk(text)] == ["One", "Two", "Three"]
    assert SentenceChunker().chunk(text) == ParagraphChunker().chunk(text)


@pytest.mark.parametrize("name", ["sentence", "paragraph"])
def test_chunks_know_their_paragraph(name: str) -> None:
    text = f"Heading\n\n{sentence(70)} {sentence(70)}\n\n\n{sentence(10)}"
    chunks = get_chunker(name).chunks(text)
    assert [c.paragraph for c in chunks] == {"sentence": [1, 1, 2], "paragraph": [1, 2]}[name]
    assert [c.text for c in chunks] == get_chunker(name).chunk(text)
    assert {c.vector for c in chunks} == {None}


@settings(max_examples=40)
@given(st.text(st.sampled_from("ab. \u00a0\u2028\x1c\u6c34\u0e01\u00e9\n")))
def test_words_are_counted_alike_fast_and_by_the_rule(text: str) -> None:
    for paragraph in paragraphs(text):
        count = word_counter(paragraph)
        pieces = [p for p in re.split(r"(?<= )", paragraph) if p]
        expected = 0
        for piece in pieces:
            unspaced = re.findall(r"[\u0e00-\u0eff\u3400-\u9fff]{1,2}", piece)
            others = re.findall(r"[^\s\u0e00-\u0eff\u3400-\u9fff]+", piece)
            assert count(piece) == count_words(piece) == len(unspaced) + len(others)
            expected += len(unspaced) + len(others)
        assert count(paragraph) == count_words(paragraph) == expected


def test_white_space_is_normalised_and_nul_removed() -> None:
    text = "One  two\tthree\nfour\0 five\u00a0six seven eight\u2028nine."
    expected = ["One two three four five six seven eight nine."]
    assert SentenceChunker().chunk(text) == expected
    assert ParagraphChunker().chunk(text) == expected


def test_scripts_without_spaces_are_cut_too() -> None:
    text = "\u6c34\u5728\u5c71\u4e0a\u6cb8\u817e\u5f97\u66f4\u65e9\u3002" * 60
    chunks = SentenceChunker(language="zh").chunk(text)
    assert "".join(chunks) == text
    assert len(chunks) > 2
    assert all(c.endswith("\u3002") for c in chunks)


@pytest.mark.parametrize("text", ["", "   \n\n  ", "\0", "Title"])
def test_a_text_without_prose_gives_nothing(text: str) -> None:
    assert SentenceChunker().chunk(text) == []


def test_options_are_json_and_reproduce_the_chunker() -> None:
    chunker = get_chunker("sentence", high=70, language="de")
    again = get_chunker(chunker.name, **json.loads(json.dumps(chunker.options)))
    assert again == chunker
    assert again != get_chunker("sentence")


def test_wrong_names_and_options() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'sentence'"):
        get_chunker("sentense")
    with pytest.raises(UnknownNameError, match="option of the sentence chunker 'hihg'"):
        get_chunker("sentence", hihg=3)
    with pytest.raises(UsageError, match="min_words <= low"):
        get_chunker("sentence", low=100)
    with pytest.raises(UsageError, match="at least 1"):
        get_chunker("paragraph", min_words=0)
