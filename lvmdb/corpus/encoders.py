"""Encoders as rows: registered with a fingerprint, and checked against it before they encode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, insert, literal, or_, select, update

from lvmdb.corpus.encoder import (
    MATCH_COSINE,
    PROBE_SENTENCES,
    SentenceEncoder,
    check_fingerprint,
)
from lvmdb.corpus.weights import find_weights
from lvmdb.db.engine import Database
from lvmdb.db.queries import query
from lvmdb.db.schema.corpus import dataset, encoder, encoder_probe
from lvmdb.errors import EncoderError, UnknownNameError
from lvmdb.progress import SILENT, Progress
from lvmdb.settings import Settings

DEFAULT_ENCODER = "sentence-transformers/gtr-t5-base"

SAMPLE = 32
"""Concepts that `verify` encodes again where an encoder has no fingerprint yet."""


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


def load(
    settings: Settings, name: str, *, model: str | None = None, progress: Progress = SILENT
) -> SentenceEncoder:
    """The encoder `name`, from a local folder, a cache or the hub.

    Args:
        settings: where folders of models are.
        name: of the encoder.
        model: name or folder of its model, where that is not its own name.
        progress: told of downloads.

    Raises:
        EncoderError: it is nowhere, or not what its name says.
    """
    folder = find_weights(
        model or name,
        models_folder=settings.models,
        cache_folder=settings.home / "models",
        progress=lambda line, done, total: progress.say(f"{line} ({done}/{total})"),
    )
    return SentenceEncoder.load(folder, name)


def encode_beside(
    db: Database, settings: Settings, dataset_source: str, texts: Sequence[str]
) -> NDArray[np.float32]:
    """Vectors `(len(texts), 768)` of texts, by the encoder of a dataset.

    Raises:
        EncoderError: as `load_beside`.
    """
    return load_beside(db, settings, dataset_source).encode(texts)


def load_beside(
    db: Database, settings: Settings, dataset_source: str, *, progress: Progress = SILENT
) -> SentenceEncoder:
    """The encoder of a dataset, loaded, and found to be the one that made its vectors.

    Raises:
        EncoderError: the dataset has no vectors, the model is not the one that made them, or
            nobody has held one against them yet.
    """
    with db.connect() as connection:
        name = of_dataset(connection, dataset_source)
        if name is None:
            raise EncoderError(
                f"dataset '{dataset_source}' has no vectors: ingest it with an encoder"
            )
        require_verified(connection, dataset_source)
        sentences, stored = probes(connection, encoder_id_of(connection, name))
    if not sentences:
        raise _unverified(name)
    loaded = load(settings, name, progress=progress)
    check_fingerprint(stored, loaded)
    return loaded


def register(connection: Connection, loaded: SentenceEncoder) -> int:
    """The id of a loaded encoder, registered on first sight.

    Raises:
        EncoderError: an encoder of this name gives other vectors, or has no fingerprint yet.
    """
    found = _find(connection, loaded.name)
    if found is None:
        encoder_id: int = connection.execute(
            insert(encoder)
            .values(
                name=loaded.name,
                revision=loaded.revision,
                pooling=loaded.pooling,
                normalised=loaded.normalised,
                max_tokens=loaded.max_tokens,
            )
            .returning(encoder.c.encoder_id)
        ).scalar_one()
        _write_probes(connection, encoder_id, loaded)
        return encoder_id
    sentences, stored = probes(connection, found)
    if not sentences:
        raise _unverified(loaded.name)
    check_fingerprint(stored, loaded)
    return found


def register_imported(connection: Connection, name: str) -> int:
    """The id of the encoder of imported vectors, known by name alone if it is new."""
    found = _find(connection, name)
    if found is not None:
        return found
    statement = insert(encoder).values(name=name).returning(encoder.c.encoder_id)
    encoder_id: int = connection.execute(statement).scalar_one()
    return encoder_id


def verify(db: Database, loaded: SentenceEncoder) -> Verification:
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
            lowest.append(_lowest_cosine(loaded, name, rows))
            compared += len(rows)
            connection.execute(
                update(dataset).where(dataset.c.dataset_source == name).values(unverified=False)
            )
        if not lowest:
            raise EncoderError(f"encoder '{loaded.name}' has no vectors to be held against")
        if not sentences:
            connection.execute(
                update(encoder)
                .where(encoder.c.encoder_id == found)
                .values(
                    revision=loaded.revision,
                    pooling=loaded.pooling,
                    normalised=loaded.normalised,
                    max_tokens=loaded.max_tokens,
                )
            )
            _write_probes(connection, found, loaded)
    against = "fingerprint" if compared == len(sentences) else "its own concepts"
    return Verification(against, compared, min(lowest))


def mark_unverified(connection: Connection, dataset_source: str) -> None:
    """Vectors were imported: no model has been held against them."""
    connection.execute(
        update(dataset).where(dataset.c.dataset_source == dataset_source).values(unverified=True)
    )


def require_verified(connection: Connection, dataset_source: str) -> None:
    """Refuse to encode text beside imported vectors that no model has been held against.

    Raises:
        EncoderError: they have not been.
    """
    unverified = connection.execute(
        select(dataset.c.unverified).where(dataset.c.dataset_source == dataset_source)
    ).scalar_one_or_none()
    if unverified:
        raise _unverified(of_dataset(connection, dataset_source) or "")


def _lowest_cosine(loaded: SentenceEncoder, name: str, rows: Sequence[Any]) -> float:
    again = loaded.encode([row.concept_text for row in rows])
    stored = _stacked([row.concept_vec for row in rows])
    cosines = np.einsum("ij,ij->i", again, stored) / np.linalg.norm(stored, axis=1)
    lowest = float(cosines.min())
    if lowest < MATCH_COSINE:
        raise EncoderError(
            f"encoder '{loaded.name}' does not give the vectors of dataset '{name}' again "
            f"(lowest cosine {lowest:.4f} of {len(rows)}): the loaded model is another one, "
            "or its pooling or normalisation differs"
        )
    return lowest


def encoder_id_of(connection: Connection, name: str) -> int:
    """The id of the encoder of this name.

    Raises:
        UnknownNameError: there is none.
    """
    rows = {row.name: row.encoder_id for row in connection.execute(select(encoder))}
    if name not in rows:
        hint = None if rows else "there is none yet: 'lvmdb encoders add' or 'lvmdb ingest run'"
        raise UnknownNameError("encoder", name, rows, hint=hint)
    return int(rows[name])


def of_dataset(connection: Connection, dataset_source: str) -> str | None:
    """The name of a dataset's encoder; None if it has none, or is not there."""
    name: str | None = connection.execute(
        select(encoder.c.name)
        .join(dataset, dataset.c.encoder_id == encoder.c.encoder_id)
        .where(dataset.c.dataset_source == dataset_source)
    ).scalar_one_or_none()
    return name


def probes(connection: Connection, encoder_id: int) -> tuple[list[str], NDArray[np.float32]]:
    """The probe sentences of an encoder and their vectors `(sentences, 768)`; empty if none."""
    rows = connection.execute(query("corpus", "probes"), {"encoder_id": encoder_id}).all()
    if not rows:
        return [], np.empty((0, 0), dtype=np.float32)
    return [row.sentence for row in rows], _stacked([row.probe_vec for row in rows])


def _unverified(name: str) -> EncoderError:
    return EncoderError(
        f"the vectors of encoder '{name}' were imported and no model has been held against "
        f"them: run 'lvmdb encoders verify {name}' first"
    )


def _find(connection: Connection, name: str) -> int | None:
    where = encoder.c.name == name
    found: int | None = connection.execute(
        select(encoder.c.encoder_id).where(where)
    ).scalar_one_or_none()
    return found


def _write_probes(connection: Connection, encoder_id: int, loaded: SentenceEncoder) -> None:
    connection.execute(
        insert(encoder_probe),
        [
            {"encoder_id": encoder_id, "ordinal": i, "sentence": sentence, "probe_vec": vector}
            for i, (sentence, vector) in enumerate(
                zip(PROBE_SENTENCES, loaded.probe_vectors(), strict=True)
            )
        ],
    )


def _stacked(values: Sequence[str]) -> NDArray[np.float32]:
    """Vectors as `(n, 768)` from pgvector's text form, in which a plain query returns them."""
    return np.array([value[1:-1].split(",") for value in values], dtype=np.float32)
