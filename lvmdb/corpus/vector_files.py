"""Vectors made elsewhere, with their texts: two files read side by side, and nothing guessed.

Row k of the vectors (NPZ, NPY or Parquet) belongs to the k-th line of the texts (JSONL). What does
not fit is an error that names file and line or row, both counted from 1; an article is given whole
or not at all.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvmdb.corpus.articles import VectorArticle, Vectors
from lvmdb.corpus.readers.jsonl import Record, json_lines, optional_text, required_text
from lvmdb.corpus.tagging import GIVEN
from lvmdb.corpus.tmd import Code, parse_code
from lvmdb.corpus.vector_rows import VectorRows, open_vectors
from lvmdb.errors import InputError

NORM_TOLERANCE = 0.01
"""How far from 1 a norm may be by rounding (to float16, say) alone."""


@dataclass
class _Article:
    """The article that is being collected."""

    index: int
    key: str
    given_key: str | None
    title: str
    url: str | None
    where: str
    first_row: int
    texts: list[str] = field(default_factory=list)
    codes: list[Code | None] = field(default_factory=list)


def read_articles(
    vectors_path: Path, texts_path: Path, *, normalise: bool = False
) -> Generator[VectorArticle]:
    """The articles of an import, in the order of the files.

    A line of the texts is an object with `article_title`, `article_index`, `chunk_index`,
    `concept_text`, and optionally `article_key` and `url` (the same, like the title, in all lines
    of an article) and `tmd_code` (of the concept, as `7.0.5`). The source key is `article_key`
    where it is given, else `article_index` as text: titles need not be unique, and to know whether
    they are would take a pass of its own.

    Vectors within 1 % of unit norm are normalised in float32. Memory is bounded by the largest
    article, but for NPZ, which numpy reads as a whole.

    Args:
        vectors_path: `.npz` (the array `vectors`, or the only one of two dimensions; where it has
            `article_index` and `chunk_index`, they must agree with the texts), `.npy`, or
            `.parquet` (the column `vector`, `embedding` or `concept_vec`, or the only one of lists
            of floats). float16, float32 or float64.
        texts_path: `.jsonl` or `.jsonl.gz`.
        normalise: accept any norm but zero.

    Raises:
        InputError: see the module's docstring.
        MissingDependencyError: a Parquet file, and pyarrow is not installed.
    """
    with open_vectors(vectors_path) as rows:
        seen: set[int] = set()
        keys: set[str] = set()
        article: _Article | None = None
        row = 0
        for line, record in json_lines(texts_path):
            where = f"{texts_path}:{line}"
            if row >= rows.count:
                raise InputError(
                    f"{where}: no vector for this text: {vectors_path} has {rows.count} rows;"
                    " one of the two files is truncated or belongs to another"
                )
            index = _count(where, record, "article_index")
            position = _count(where, record, "chunk_index")
            rows.check_indices(where, row, index, position)
            if article is None or article.index != index:
                if article is not None:
                    yield _finish(article, rows, normalise)
                article = _begin(where, record, index, row, seen, keys)
            _append(where, record, position, article)
            row += 1
        if row < rows.count:
            raise InputError(
                f"{texts_path}: {row} texts, but {vectors_path} has {rows.count} rows;"
                " one of the two files is truncated or belongs to another"
            )
        if article is not None:
            yield _finish(article, rows, normalise)


def _begin(
    where: str, record: Record, index: int, row: int, seen: set[int], keys: set[str]
) -> _Article:
    if index in seen:
        raise InputError(f"{where}: article_index {index} returns after another article began")
    seen.add(index)
    title = _text(where, record, "article_title")
    given = optional_text(where, record, "article_key")
    key = given if given is not None else str(index)
    if key in keys:
        raise InputError(f"{where}: the article_key '{key}' is that of an earlier article")
    keys.add(key)
    return _Article(index, key, given, title, optional_text(where, record, "url"), where, row)


def _append(where: str, record: Record, position: int, article: _Article) -> None:
    if position != len(article.texts):
        raise InputError(
            f"{where}: chunk_index is {position}, not {len(article.texts)}: within an article it"
            " counts 0, 1, 2 ..."
        )
    # What equals the first line's title and key was checked there.
    if record.get("article_title") != article.title:
        _text(where, record, "article_title")
        raise InputError(f"{where}: article {article.index} has another title than its first line")
    if record.get("article_key") != article.given_key:
        key = optional_text(where, record, "article_key")
        if (key if key is not None else str(article.index)) != article.key:
            raise InputError(
                f"{where}: article {article.index} has another article_key than before"
            )
    article.texts.append(_text(where, record, "concept_text"))
    code = optional_text(where, record, "tmd_code")
    article.codes.append(None if code is None else parse_code(where, code))


def _finish(article: _Article, rows: VectorRows, normalise: bool) -> VectorArticle:
    vectors = rows.take(len(article.texts))
    coded = any(code is not None for code in article.codes)
    return VectorArticle(
        source_key=article.key,
        title=article.title,
        url=article.url,
        texts=tuple(article.texts),
        source=article.where,
        vectors=unit_vectors(vectors, str(rows.path), article.first_row, normalise=normalise),
        codes=tuple(article.codes) if coded else None,
        tagger=GIVEN if coded else None,
    )


def unit_vectors(
    vectors: NDArray[Any], file: str, first_row: int = 0, *, normalise: bool = False
) -> Vectors:
    """The vectors, checked and normalised: `(n, 768)` float32.

    Args:
        vectors: `(n, 768)` of any float type.
        file: for messages.
        first_row: the row in that file of the first vector, from 0.
        normalise: accept any norm but zero.

    Raises:
        InputError: a row has NaN or infinite numbers, zero norm, or a norm more than 1 % off 1.
    """
    with np.errstate(over="ignore"):
        values = vectors.astype(np.float32).astype(np.float64)
    # In float64 no square of a float32 overflows: the norm is finite where all numbers are.
    norms = np.sqrt(np.add.reduce(values * values, axis=1, keepdims=True))
    finite: NDArray[np.bool_] = np.isfinite(norms[:, 0])
    tolerance = np.inf if normalise else NORM_TOLERANCE
    bad = np.asarray(~finite | (norms[:, 0] == 0) | (np.abs(norms[:, 0] - 1) > tolerance))
    if bad.any():
        k = int(bad.argmax())
        where = f"{file}: row {first_row + k + 1}"
        if not finite[k]:
            raise InputError(f"{where}: the vector has NaN or infinite numbers")
        if norms[k, 0] == 0:
            raise InputError(f"{where}: the vector has zero norm")
        raise InputError(
            f"{where}: the vector's norm is {norms[k, 0]:.4g}, not 1: pass --normalize to scale it"
        )
    values /= norms
    return values.astype(np.float32)


def _text(where: str, record: Record, key: str) -> str:
    value = required_text(where, record, key)
    if "\0" in value:
        raise InputError(f"{where}: `{key}` has a NUL character, which PostgreSQL cannot hold")
    return value


def _count(where: str, record: Record, key: str) -> int:
    if key not in record:
        raise InputError(f"{where}: `{key}` is missing")
    value = record[key]
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InputError(f"{where}: `{key}` is not a whole number from 0 up: {value!r}")
    return value
