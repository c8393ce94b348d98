"""Decoders by name, with what they need: an index, a threshold, the decoding service."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection, select

from lvmdb.corpus.articles import Vectors
from lvmdb.db.engine import Database
from lvmdb.db.schema.corpus import encoder
from lvmdb.decoding.auto import AutoDecoder
from lvmdb.decoding.calibration import stored_threshold
from lvmdb.decoding.decoded import Decoder
from lvmdb.decoding.inverting import InvertingDecoder
from lvmdb.decoding.nearest import NearestDecoder
from lvmdb.decoding.spaces import Space, fingerprint_of, stored_fingerprint
from lvmdb.decoding.vec2text import BEAM, STEPS, Inverted, Vec2Text
from lvmdb.errors import EncoderError, EndpointError, UnknownNameError
from lvmdb.retrieval.searcher import Searcher
from lvmdb.settings import Settings

METHODS = ("auto", "nearest", "vec2text")


@dataclass(frozen=True)
class DecodingOptions:
    """How vectors are decoded.

    Attributes:
        method: one of `METHODS`.
        k: concepts that are found for each vector.
        steps, beam: of vec2text.
    """

    method: str = "auto"
    k: int = 5
    steps: int = STEPS
    beam: int = BEAM

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UnknownNameError("way to decode", self.method, METHODS)


@contextmanager
def decoder(
    db: Database,
    settings: Settings,
    searcher: Searcher,
    encoder_id: int,
    options: DecodingOptions,
    say: Callable[[str], object],
) -> Iterator[Decoder]:
    """A decoder of a dataset's vectors, for one thread.

    Args:
        db: the database.
        settings: where the decoding service is.
        searcher: of the dataset.
        encoder_id: of the vectors.
        options: which decoder, and how.
        say: told in one line what `auto` must make do without.

    Raises:
        EncoderError: vec2text was asked for, and the encoder has no fingerprint.
        EndpointError: vec2text was asked for, and the service is not there or not ready.
    """
    nearest = NearestDecoder(searcher, options.k)
    if options.method == "nearest":
        yield nearest
        return
    with db.connect() as connection:
        threshold = stored_threshold(connection, searcher.dataset, encoder_id)
    if options.method == "auto" and threshold is None:
        say(
            f"no threshold is calibrated for dataset '{searcher.dataset}', so that each text is "
            "the nearest concept's: run 'lvmdb decode calibrate --run-id N'"
        )
        yield AutoDecoder(nearest, None, None)
        return
    with Vec2Text.from_settings(settings, steps=options.steps, beam=options.beam) as client:
        try:
            client.require_ready()
            written = InvertingDecoder(_invert(db, client, encoder_id))
        except (EncoderError, EndpointError) as error:
            if options.method == "vec2text":
                raise
            say(f"below a cosine of {threshold:.2f} texts stay the nearest concept's: {error}")
            yield AutoDecoder(nearest, None, threshold, lacks=f"no vec2text: {error}")
            return
        yield written if options.method == "vec2text" else AutoDecoder(nearest, written, threshold)


def depends_on(
    db: Database, settings: Settings, searcher: Searcher, encoder_id: int, options: DecodingOptions
) -> str:
    """What a decoder's texts depend on beside the dataset: only those that agree in it compare.

    That is the index, the threshold of `auto`, and which corrector of vec2text's writes, in how
    many steps and how wide a beam.

    Args:
        db, settings, searcher, encoder_id, options: as `decoder` was given them.

    Raises:
        EncoderError, EndpointError: as `decoder`.
    """
    index = searcher.index.name if searcher.index else ""
    if options.method == "nearest":
        return index
    with db.connect() as connection:
        threshold = stored_threshold(connection, searcher.dataset, encoder_id)
    if options.method == "auto" and threshold is None:
        return f"{index} without a threshold"
    with Vec2Text.from_settings(settings, steps=options.steps, beam=options.beam) as client:
        try:
            with db.connect() as connection:
                space, probes = _space(connection, encoder_id)
            by = f"{client.written_by(probes[:1], space)} {options.steps} {options.beam}"
        except (EncoderError, EndpointError):
            if options.method == "vec2text":
                raise
            by = "no vec2text"
    return by if options.method == "vec2text" else f"{index} {threshold} {by}"


def _invert(db: Database, client: Vec2Text, encoder_id: int) -> partial[list[Inverted]]:
    with db.connect() as connection:
        space, _ = _space(connection, encoder_id)
    return partial(client.decode, encoder=space)


def _space(connection: Connection, encoder_id: int) -> tuple[Space, Vectors]:
    """The space of an encoder's vectors, and the vectors of its probe sentences `(n, 768)`."""
    name = connection.execute(
        select(encoder.c.name).where(encoder.c.encoder_id == encoder_id)
    ).scalar_one()
    probes = stored_fingerprint(connection, name)
    return Space(name, fingerprint_of(probes)), probes
