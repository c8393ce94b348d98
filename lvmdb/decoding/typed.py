"""A text that somebody types, as the concepts of a dataset: cut as its articles were, encoded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from lvmdb.corpus.articles import Vectors
from lvmdb.corpus.chunker import Chunker, get_chunker
from lvmdb.db.engine import Database
from lvmdb.db.queries import query
from lvmdb.errors import UsageError

DEFAULT = "sentence"
"""The chunker of datasets whose concepts were imported: nobody has cut them here."""


class Encodes(Protocol):
    """An encoder, as far as chunkers use it."""

    def encode(self, texts: Sequence[str], /) -> Vectors: ...


def dataset_chunker(
    db: Database, dataset: str, encoder: Encodes | None = None
) -> tuple[Chunker, bool]:
    """The chunker of a dataset's newest ingest, and whether it had one.

    Args:
        db: the database.
        dataset: which.
        encoder: for chunkers that compare the vectors of sentences.
    """
    with db.connect() as connection:
        options: dict[str, Any] | None = connection.execute(
            query("decoding", "ingest_options"), {"dataset": dataset}
        ).scalar_one_or_none()
    if options is None:
        return get_chunker(DEFAULT), False
    name = str(options["chunker"])
    embed = encoder.encode if encoder is not None else None
    known = get_chunker(name, embed=embed).options
    given = {option: value for option, value in options.items() if option in known}
    return get_chunker(name, embed=embed, **given), True


def concepts_of(chunker: Chunker, text: str) -> list[str]:
    """The concepts of a text; one that is too short for the chunker is a concept as it is.

    Raises:
        UsageError: there is no text.
    """
    whole = " ".join(text.replace("\0", "").split())
    if not whole:
        raise UsageError("--text is empty: give a sentence or more")
    return chunker.chunk(text) or [whole]
