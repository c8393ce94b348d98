"""A source in ranges of places: what one process claims, and commits as a whole."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

from lvmdb.corpus.articles import RawArticle
from lvmdb.corpus.plan import IngestPlan
from lvmdb.errors import InputError


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
        self._articles: Iterator[RawArticle] = iter(())
        self._place: int | None = None
        # What was read and not given out yet, with its place.
        self._read: deque[tuple[int, RawArticle | InputError]] = deque()

    def get(self, ordinal: int) -> Range:
        """The articles of one range.

        Raises:
            InputError: one of them is broken, and the plan does not pass over such.
        """
        first = ordinal * self._plan.range_articles
        stop = first + self._plan.range_articles
        found = Range(ordinal)
        self._seek(first)
        while self._read and self._read[0][0] < stop:
            _, item = self._read.popleft()
            if isinstance(item, InputError):
                found.broken.append(str(item))
            else:
                found.articles.append(item)
            self._fill()
        found.ended = not self._read
        return found

    def _seek(self, first: int) -> None:
        """Go on at a place. What lies before it, in ranges of others, is not made into articles."""
        self._forget(first)
        behind = self._read[0][0] if self._read else self._place
        if behind is None or behind > first:
            self._open(first)
        self._fill(first)

    def _forget(self, first: int) -> None:
        while self._read and self._read[0][0] < first:
            self._read.popleft()

    def _open(self, first: int) -> None:
        plan = self._plan
        self._place = first
        self._read.clear()
        self._articles = plan.reader(
            plan.source,
            start=first,
            limit=plan.limit,
            on_error=self._add if plan.skip_broken else None,
        )

    def _fill(self, first: int = 0) -> None:
        """Read on, from a place, until there is something or the source ends."""
        ended = False
        while not self._read and not ended and self._place is not None:
            over = first - self._place
            try:
                if over > 0 and isinstance(self._articles, Generator):
                    self._place = first
                    self._add(self._articles.send(over))
                else:
                    self._add(next(self._articles))
            except StopIteration:
                ended = True
            self._forget(first)  # of a reader that cannot pass over

    def _add(self, item: RawArticle | InputError) -> None:
        assert self._place is not None, "something is being read"
        self._read.append((self._place, item))
        self._place += 1
