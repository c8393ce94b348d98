"""Encoders as rows: registered with a fingerprint, and checked against it before they encode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, insert, select, update

from lvmdb.corpus.encoder import (
    ENDPOINT_KINDS,
    PROBE_SENTENCES,
    Encoder,
    EncoderSpec,
    check_fingerprint,
)
from lvmdb.corpus.endpoint_encoder import EndpointEncoder
from lvmdb.corpus.sentence_encoder import SentenceEncoder
from lvmdb.corpus.t5_encoder import T5Encoder
from lvmdb.corpus.weights import find_weights
from lvmdb.db.engine import Database
from lvmdb.db.queries import query
from lvmdb.db.schema.corpus import dataset, encoder, encoder_probe
from lvmdb.errors import EncoderError, UnknownNameError
from lvmdb.progress import SILENT, Progress
from lvmdb.settings import Settings

DEFAULT_ENCODER = "sentence-transformers/gtr-t5-base"


def load(db: Database, settings: Settings, name: str, *, progress: Progress = SILENT) -> Encoder:
    """The encoder `name`, as its row says; of one that has no row, as the name says.

    Nothing is held against its fingerprint yet: `register` does that.

    Args:
        db: where its row is.
        settings: where folders of models are, and the key of endpoints.
        name: of the encoder.
        progress: told of downloads.

    Raises:
        EncoderError: it is nowhere, or not what its name says.
        EndpointError: its endpoint is not there, or refuses.
    """
    with db.connect() as connection:
        spec = spec_of(connection, name)
    return load_as(settings, spec or EncoderSpec.of_name(name), progress=progress)


def load_as(settings: Settings, spec: EncoderSpec, *, progress: Progress = SILENT) -> Encoder:
    """An encoder by its specification: from a local folder, a cache, the hub or an endpoint.

    Raises:
        EncoderError: it is nowhere, or not what its name says.
        EndpointError: its endpoint is not there, or refuses.
    """
    if spec.kind in ENDPOINT_KINDS:
        return EndpointEncoder.connect(spec, settings.encoder_key)
    folder = find_weights(
        spec.weights,
        models_folder=settings.models,
        cache_folder=settings.home / "models",
        progress=lambda line, done, total: progress.say(f"{line} ({done}/{total})"),
    )
    if spec.kind == "vec2text":
        return T5Encoder.load(folder, spec)
    return SentenceEncoder.load(folder, spec)


def spec_of(connection: Connection, name: str) -> EncoderSpec | None:
    """How an encoder is loaded, as its row says; None if it has none, or is known by name alone."""
    row = connection.execute(select(encoder).where(encoder.c.name == name)).one_or_none()
    if row is None or row.kind is None:
        return None
    precision = None if row.kind in ENDPOINT_KINDS else row.precision
    return EncoderSpec(name, row.kind, row.model, row.endpoint, precision)


def encode_beside(
    db: Database, settings: Settings, dataset_source: str, texts: Sequence[str]
) -> NDArray[np.float32]:
    """Vectors `(len(texts), 768)` of texts, by the encoder of a dataset.

    Raises:
        EncoderError: as `load_beside`.
    """
    return load_beside(db, settings, dataset_source).encode(texts)


def load_beside(
    db: Database,
    settings: Settings,
    dataset_source: str,
    *,
    held: Mapping[str, Encoder] = MappingProxyType({}),
    progress: Progress = SILENT,
) -> Encoder:
    """The encoder of a dataset, loaded, and found to be the one that made its vectors.

    Args:
        db: where the dataset is.
        settings: where folders of models are, and the key of endpoints.
        dataset_source: the dataset.
        held: encoders that are in memory already, by name.
        progress: told of downloads.

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
    loaded = held[name] if name in held else load(db, settings, name, progress=progress)
    check_fingerprint(stored, loaded)
    return loaded


def register(connection: Connection, loaded: Encoder) -> int:
    """The id of a loaded encoder, registered on first sight.

    Raises:
        EncoderError: an encoder of this name gives other vectors, or has no fingerprint yet.
    """
    found = _find(connection, loaded.name)
    if found is None:
        encoder_id: int = connection.execute(
            insert(encoder)
            .values(name=loaded.name, **_described(loaded))
            .returning(encoder.c.encoder_id)
        ).scalar_one()
        write_probes(connection, encoder_id, loaded)
        return encoder_id
    sentences, stored = probes(connection, found)
    if not sentences:
        raise _unverified(loaded.name)
    check_fingerprint(stored, loaded)
    return found


def add(db: Database, loaded: Encoder) -> None:
    """Register a loaded encoder; one that is there is loaded as this one was from now on.

    The fingerprint stays that of the first: nothing can drift away from it step by step.

    Raises:
        EncoderError: an encoder of this name gives other vectors, or has no fingerprint yet.
    """
    with db.begin() as connection:
        found = register(connection, loaded)
        describe(connection, found, loaded)


def register_imported(connection: Connection, name: str) -> int:
    """The id of the encoder of imported vectors, known by name alone if it is new."""
    found = _find(connection, name)
    if found is not None:
        return found
    statement = insert(encoder).values(name=name).returning(encoder.c.encoder_id)
    encoder_id: int = connection.execute(statement).scalar_one()
    return encoder_id


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


def _described(loaded: Encoder) -> dict[str, object]:
    """What a row says of a loaded encoder, but for its name."""
    return {
        "kind": loaded.spec.kind,
        "model": loaded.spec.model,
        "endpoint": loaded.spec.endpoint,
        "precision": loaded.precision,
        "revision": loaded.revision,
        "pooling": loaded.pooling,
        "normalised": loaded.normalised,
        "max_tokens": loaded.max_tokens,
    }


def describe(connection: Connection, encoder_id: int, loaded: Encoder) -> None:
    """Write into an encoder's row what it is and how it was loaded."""
    connection.execute(
        update(encoder).where(encoder.c.encoder_id == encoder_id).values(**_described(loaded))
    )


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
    return [row.sentence for row in rows], stacked([row.probe_vec for row in rows])


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


def write_probes(connection: Connection, encoder_id: int, loaded: Encoder) -> None:
    """Store an encoder's fingerprint."""
    connection.execute(
        insert(encoder_probe),
        [
            {"encoder_id": encoder_id, "ordinal": i, "sentence": sentence, "probe_vec": vector}
            for i, (sentence, vector) in enumerate(
                zip(PROBE_SENTENCES, loaded.probe_vectors(), strict=True)
            )
        ],
    )


def stacked(values: Sequence[str]) -> NDArray[np.float32]:
    """Vectors as `(n, 768)` from pgvector's text form, in which a plain query returns them."""
    return np.array([value[1:-1].split(",") for value in values], dtype=np.float32)
