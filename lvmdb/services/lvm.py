"""The LVM service, port 8003: what follows a context, as vectors, as concepts, as a stream of them.

Models come from the database, by run or by promoted name; see `lvm_models`. What a request does is
in `predicting`, which other routers of this service use as well.
"""

from __future__ import annotations

import time
from typing import Any

import pydantic_core
from fastapi import APIRouter, FastAPI, Response
from pydantic import BaseModel

from lvmdb.corpus.articles import Vectors
from lvmdb.db.engine import Database
from lvmdb.db.queries import query
from lvmdb.decoding.decoded import Decoded
from lvmdb.decoding.smoothing import PROMPT, Smoothed
from lvmdb.evaluation.inference import Inference
from lvmdb.services import predicting
from lvmdb.services.application import application
from lvmdb.services.context import Context
from lvmdb.services.door import PageDoor
from lvmdb.services.events import Events
from lvmdb.services.generating import EVENTS, stream
from lvmdb.services.limits import Limits
from lvmdb.services.lvm_answers import (
    InferAnswer,
    InferBatchAnswer,
    ModelsAnswer,
    PredictAnswer,
    PredictBatchAnswer,
    Said,
    SearchAnswer,
    SmoothedText,
    concepts,
    run_of,
    said,
    smoothed_text,
    times,
)
from lvmdb.services.lvm_bodies import (
    GenerateRequest,
    InferBatchRequest,
    InferRequest,
    Leaving,
    PredictBatchRequest,
    PredictRequest,
    Reading,
    SearchRequest,
)
from lvmdb.services.lvm_state import Lvm
from lvmdb.services.options import ServiceOptions
from lvmdb.services.page import Pages
from lvmdb.services.predicting import Read
from lvmdb.services.problems import documented, documented_beside
from lvmdb.services.requests import ReadRoute, StrictRoute
from lvmdb.services.searchers import again
from lvmdb.services.vectors import vectors, written
from lvmdb.services.work import Deadline

LIMITS = Limits(threads=2, waiting=64)
"""Threads that search; models and encoders have one each of their own."""

SMOOTHING = 600.0
"""Seconds in which the texts of a request are rewritten; those that are left stay as they are."""


def create(options: ServiceOptions, limits: Limits = LIMITS) -> FastAPI:
    """The service."""
    context = Context("lvm", options, limits, Database(options.dsn))
    lvm, door = Lvm.of(context), PageDoor(options.settings.token)
    return application(
        context,
        router(lvm),
        "lvmdb LVM",
        "Contexts to what follows them: vectors, or concepts of the corpus with their articles.",
        page=Pages(lvm, door).router(),
        door=door,
    )


def router(lvm: Lvm) -> APIRouter:
    """The routes for programs."""
    routes = APIRouter(route_class=StrictRoute, tags=["lvm"])
    reading = APIRouter(route_class=ReadRoute, tags=["lvm"])

    @routes.post("/infer", response_model=InferAnswer, responses=documented(409))
    async def infer(request: InferRequest) -> Response:
        """The vector that follows a context."""
        began = time.perf_counter()
        model = await lvm.models.get(request.model)
        context = vectors(request.context, "context")
        found, seconds = await predicting.predicted(lvm, model, [context], lvm.deadline())
        return answer(
            InferAnswer.model_construct(
                model=run_of(model),
                seconds=times(began, model=seconds),
                prediction=written(found, request.encoding)[0],
            )
        )

    @routes.post("/infer/batch", response_model=InferBatchAnswer, responses=documented(409))
    async def infer_batch(request: InferBatchRequest) -> Response:
        """The vector that follows each of several contexts."""
        began = time.perf_counter()
        model = await lvm.models.get(request.model)
        contexts = _contexts(request.contexts)
        found, seconds = await predicting.predicted(lvm, model, contexts, lvm.deadline())
        return answer(
            InferBatchAnswer.model_construct(
                model=run_of(model),
                seconds=times(began, model=seconds),
                predictions=written(found, request.encoding),
            )
        )

    @routes.post("/predict", response_model=PredictAnswer, responses=documented(409))
    async def predict(request: PredictRequest) -> Response:
        """The concepts that are nearest to what follows a text, or a context."""
        began, deadline = time.perf_counter(), lvm.deadline()
        model = await lvm.models.get(request.model)
        read = await _read(lvm, model, request, deadline)
        ((found, fluent),), seconds = await _predict(lvm, model, read, request, deadline)
        return answer(
            PredictAnswer.model_construct(
                **said(found),
                smoothed=fluent,
                model=run_of(model),
                seconds=times(began, encoder=read.seconds, **seconds),
                read=list(read.concepts[0]) if read.concepts else None,
            )
        )

    @routes.post("/predict/batch", response_model=PredictBatchAnswer, responses=documented(409))
    async def predict_batch(request: PredictBatchRequest) -> Response:
        """The same for several texts, or contexts."""
        began, deadline = time.perf_counter(), lvm.deadline()
        model = await lvm.models.get(request.model)
        if request.texts is not None:
            read = await predicting.read_texts(lvm, model, request.texts, deadline)
        else:
            read = Read((), _contexts(request.contexts or []), 0.0)
        found, seconds = await _predict(lvm, model, read, request, deadline)
        return answer(
            PredictBatchAnswer.model_construct(
                model=run_of(model),
                seconds=times(began, encoder=read.seconds, **seconds),
                read=[list(each) for each in read.concepts] if read.concepts else None,
                predictions=[
                    Said.model_construct(**said(each), smoothed=fluent) for each, fluent in found
                ],
            )
        )

    @routes.post(
        "/generate",
        status_code=200,
        response_class=Events,
        responses={**documented_beside(409), 200: EVENTS},
    )
    async def generation(request: GenerateRequest) -> Response:
        """Concept after concept, as server-sent events.

        First `begin` with what was read; then a `step` for each concept; in the end `end` with the
        reason; or `error`, with what an answer that is not a success would hold.
        """
        deadline = lvm.deadline()
        if request.smooth:
            await lvm.run_long(lambda _: lvm.llm())  # told now rather than at the end
        model = await lvm.models.get(request.model)
        read = await _read(lvm, model, request, deadline)
        context, left_out = read.contexts[0], tuple(request.without)
        if request.without_context and request.decode != "vec2text":
            left_out += (await predicting.own(lvm, model, [context], exact=request.exact))[0]
        rolling = await predicting.begun(
            lvm, model, context, request.options, request.wanted, left_out
        )
        said_before = list(read.concepts[0]) if read.concepts else []
        return Events(lvm.context, stream(lvm, model, rolling, request, said_before))

    @routes.post("/search", response_model=SearchAnswer, responses=documented(409))
    async def search(request: SearchRequest) -> Response:
        """The corpus, by a query's own vector and by what the model says follows it."""
        began, deadline = time.perf_counter(), lvm.deadline()
        model = await lvm.models.get(request.model)
        read = await predicting.read_texts(lvm, model, [request.text], deadline)
        whole = await predicting.read_concepts(lvm, model, [[request.text]], deadline)
        ahead, inference = await predicting.predicted(lvm, model, read.contexts, deadline)
        plain, first = await predicting.nearest(lvm, model, whole.contexts[0][0], request.wanted)
        follows, second = await predicting.nearest(lvm, model, ahead[0], request.wanted)
        taken = {"encoder": read.seconds + whole.seconds, "model": inference}
        taken |= {"search": first + second}
        by_words = None
        if request.full_text:
            by_words, third = await predicting.full_text(lvm, model, request.text, request.k)
            taken |= {"full_text": third}
        return answer(
            SearchAnswer.model_construct(
                model=run_of(model),
                seconds=times(began, **taken),
                read=list(read.concepts[0]),
                plain=concepts(plain),
                prediction=concepts(follows),
                full_text=None if by_words is None else concepts(by_words),
            )
        )

    @reading.get("/models", responses=documented())
    async def models() -> ModelsAnswer:
        """The runs that are promoted, and what they are worth."""
        rows = await promoted(lvm)
        return ModelsAnswer.model_validate(
            {"models": [{**row, "run": row["run_id"]} for row in rows]}
        )

    routes.include_router(reading)
    return routes


async def promoted(lvm: Lvm) -> list[dict[str, Any]]:
    """The runs that have promoted names, as the statement `promoted_runs` gives them, and `loaded`.

    Raises:
        ProblemError: 503, the database does not answer.
    """
    database = lvm.context.database
    rows = await lvm.context.work.run(lambda _: again(lambda: _promoted(database)))
    held = set(lvm.models.held)
    return [{**row, "loaded": row["run_id"] in held} for row in rows]


def answer(body: BaseModel) -> Response:
    """An answer whose fields were made here, and need no check."""
    return Response(pydantic_core.to_json(body), media_type="application/json")


async def _read(lvm: Lvm, model: Inference, request: Reading, deadline: Deadline) -> Read:
    """The context that a request is about."""
    if request.context is not None:
        return Read((), [vectors(request.context, "context")], 0.0)
    if request.concepts is not None:
        return await predicting.read_concepts(lvm, model, [request.concepts], deadline)
    assert request.text is not None, "as Reading has it"
    return await predicting.read_texts(lvm, model, [request.text], deadline)


async def _predict(
    lvm: Lvm, model: Inference, read: Read, request: Leaving, deadline: Deadline
) -> tuple[list[tuple[Decoded, SmoothedText | None]], dict[str, float]]:
    """What follows what was read, in words, rewritten if asked; and the seconds that it took."""
    ahead, inference = await predicting.predicted(lvm, model, read.contexts, deadline)
    began = time.perf_counter()
    left_out = [tuple(request.without)] * len(ahead)
    if request.without_context and request.decode != "vec2text":
        own = await predicting.own(lvm, model, read.contexts, exact=request.exact)
        left_out = [(*given, *each) for given, each in zip(left_out, own, strict=True)]
    found, _ = await predicting.decoded(lvm, model, ahead, request.wanted, left_out)
    times = {"model": inference, "search": time.perf_counter() - began}
    if any(each.method == "vec2text" for each in found):
        times["decode"] = sum(e.seconds["decode"] for e in found if e.method == "vec2text")
        times["search"] -= times["decode"]
    if not request.smooth:
        return [(each, None) for each in found], times
    answers: list[tuple[Decoded, SmoothedText | None]] = []
    began = time.perf_counter()
    for each, before in zip(found, read.concepts or [()] * len(found), strict=True):
        if time.perf_counter() - began < SMOOTHING:
            fluent = await predicting.smoothed(lvm, [each.text], context=before)
        else:
            fluent = Smoothed(each.text, False, "there was no time left for it", PROMPT, 0.0)
        answers.append((each, smoothed_text(fluent)))
    return answers, {**times, "smooth": time.perf_counter() - began}


def _contexts(sent: list[list[list[float] | str]]) -> list[Vectors]:
    return [vectors(each, f"contexts.{place}") for place, each in enumerate(sent)]


def _promoted(database: Database) -> list[dict[str, Any]]:
    with database.connect() as connection:
        rows = connection.execute(query("runs", "promoted_runs")).mappings()
        return [dict(row) for row in rows]
