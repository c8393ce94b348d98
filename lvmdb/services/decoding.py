"""The decoding service, port 8768: `POST /decode` gives texts for an encoder's vectors.

It has one process of vec2text's, in an environment of its own, with the inverter and the corrector
that belong to the encoder. A process that ends is started again, and meanwhile the service is not
ready. It decodes the vectors of that encoder, and no others.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pydantic_core
from fastapi import APIRouter, FastAPI, Response

from lvmdb.corpus.articles import Vectors
from lvmdb.db.engine import Database
from lvmdb.decoding import correctors, vec2text_environment
from lvmdb.decoding.inverter import Inverter, known_encoder
from lvmdb.decoding.spaces import Space
from lvmdb.decoding.vec2text_child import Child
from lvmdb.errors import EncoderError
from lvmdb.metrics.vectors import cosine
from lvmdb.services.application import application
from lvmdb.services.context import Context
from lvmdb.services.decoding_bodies import DecodeAnswer, Half, NamedDecodeRequest
from lvmdb.services.limits import Limits
from lvmdb.services.models import encoder_name
from lvmdb.services.options import ServiceOptions
from lvmdb.services.parts import Part
from lvmdb.services.problems import ProblemError, documented
from lvmdb.services.requests import StrictRoute
from lvmdb.services.vectors import vectors, written
from lvmdb.services.work import Deadline
from lvmdb.settings import Settings

LIMITS = Limits(work_seconds=600.0, waiting=16)
"""One thread: there is one process, which uses all cores. It takes minutes on a CPU."""

Start = Callable[[Callable[[], object]], Child]
"""Starts a process, given what is to be called when it has ended."""


def create(options: ServiceOptions, limits: Limits = LIMITS, start: Start | None = None) -> FastAPI:
    """The service.

    Args:
        options: what it is started with.
        limits: what it takes at a time.
        start: starts a process such as vec2text's; None: that, in its environment.

    Raises:
        UsageError: only one of the two halves was named.
    """
    correctors.require_both(options.inverter, options.corrector)
    database = Database(options.dsn)
    loading = Loading(database, options, start or partial(_start, options.settings))
    part = Part("vec2text", loading.load)
    loading.ended = lambda: part.reload("its process ended, and is started again")
    context = Context("decoding", options, limits, database, [part])
    context.closing.append(loading.close)
    router = APIRouter(route_class=StrictRoute, tags=["decoding"])

    @router.post("/decode", response_model=DecodeAnswer, responses=documented(409))
    async def decode(request: NamedDecodeRequest) -> Response:
        """Texts for vectors, by vec2text."""
        wanted = vectors(request.vectors, "vectors")
        inverter = part.get()
        require_space(request.encoder, request.fingerprint, inverter.known.space)

        def work(deadline: Deadline) -> bytes:
            return _answer(inverter, request, wanted, deadline)

        return Response(await context.work.run(work), media_type="application/json")

    return application(
        context,
        router,
        "lvmdb decoding",
        "Vectors to texts, by vec2text with the corrector that belongs to the encoder: the encoder "
        "inside it is held against the stored fingerprint before the first vector.",
    )


class Loading:
    """Starts vec2text's process, and holds its encoder against the fingerprint.

    Args:
        database: where the encoder is described.
        options: of the service.
        start: starts the process.

    Attributes:
        ended: called when the process has ended.
    """

    def __init__(self, database: Database, options: ServiceOptions, start: Start) -> None:
        self._database, self._options, self._start = database, options, start
        self._child: Child | None = None
        self._refused: tuple[object, EncoderError] | None = None
        self.ended: Callable[[], object] = lambda: None

    def load(self) -> Inverter:
        """The process, ready to decode.

        Raises:
            LvmdbError: something is missing, or does not fit the encoder.
        """
        options = self._options
        name = encoder_name(self._database, options)
        with self._database.connect() as connection:
            known = known_encoder(connection, name)
        pair = correctors.pair_of(known.spec, options.inverter, options.corrector)
        weights = correctors.find(options.settings, pair)
        # What was refused once takes as long to be refused again.
        asked = (known.space, weights)
        if self._refused is not None and self._refused[0] == asked:
            raise self._refused[1]
        self.close()
        self._child = self._start(lambda: self.ended())
        try:
            return Inverter(self._child, weights, known)
        except EncoderError as error:
            self._refused = (asked, error)
            self.close()
            raise

    def close(self) -> None:
        """End the process."""
        if self._child is not None:
            self._child.close()
            self._child = None


def _start(settings: Settings, ended: Callable[[], object]) -> Child:
    """vec2text's process.

    Raises:
        SettingsError: its environment is not there, or of other versions.
    """
    return Child(vec2text_environment.command(vec2text_environment.folder_of(settings)), ended)


def require_space(encoder: str, fingerprint: str | None, known: Space) -> None:
    """Refuse vectors of another encoder.

    Raises:
        ProblemError: 409, they are.
    """
    same = encoder == known.encoder if fingerprint is None else fingerprint == known.fingerprint
    if not same:
        why = ", and its fingerprint is another" if encoder == known.encoder else ""
        raise ProblemError(
            409,
            "conflict",
            f"these are vectors of '{encoder}'{why}: this service decodes those of "
            f"'{known.encoder}'",
        )


def _answer(
    inverter: Inverter, request: NamedDecodeRequest, wanted: Vectors, deadline: Deadline
) -> bytes:
    texts, found = inverter.decode(wanted, request.steps, request.beam, deadline.check)
    space, weights = inverter.known.space, inverter.weights
    answer = DecodeAnswer.model_construct(
        encoder=space.encoder,
        fingerprint=space.fingerprint,
        inverter=Half(name=weights.inverter.name, revision=weights.inverter.revision),
        corrector=Half(name=weights.corrector.name, revision=weights.corrector.revision),
        steps=request.steps,
        beam=request.beam,
        texts=texts,
        cosines=cosine(wanted, found).tolist(),
        vectors=written(found, request.encoding),
    )
    return pydantic_core.to_json(answer)
