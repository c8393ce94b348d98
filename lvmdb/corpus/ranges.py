"""A source in ranges of places: what one process claims, and commits as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from lvmdb.corpus.articles import RawArticle
from lvmdb.corpus.plan import IngestPlan
from lvmdb.corpus.readers.base import numbered
from lvmdb.errors import InputError

_FAR = 4096
"""Places that are rather passed over by the reader, from the source's beginning, than read."""


@dataclass(eq=False)
class Range:
    """Some articles of a source, one after the other.

    Attributes:
        ordinal: its number, from 0.
        articles: that could be read.
        broken: why the others could not.
        ended: whether the source ends in it, or before it.
    """

    ordinal: int
    articles: list[RawArticle] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    ended: bool = False

    @property
    def read(self) -> int:
        """How many places it has."""
        return len(self.articles) + len(self.broken)


class Ranges:
    """The ranges of a plan's source, by number; those behind the last one come cheapest."""

    def __init__(self, plan: IngestPlan) -> None:
        self._plan = plan
        self._items: Iterator[tuple[int, RawArticle | InputError]] | None = None
        self._next: tuple[int, RawArticle | InputError] | None = None

    def get(self, ordinal: int) -> Range:
        """The articles of one range.

        Raises:
            InputError: one of them is broken, and the plan does not pass over such.
        """
        first = ordinal * self._plan.range_articles
        stop = first + self._plan.range_articles
        found = Range(ordinal)
        self._seek(first)
        while (item := self._next) is not None and item[0] < stop:
            if item[0] >= first:
                if isinstance(item[1], InputError):
                    found.broken.append(str(item[1]))
                else:
                    found.articles.append(item[1])
            self._advance()
        found.ended = self._next is None
        return found

    def _seek(self, first: int) -> None:
        """Be at a place or before it."""
        at = self._next[0] if self._next is not None else None
        if at is not None and at <= first <= at + _FAR:
            return
        self._items = self._read(first)
        self._advance()

    def _advance(self) -> None:
        assert self._items is not None, "as _seek left it"
        self._next = next(self._items, None)

    def _read(self, start: int) -> Iterator[tuple[int, RawArticle | InputError]]:
        """Places from `start` on, each with its article or its error."""
        plan = self._plan
        errors: list[tuple[int, InputError]] = []
        articles = numbered(
            plan.reader,
            plan.source,
            start=start,
            limit=plan.limit,
            on_error=(lambda place, error: errors.append((place, error)))
            if plan.skip_broken
            else None,
        )
        for place, article in articles:
            yield from errors
            errors.clear()
            yield place, article
        yield from errors
