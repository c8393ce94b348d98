"""Decoding by the index: the text of the nearest concept.

    with Searcher(db, "wiki") as searcher:
        (decoded,) = NearestDecoder(searcher).decode(vectors, without=[context_ids])

A text that exists is always fluent and says something that somebody wrote; how near it is to what
was meant is its cosine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from time import perf_counter
from uuid import UUID

from lvmdb.corpus.articles import Vectors
from lvmdb.db.nearest import Filter
from lvmdb.decoding.decoded import Decoded, band
from lvmdb.errors import UsageError
from lvmdb.retrieval.found import MOST, Found, Hit
from lvmdb.retrieval.searcher import Searcher

_SPARE = 16
"""Concepts asked for beyond k where some are left out: of a hundred that are left out few are among
the nearest, and to ask again is dearer than to ask for a few more."""

_REMEMBERED = 50_000
"""Texts of concepts that were left out, kept so that they are not asked for at each step."""


class NearestDecoder:
    """Decodes by a dataset's index; for the thread that has the searcher.

    Args:
        searcher: of the dataset; it stays its owner's to close.
        k: concepts to find for each vector, at most.

    Raises:
        UsageError: k is not from 1 to 999.
    """

    def __init__(self, searcher: Searcher, k: int = 5) -> None:
        if not 1 <= k <= MOST:
            raise UsageError(f"-k is from 1 to {MOST}, not {k}")
        self.searcher = searcher
        self.k = k
        self._texts: dict[UUID, str] = {}

    def decode(
        self, vectors: Vectors, *, without: Sequence[Sequence[UUID]] | None = None
    ) -> list[Decoded]:
        """The text of the concept that is nearest to each vector; see `Decoder`.

        A concept with the text of one that is left out is left out as well: a corpus says some
        things twice ("See also"), and none is news. Where nothing is left, the text is empty, the
        cosine NaN and the band `unsure`.
        """
        began = perf_counter()
        if len(self._texts) > _REMEMBERED:
            self._texts.clear()
        if not len(vectors):
            return []
        left_out = [frozenset(ids) for ids in without] if without is not None else None
        if left_out is not None and len(left_out) != len(vectors):
            raise UsageError(f"{len(vectors)} vectors need as many lists of what to leave out")
        excluding = left_out is not None and any(left_out)
        k = min(MOST, self.k + _SPARE) if excluding else self.k
        found, search = self._found(vectors, k), perf_counter()
        if left_out is None or not excluding:
            hits = self._hits(found)
        else:
            # Texts of what was found and of what is left out come in one go.
            hits = self._hits(found, [each for ids in left_out for each in ids])
            hits = [
                self._left(vectors[row], each, left_out[row], self._named(left_out[row]))
                for row, each in enumerate(hits)
            ]
        share = 1 / len(vectors)
        seconds = {
            "search": (search - began) * share,
            "decode": (perf_counter() - search) * share,
        }
        return [_decoded(each, seconds) for each in hits]

    def _found(self, vectors: Vectors, k: int) -> list[Found]:
        if len(vectors) == 1:
            return [self.searcher.nearest(vectors[0], k)]
        many = self.searcher.batch(vectors, k)
        return [
            Found(
                tuple(many.ids(row)),
                tuple(float(each) for each in many.cosine[row, : many.counts[row]]),
                row in many.exact,
            )
            for row in range(len(vectors))
        ]

    def _hits(self, found: Sequence[Found], also: Sequence[UUID] = ()) -> list[list[Hit]]:
        """What was found, in words, by one statement; the words of others are remembered."""
        named = dict.fromkeys(each for one in found for each in one.cpe_ids)
        named |= dict.fromkeys(each for each in also if each not in self._texts)
        if not named:
            return [[] for _ in found]
        read = self.searcher.texts(Found(tuple(named), (0.0,) * len(named), True))
        known = {hit.cpe_id: hit for hit in read}
        # What is found now may be left out at the next step.
        self._remember(read)
        return [
            [
                _at(known[cpe_id], cosine)
                for cpe_id, cosine in zip(one.cpe_ids, one.cosines, strict=True)
                # What was deleted since is not there any more.
                if cpe_id in known
            ]
            for one in found
        ]

    def _left(
        self, vector: Vectors, hits: list[Hit], ids: frozenset[UUID], texts: frozenset[str]
    ) -> list[Hit]:
        """The k nearest that are not left out; the search goes on while there are too few."""
        asked = self.k + _SPARE
        kept = _kept(hits, ids, texts)
        while len(kept) < self.k and len(hits) >= min(asked, MOST) and asked < MOST:
            asked = min(MOST, asked * 4)
            (hits,) = self._hits([self.searcher.nearest(vector, asked)])
            kept = _kept(hits, ids, texts)
        if len(kept) < self.k and asked >= MOST:
            # Almost all that is near is left out: the database leaves it out.
            only = Filter(without=tuple(ids))
            (hits,) = self._hits([self.searcher.nearest(vector, MOST, only=only)])
            kept = _kept(hits, ids, texts)
        return kept[: self.k]

    def _named(self, ids: frozenset[UUID]) -> frozenset[str]:
        """The texts of concepts that have been read."""
        return frozenset(self._texts[each] for each in ids if each in self._texts)

    def _remember(self, hits: Sequence[Hit]) -> None:
        self._texts.update((hit.cpe_id, same_text(hit.concept_text)) for hit in hits)


def same_text(text: str) -> str:
    """What texts have in common that say the same: case and spaces do not count."""
    return " ".join(text.split()).casefold()


def _kept(hits: Sequence[Hit], ids: frozenset[UUID], texts: frozenset[str]) -> list[Hit]:
    return [
        hit for hit in hits if hit.cpe_id not in ids and same_text(hit.concept_text) not in texts
    ]


def _at(hit: Hit, cosine: float) -> Hit:
    return Hit(hit.cpe_id, hit.title, hit.article_id, hit.seq, hit.concept_text, cosine)


def _decoded(hits: Sequence[Hit], seconds: dict[str, float]) -> Decoded:
    cosine = hits[0].cosine if hits else math.nan
    text = hits[0].concept_text if hits else ""
    return Decoded(text, "nearest", cosine, band(cosine), hits, seconds)
