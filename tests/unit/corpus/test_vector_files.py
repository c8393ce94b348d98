"""Imports of vectors: what is accepted, and what each kind of broken file says."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lvmdb.corpus.vector_files import read_articles
from lvmdb.errors import InputError

SIZES = (3, 1, 4)
Record = dict[str, Any]


def records() -> list[Record]:
    """Texts of three articles, of which the last two share a title."""
    return [
        {
            "article_title": f"Title {min(article, 1)}",
            "article_index": article,
            "chunk_index": chunk,
            "concept_text": f"Text {article}.{chunk}",
        }
        for article, size in enumerate(SIZES)
        for chunk in range(size)
    ]


def unit(n: int = sum(SIZES), kind: str = "float32", dimension: int = 768) -> np.ndarray:
    vectors: np.ndarray = np.random.default_rng(1).standard_normal((n, dimension))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(kind)


def write_texts(path: Path, rows: list[Record]) -> Path:
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def write_vectors(path: Path, vectors: np.ndarray, **more: np.ndarray) -> Path:
    if path.suffix == ".npz":
        np.savez(path, allow_pickle=True, vectors=vectors, **more)
    elif path.suffix == ".npy":
        np.save(path, vectors)
    else:
        write_parquet(path, vectors)
    return path


def write_parquet(
    path: Path, vectors: np.ndarray, name: str = "vector", fixed: bool = True
) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    flat = pa.array(vectors.ravel())
    width = vectors.shape[1]
    if fixed:
        column = pa.FixedSizeListArray.from_arrays(flat, width)
    else:
        offsets = pa.array(range(0, vectors.size + 1, width), type=pa.int32())
        column = pa.ListArray.from_arrays(offsets, flat)
    numbers = pa.array(range(len(vectors)))
    parquet.write_table(pa.table({"id": numbers, name: column}), path, row_group_size=3)


KINDS = ("v.npz", "v.npy", "v.parquet")


@pytest.mark.parametrize("texts", ["t.jsonl", "t.jsonl.gz"])
@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
@pytest.mark.parametrize("name", KINDS)
def test_articles_come_whole_and_in_order(tmp_path: Path, name: str, kind: str, texts: str) -> None:
    vectors = unit(kind=kind)
    path = write_vectors(tmp_path / name, vectors)
    file = write_texts(tmp_path / texts, records())
    found = list(read_articles(path, file))
    assert [a.source_key for a in found] == ["0", "1", "2"]
    assert [a.title for a in found] == ["Title 0", "Title 1", "Title 1"]
    assert [len(a.texts) for a in found] == list(SIZES)
    assert [a.source for a in found] == [f"{file}:{line}" for line in (1, 4, 5)]
    assert found[2].texts == ("Text 2.0", "Text 2.1", "Text 2.2", "Text 2.3")
    joined = np.concatenate([a.vectors for a in found])
    assert joined.dtype == np.float32
    np.testing.assert_allclose(joined, vectors.astype(np.float32), atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(joined, axis=1), 1, atol=1e-6)


def test_keys_and_urls_may_be_given(tmp_path: Path) -> None:
    rows = records()
    for row in rows:
        row |= {"article_key": f"k{row['article_index']}", "url": "https://example.org"}
    (article, *_) = read_articles(
        write_vectors(tmp_path / "v.npy", unit()), write_texts(tmp_path / "t.jsonl", rows)
    )
    assert (article.source_key, article.url) == ("k0", "https://example.org")


def test_an_npz_may_hold_the_only_table_under_any_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", allow_pickle=True, embeddings=unit(), ids=np.arange(8))
    assert len(
        list(read_articles(tmp_path / "v.npz", write_texts(tmp_path / "t.jsonl", records())))
    )


@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("name", ["embedding", "concept_vec", "whatever"])
def test_parquet_columns(tmp_path: Path, name: str, fixed: bool) -> None:
    write_parquet(tmp_path / "v.parquet", unit(), name, fixed)
    found = read_articles(tmp_path / "v.parquet", write_texts(tmp_path / "t.jsonl", records()))
    np.testing.assert_allclose(np.concatenate([a.vectors for a in found]), unit(), atol=1e-6)


def test_more_rows_than_a_block(tmp_path: Path) -> None:
    vectors = unit(5000, "float16")
    rows = [
        {
            "article_title": "T",
            "article_index": i // 900,
            "chunk_index": i % 900,
            "concept_text": str(i),
        }
        for i in range(5000)
    ]
    texts = write_texts(tmp_path / "t.jsonl", rows)
    for name in ("v.npy", "v.parquet"):
        found = list(read_articles(write_vectors(tmp_path / name, vectors), texts))
        assert [a.texts[0] for a in found] == [str(i) for i in range(0, 5000, 900)]
        joined = np.concatenate([a.vectors for a in found])
        np.testing.assert_allclose(joined, vectors.astype(np.float32), atol=1e-3)


def test_other_norms_only_on_request(tmp_path: Path) -> None:
    vectors = unit() * np.linspace(1, 3, 8, dtype=np.float32)[:, None]
    path = write_vectors(tmp_path / "v.npy", vectors)
    texts = write_texts(tmp_path / "t.jsonl", records())
    with pytest.raises(InputError, match=r"v\.npy: row 2: .* norm is 1\.286.*pass --normalize"):
        list(read_articles(path, texts))
    found = list(read_articles(path, texts, normalise=True))
    np.testing.assert_allclose(np.concatenate([a.vectors for a in found]), unit(), atol=1e-6)


def collect(vectors: Path, texts: Path) -> tuple[int, str]:
    """How many articles come before the error, and the error's line."""
    count = 0

    def read() -> None:
        nonlocal count
        for _ in read_articles(vectors, texts):
            count += 1

    with pytest.raises(InputError) as e:
        read()
    assert "\n" not in str(e.value)
    return count, str(e.value)


def _set(row: int, column: int | slice, value: float) -> Callable[[np.ndarray], None]:
    def change(vectors: np.ndarray) -> None:
        vectors[row, column] = value

    return change


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    ("change", "articles", "message"),
    [
        (_set(4, 7, np.nan), 2, "row 5: the vector has NaN or infinite numbers"),
        (_set(7, 7, np.inf), 2, "row 8: the vector has NaN or infinite numbers"),
        (_set(3, slice(None), 0), 1, "row 4: the vector has zero norm"),
        (_set(0, 0, 1), 0, "row 1: the vector's norm is 1.4"),
    ],
)
def test_a_broken_vector_does_not_yield_its_article(
    tmp_path: Path,
    name: str,
    change: Callable[[np.ndarray], None],
    articles: int,
    message: str,
) -> None:
    vectors = unit()
    change(vectors)
    path = write_vectors(tmp_path / name, vectors)
    count, error = collect(path, write_texts(tmp_path / "t.jsonl", records()))
    assert count == articles
    assert error.startswith(f"{path}: {message}")


@pytest.mark.parametrize("name", KINDS)
def test_a_vector_of_767_numbers(tmp_path: Path, name: str) -> None:
    path = write_vectors(tmp_path / name, unit(dimension=767))
    count, error = collect(path, write_texts(tmp_path / "t.jsonl", records()))
    assert count == 0
    assert re.search(r"of 767 numbers, not 768", error)


def test_parquet_rows_of_their_own_length(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    texts = write_texts(tmp_path / "t.jsonl", records())
    path = tmp_path / "v.parquet"
    for odd, told in ((unit()[0, :767].tolist(), 767), (None, 0)):
        rows = unit().tolist()
        rows[6] = odd
        kind = pa.list_(pa.float32())
        parquet.write_table(pa.table({"vector": pa.array(rows, kind)}), path, row_group_size=2)
        assert f"row 7: a vector of {told} numbers, not 768" in collect(path, texts)[1]
    rows = unit().tolist()
    rows[6][3] = None
    parquet.write_table(pa.table({"vector": pa.array(rows, kind)}), path)
    assert "row 7: the vector has NaN" in collect(path, texts)[1]


def _change(line: int, **values: Any) -> Callable[[list[Record]], None]:
    def change(rows: list[Record]) -> None:
        rows[line - 1] |= values

    return change


def _drop(line: int, key: str) -> Callable[[list[Record]], None]:
    def change(rows: list[Record]) -> None:
        del rows[line - 1][key]

    return change


def _returns(rows: list[Record]) -> None:
    rows[4] |= {"article_index": 0, "article_title": "Title 0", "chunk_index": 0}


def _same_keys(rows: list[Record]) -> None:
    for row in rows:
        row["article_key"] = "k"


@pytest.mark.parametrize(
    ("change", "articles", "message"),
    [
        (_change(2, chunk_index=2), 0, "2: chunk_index is 2, not 1"),
        (_change(5, chunk_index=1), 2, "5: chunk_index is 1, not 0"),
        (_change(5, chunk_index="0"), 1, "5: `chunk_index` is not a whole number"),
        (_change(5, article_index=-1), 1, "5: `article_index` is not a whole number"),
        (_change(5, article_index=True), 1, "5: `article_index` is not a whole number"),
        (_returns, 2, "5: article_index 0 returns"),
        (_same_keys, 1, "4: the article_key 'k' is that of an earlier article"),
        (_change(3, article_key="k"), 0, "3: article 0 has another article_key"),
        (_change(3, article_title="X"), 0, "3: article 0 has another title"),
        (_change(7, concept_text=" \n"), 2, "7: `concept_text` is empty"),
        (_change(7, concept_text="a\0b"), 2, "7: `concept_text` has a NUL"),
        (_change(5, article_title="a\0b"), 2, "5: `article_title` has a NUL"),
        (_change(7, concept_text=None), 2, "7: `concept_text` is not a string"),
        *(
            (_drop(7, key), 2, f"7: `{key}` is missing")
            for key in ("article_index", "chunk_index", "concept_text", "article_title")
        ),
    ],
)
def test_a_broken_text_does_not_yield_its_article(
    tmp_path: Path, change: Callable[[list[Record]], None], articles: int, message: str
) -> None:
    rows = records()
    change(rows)
    texts = write_texts(tmp_path / "t.jsonl", rows)
    count, error = collect(write_vectors(tmp_path / "v.npy", unit()), texts)
    assert count == articles
    assert error.startswith(f"{texts}:{message}")


@pytest.mark.parametrize(
    ("line", "message"),
    [(b"{oops", "not JSON"), (b'{"a": "\xff"}', "not UTF-8"), (b"3", "not a JSON object")],
)
def test_a_line_that_cannot_be_read(tmp_path: Path, line: bytes, message: str) -> None:
    texts = write_texts(tmp_path / "t.jsonl", records())
    lines = texts.read_bytes().splitlines()
    lines[6] = line
    texts.write_bytes(b"\n".join(lines))
    count, error = collect(write_vectors(tmp_path / "v.npy", unit()), texts)
    assert (count, error.startswith(f"{texts}:7: {message}")) == (2, True)


@pytest.mark.parametrize("name", KINDS)
def test_files_of_different_length(tmp_path: Path, name: str) -> None:
    texts = write_texts(tmp_path / "t.jsonl", records())
    count, error = collect(write_vectors(tmp_path / name, unit(7)), texts)
    assert count == 2
    assert f"{texts}:8: no vector for this text: {tmp_path / name} has 7 rows" in error
    count, error = collect(write_vectors(tmp_path / name, unit(9)), texts)
    assert count == 2
    assert f"{texts}: 8 texts, but {tmp_path / name} has 9 rows" in error


@pytest.mark.parametrize("name", KINDS)
def test_a_truncated_file_of_vectors(tmp_path: Path, name: str) -> None:
    path = write_vectors(tmp_path / name, unit())
    path.write_bytes(path.read_bytes()[:-5000])
    count, error = collect(path, write_texts(tmp_path / "t.jsonl", records()))
    assert count == 0
    assert error.startswith(f"{path}: truncated, or not a")


@pytest.mark.parametrize("name", KINDS)
def test_files_that_are_missing_or_something_else(tmp_path: Path, name: str) -> None:
    texts = write_texts(tmp_path / "t.jsonl", records())
    assert collect(tmp_path / name, texts) == (0, f"{tmp_path / name}: no such file")
    (tmp_path / name).write_bytes(b"something else entirely")
    assert "not a" in collect(tmp_path / name, texts)[1]
    (tmp_path / name).write_bytes(b"")
    assert "not a" in collect(tmp_path / name, texts)[1]


def test_unknown_kinds_of_file(tmp_path: Path) -> None:
    path = write_vectors(tmp_path / "v.npy", unit())
    assert "known: .npz, .npy, .parquet" in collect(tmp_path / "v.csv", path)[1]
    assert "known: .jsonl, .jsonl.gz" in collect(path, tmp_path / "t.txt")[1]
    assert "no such file" in collect(path, tmp_path / "t.jsonl")[1]


@pytest.mark.parametrize("name", ["article_index", "chunk_index"])
def test_indices_of_an_npz_must_agree_with_the_texts(tmp_path: Path, name: str) -> None:
    texts = write_texts(tmp_path / "t.jsonl", records())
    indices = {k: np.array([r[k] for r in records()]) for k in ("article_index", "chunk_index")}
    path = write_vectors(tmp_path / "v.npz", unit(), **indices)
    assert len(list(read_articles(path, texts))) == 3
    indices[name][6] += 1
    write_vectors(path, unit(), **indices)
    count, error = collect(path, texts)
    assert count == 2
    assert f"{texts}:7: {name} is" in error
    write_vectors(path, unit(), **{name: np.arange(3)})
    assert f"'{name}' is not one whole number for each vector" in collect(path, texts)[1]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": unit(), "b": unit()}, "2 arrays of two dimensions; it holds: a, b"),
        ({"a": np.arange(3)}, "0 arrays of two dimensions; it holds: a"),
        ({"vectors": unit().ravel()}, "not a table of float16, float32 or float64"),
        ({"vectors": np.ones((8, 768), dtype=np.int64)}, "not a table of float16"),
        ({"vectors": np.array([{}])}, "truncated, or not a npz file"),
    ],
)
def test_archives_without_vectors(
    tmp_path: Path, arrays: dict[str, np.ndarray], message: str
) -> None:
    path = tmp_path / "v.npz"
    np.savez(path, allow_pickle=True, **arrays)
    assert message in collect(path, write_texts(tmp_path / "t.jsonl", records()))[1]


def test_parquet_without_a_column_of_vectors(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    texts = write_texts(tmp_path / "t.jsonl", records())
    path = tmp_path / "v.parquet"
    parquet.write_table(pa.table({"id": [1, 2]}), path)
    assert "0 columns could hold the vectors" in collect(path, texts)[1]
    table = {"a": unit().tolist(), "b": unit().tolist()}
    parquet.write_table(pa.table(table), path)
    assert "2 columns could hold the vectors" in collect(path, texts)[1]
