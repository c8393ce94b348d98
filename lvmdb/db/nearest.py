"""Nearest concepts as SQL: one statement for each index, with what it asks for written into it.

A partial index serves a statement that names its dataset literally, and a plan that is made once
must know how many rows are wanted; so neither is a parameter. The one parameter is the vector.
Inside only ids and cosines are touched: texts are joined to what was found.

    SELECT cpe_id, -(concept_vec <#> $1) FROM cpe_entry
    WHERE dataset_source = 'wiki' AND concept_vec IS NOT NULL
    ORDER BY (concept_vec::halfvec(768)) <#> ($1::halfvec(768)) LIMIT 10
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from psycopg import sql

from lvmdb.db.indexes import distance, similarity


@dataclass(frozen=True)
class Filter:
    """Which concepts may be found.

    Attributes:
        article_id: only those of this article.
        tmd: only those with this domain, task and modifier; None stands for any.
        without: never these concepts.
    """

    article_id: int | None = None
    tmd: tuple[int | None, int | None, int | None] | None = None
    without: tuple[uuid.UUID, ...] = ()


EVERYTHING = Filter()


def nearest(
    dataset: str, metric: str, storage: str | None, k: int, among: int, only: Filter = EVERYTHING
) -> sql.Composed:
    """The statement for the k nearest of the vector $1: `cpe_id`, `cosine`, in no order.

    Args:
        dataset: which.
        metric: `ip` or `cosine`.
        storage: that of the index; None compares with every vector.
        k: how many.
        among: of a `bit` index, how many candidates are ranked by the full vectors.
        only: which concepts.
    """
    return _nearest(sql.SQL("$1::vector"), dataset, metric, storage, k, among, only)


def nearest_of_many(
    dataset: str, metric: str, storage: str | None, k: int, among: int
) -> sql.Composed:
    """The statement for the k nearest of each of the vectors $1, in no order: in one value of bytes
    the place of the vector, from 1 (bigint), the cosine (double precision) and `cpe_id`."""
    inner = _nearest(sql.SQL("q.v"), dataset, metric, storage, k, among, EVERYTHING)
    return sql.SQL(
        "SELECT int8send(q.n) || float8send(h.cosine) || uuid_send(h.cpe_id) "
        "FROM unnest($1::vector[]) WITH ORDINALITY AS q (v, n) CROSS JOIN LATERAL ({}) AS h"
    ).format(inner)


def _nearest(
    query: sql.Composable,
    dataset: str,
    metric: str,
    storage: str | None,
    k: int,
    among: int,
    only: Filter,
) -> sql.Composed:
    conditions = sql.SQL(" AND ").join(_conditions(dataset, only))
    exactly = similarity(metric, query)
    # The cosine is of what was found, in whatever order.
    cosine = similarity("cosine", query)
    if storage is None or storage == "bit":
        order, limit = sql.SQL("{} DESC").format(exactly), k
        if storage == "bit":
            order, limit = distance(storage, metric, query), max(k, among)
        return sql.SQL(
            "SELECT cpe_id, {} AS cosine FROM (SELECT cpe_id, concept_vec FROM cpe_entry "
            "WHERE {} ORDER BY {} LIMIT {}) AS candidates ORDER BY {} DESC LIMIT {}"
        ).format(
            cosine, conditions, order, sql.Literal(limit), exactly, sql.Literal(k)
        )  # fmt: skip
    return sql.SQL(
        "SELECT cpe_id, {} AS cosine FROM cpe_entry WHERE {} ORDER BY {} LIMIT {}"
    ).format(cosine, conditions, distance(storage, metric, query), sql.Literal(k))


def matching(dataset: str, only: Filter, most: int) -> sql.Composed:
    """The statement that counts the concepts that may be found, up to a number."""
    return sql.SQL(
        "SELECT count(*) FROM (SELECT FROM cpe_entry WHERE {} LIMIT {}) AS left_over"
    ).format(sql.SQL(" AND ").join(_conditions(dataset, only)), sql.Literal(most))


def _conditions(dataset: str, only: Filter) -> list[sql.Composable]:
    found: list[sql.Composable] = [
        sql.SQL("dataset_source = {}").format(sql.Literal(dataset)),
        sql.SQL("concept_vec IS NOT NULL"),
    ]
    if only.article_id is not None:
        found.append(sql.SQL("article_id = {}").format(sql.Literal(only.article_id)))
    if only.tmd is not None:
        # Said so that their index can be used; who has a task or a modifier has a domain.
        found.append(sql.SQL("domain_code IS NOT NULL"))
    columns = ("domain_code", "task_code", "modifier_code")
    for column, code in zip(columns, only.tmd or (None, None, None), strict=True):
        if code is not None:
            found.append(sql.SQL("{} = {}").format(sql.Identifier(column), sql.Literal(code)))
    if only.without:
        listed = sql.Literal(list(only.without))
        found.append(sql.SQL("cpe_id <> ALL ({}::uuid[])").format(listed))
    return found
