"""The models of a service: its encoder, held against its fingerprint, and its tagger."""

from __future__ import annotations

from collections.abc import Sequence

from lvmdb.corpus import encoders
from lvmdb.corpus.articles import Vectors
from lvmdb.corpus.embedding_tagger import EmbeddingTagger
from lvmdb.corpus.encoder import Encoder
from lvmdb.corpus.http import Patience
from lvmdb.corpus.llm import Llm
from lvmdb.corpus.llm_tagger import LlmTagger
from lvmdb.corpus.tagging import TAGGERS, Tagger
from lvmdb.db.engine import Database
from lvmdb.errors import EncoderError, UnknownNameError
from lvmdb.services.options import ServiceOptions
from lvmdb.services.parts import Part
from lvmdb.services.problems import ProblemError
from lvmdb.services.work import Deadline

PATIENCE = Patience(answer_s=25.0, tries=2)
"""With a language model: callers of the service wait as well, and can ask again."""

NO_ENCODER = "none"
"""Asks for concepts without vectors."""


def encoder_part(db: Database, options: ServiceOptions) -> Part[Encoder]:
    """The encoder, as a part that is loaded in the background."""
    loaded: list[Encoder] = []

    def load() -> Encoder:
        name = encoder_name(db, options)
        if not loaded:
            loaded.append(encoders.load(db, options.settings, name))
        with db.begin() as connection:
            encoders.register(connection, loaded[0])
        return loaded[0]

    return Part("encoder", load)


def tagger_part(options: ServiceOptions, encoder: Part[Encoder]) -> Part[Tagger]:
    """The tagger, as a part that is loaded in the background.

    Args:
        options: of the service.
        encoder: whose vectors the tagger `embedding` compares; others do not wait for it.

    Raises:
        UnknownNameError: there is none of that name.
    """
    if options.tagger not in TAGGERS:
        raise UnknownNameError("tagger", options.tagger, TAGGERS)

    def load() -> Tagger:
        if options.tagger == LlmTagger.name:
            return LlmTagger(Llm.from_settings(options.settings, patience=PATIENCE))
        tagger = EmbeddingTagger(encoder.wait().encode)
        # The labels' definitions are encoded now, not at the first request.
        tagger.decide(encoder.wait().encode(["warm"]))
        return tagger

    return Part("tagger", load)


def vectors_of(encoder: Encoder, texts: Sequence[str], deadline: Deadline) -> Vectors:
    """Vectors `(len(texts), 768)` of what a caller sent.

    Raises:
        ProblemError: 422, a text has no vector.
        EndpointError: the encoder is behind an endpoint, which failed.
    """
    try:
        return encoder.encode(texts, deadline.check)
    except EncoderError as error:
        raise ProblemError(422, "not_encodable", str(error)) from error


def encoder_name(db: Database, options: ServiceOptions) -> str:
    """The encoder that was asked for; else that of the dataset; else lvmdb's default.

    Raises:
        EncoderError: the dataset has another encoder than was asked for.
        ConnectionLostError: the database does not answer.
    """
    present = None
    if options.dataset is not None:
        with db.connect() as connection:
            present = encoders.of_dataset(connection, options.dataset)
    if options.encoder is not None and present not in (None, options.encoder):
        raise EncoderError(
            f"dataset '{options.dataset}' has vectors of the encoder '{present}', not of "
            f"'{options.encoder}': leave out --encoder, or name another dataset"
        )
    return options.encoder or present or encoders.DEFAULT_ENCODER
