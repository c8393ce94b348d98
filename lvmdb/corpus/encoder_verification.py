"""`lvmdb encoders verify`: does a loaded model give the vectors that the database has of it?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import literal, or_, select, update

from lvmdb.corpus.encoder import MATCH_COSINE, Encoder, check_fingerprint, other_space
from lvmdb.corpus.encoders import describe, encoder_id_of, probes, stacked, write_probes
from lvmdb.db.engine import Database
from lvmdb.db.queries import query
from lvmdb.db.schema.corpus import dataset
from lvmdb.errors import EncoderError

SAMPLE = 32
"""Concepts that are encoded again where an encoder has no fingerprint yet."""


@dataclass(frozen=True)
class Verification:
    """How near a loaded model comes to what the database has of it.

    Attributes:
        against: `fingerprint`, or `its own concepts` where there was none.
        compared: number of texts.
        lowest: the smallest cosine among them.
    """

    against: str
    compared: int
    lowest: float


def verify(db: Database, loaded: Encoder) -> Verification:
    """Hold a loaded model against its fingerprint, and against concepts that were imported.

    A match gives the encoder a fingerprint if it had none, and makes those datasets verified.

    Raises:
        UnknownNameError: no encoder has this name.
        EncoderError: it does not match, or there is nothing to hold it against.
    """
    with db.begin() as connection:
        found = encoder_id_of(connection, loaded.name)
        sentences, stored = probes(connection, found)
        lowest = [check_fingerprint(stored, loaded)] if sentences else []
        compared = len(sentences)
        imported = connection.execute(
            select(dataset.c.dataset_source)
            .where(dataset.c.encoder_id == found, or_(dataset.c.unverified, literal(not sentences)))
            .order_by(dataset.c.dataset_source)
        ).scalars()
        for name in imported.all():
            rows = connection.execute(
                query("corpus", "sample_concepts"), {"dataset": name, "how_many": SAMPLE}
            ).all()
            if not rows:
                continue
            lowest.append(_lowest(loaded, name, rows))
            compared += len(rows)
            connection.execute(
                update(dataset).where(dataset.c.dataset_source == name).values(unverified=False)
            )
        if not lowest:
            raise EncoderError(f"encoder '{loaded.name}' has no vectors to be held against")
        if not sentences:
            describe(connection, found, loaded)
            write_probes(connection, found, loaded)
    against = "fingerprint" if compared == len(sentences) else "its own concepts"
    return Verification(against, compared, min(lowest))


def _lowest(loaded: Encoder, name: str, rows: Sequence[Any]) -> float:
    again = loaded.encode([row.concept_text for row in rows])
    stored = stacked([row.concept_vec for row in rows])
    cosines = np.einsum("ij,ij->i", again, stored) / np.linalg.norm(stored, axis=1)
    lowest = float(cosines.min())
    if lowest < MATCH_COSINE:
        raise EncoderError(
            f"encoder '{loaded.name}' does not give the vectors of dataset '{name}' again "
            f"(lowest cosine {lowest:.4f} of {len(rows)}): the loaded model is another one, "
            f"or its pooling or normalisation differs{other_space(loaded.spec)}"
        )
    return lowest
