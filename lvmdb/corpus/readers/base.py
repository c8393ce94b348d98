"""What a reader is: a source of text as a stream of articles, each with its place.

The *place* of an article is its number in the source, from 0. It depends on nothing but the
source, so that processes can share the work by ranges of places. Each place gives an article or
an error, never both and never neither: repairing an article moves no other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Protocol

from lvmdb.corpus.articles import RawArticle
from lvmdb.errors import InputError, UsageError

OnError = Callable[[InputError], None]

Place = Callable[[], RawArticle]
"""Makes the article of one place, or raises its `InputError`; what is passed over is not made."""


class Reader(Protocol):
    """Reads the articles of a source: streaming, in an order and with keys that never change.

    Args:
        source: a path, or what else the reader's docstring says.
        start: the place to begin at; the articles before it are passed over as cheaply as the
            source allows, and their errors with them.
        limit: the source ends behind this many places, counted from its beginning.
        on_error: receives the error of each place that has one, and reading goes on behind it;
            without it the first is raised. A source that is missing, truncated or empty is raised
            in any case.

    An article's `text` is blank where nothing of its source is prose.
    """

    def __call__(
        self,
        source: str | Path,
        *,
        start: int = 0,
        limit: int | None = None,
        on_error: OnError | None = None,
    ) -> Iterator[RawArticle]: ...


def numbered(
    reader: Reader,
    source: str | Path,
    *,
    start: int = 0,
    limit: int | None = None,
    on_error: Callable[[int, InputError], None] | None = None,
) -> Iterator[tuple[int, RawArticle]]:
    """What a reader gives, with each article's place; `on_error` is told the place as well."""
    place = start

    def passed_on(error: InputError) -> None:
        nonlocal place
        if on_error is None:
            raise error
        on_error(place, error)
        place += 1

    for article in reader(source, start=start, limit=limit, on_error=passed_on):
        yield place, article
        place += 1


def made(
    places: Iterable[Place], start: int, limit: int | None, on_error: OnError | None
) -> Generator[RawArticle, int | None]:
    """The articles of `places` from `start` to `limit`; for readers, which `yield from` it.

    So whoever reads can `send` a number of places that are passed over, and not made, before the
    next article.

    Raises:
        UsageError: `start` is negative.
        InputError: without `on_error`, that of the first place that has one.
    """
    if start < 0:
        raise UsageError(f"reading starts at article 0 or later, not at {start}")
    if limit is not None and limit <= start:
        return
    wanted = islice(places, start, limit)
    for make in wanted:
        try:
            article = make()
        except InputError as error:
            report(error, on_error)
            continue
        passed_over = yield article
        if passed_over:
            deque(islice(wanted, passed_over), maxlen=0)


def given(article: RawArticle) -> Place:
    """The place of an article that is made already."""
    return lambda: article


def broken(error: InputError) -> Place:
    """The place of an article that cannot be made."""

    def raising() -> RawArticle:
        raise error

    return raising


def report(error: InputError, on_error: OnError | None) -> None:
    """Hands an error to `on_error`, or raises it where there is none."""
    if on_error is None:
        raise error
    on_error(error)
