"""The page of the LVM service: a model tried out in a browser.

It is made of forms and links alone, and works without scripts. A form that was sent leads to an
address that says the same, where that is not too long for one, so that it can be kept; see
`page_asked`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.responses import FileResponse, RedirectResponse

from lvmdb.db.queries import query
from lvmdb.errors import LvmdbError, RunError
from lvmdb.evaluation.inference import Inference
from lvmdb.retrieval.found import Hit
from lvmdb.services import page_asked, predicting, trying
from lvmdb.services.beside import Beside, Row, Worth
from lvmdb.services.door import COOKIE, SECONDS, PageDoor, inside
from lvmdb.services.lvm_state import Lvm
from lvmdb.services.models import NO_ENCODER
from lvmdb.services.page_asked import Asked, Form, Sought, Titled, address, read, typed
from lvmdb.services.parts import LOADING
from lvmdb.services.predicting import Wanted
from lvmdb.services.problems import ProblemError
from lvmdb.services.rendering import (
    HEADERS,
    TEMPLATES,
    PageRoute,
    error_page,
    page,
    pairs,
    problem_of,
)
from lvmdb.services.trying import Begun, Guess, Rolled, of_database

BESIDE, ALL = 10, 100
"""Runs of a leaderboard beside predictions, and on its own."""

MOST_ARTICLES = 20


@dataclass
class View:
    """What a page has found so far, so that it can show it even where the rest failed.

    Attributes:
        typed: the fields as they came.
        asked: the fields, read.
        runs: to pick from.
        model: the one that was picked.
        mute: why it cannot be asked about texts; None where it can.
        loading: whether that is so for a moment only.
        worth: of the run.
        begun, guess, rolled: of the page of predictions.
        lists: of the search page, by name.
        articles: that were found by title.
    """

    typed: Any
    asked: Form
    runs: Sequence[Row] = ()
    model: Inference | None = None
    mute: str | None = None
    loading: bool = False
    worth: Worth | None = None
    begun: Begun | None = None
    guess: Guess | None = None
    rolled: Rolled | None = None
    lists: dict[str, Sequence[Hit]] = field(default_factory=dict)
    articles: Sequence[Row] = ()


class Pages:
    """The routes of the page.

    Args:
        lvm: the service.
        door: who may see it.
    """

    def __init__(self, lvm: Lvm, door: PageDoor) -> None:
        self._lvm, self._door, self._beside = lvm, door, Beside(lvm)

    def router(self) -> APIRouter:
        """The routes."""
        routes = APIRouter(route_class=PageRoute, include_in_schema=False)
        both = ["GET", "POST"]
        routes.add_api_route(page_asked.HOME, self.home, methods=both)
        routes.add_api_route(page_asked.SEARCH, self.search, methods=both)
        routes.add_api_route(page_asked.RUNS, self.runs, methods=["GET"])
        routes.add_api_route(page_asked.ARTICLES, self.articles, methods=["GET"])
        routes.add_api_route(page_asked.RANDOM, self.random, methods=["GET"])
        routes.add_api_route(page_asked.SIGN_IN, self.sign_in, methods=both)
        routes.add_api_route(page_asked.SIGN_OUT, self.sign_out, methods=["POST"])
        routes.add_api_route("/page/picture/{name}.png", self.picture, methods=["GET"])
        routes.add_api_route("/page/{file}", self.file, methods=both)
        routes.add_api_route("/page/{rest:path}", self.nothing, methods=both)
        return routes

    async def home(self, request: Request) -> Response:
        """A context, and what follows it."""
        view = View(typed(pairs(request)), Asked())
        problem = None
        try:
            asked = view.asked = read(Asked, pairs(request))
            if request.method == "POST" and not asked.smooth:
                if (there := address(page_asked.HOME, asked)) is not None:
                    return _to(there)
            elif asked.smooth and request.method == "GET":
                raise ProblemError(422, "invalid_request", "smoothing is asked for by its button")
            await self._predictions(view, asked)
        except (ProblemError, LvmdbError) as error:
            problem = problem_of(error)
        return self._page("home.html", view, problem)

    async def search(self, request: Request) -> Response:
        """The corpus by a query, by what is predicted to follow it, and by its words."""
        view = View(typed(pairs(request)), Sought())
        problem = None
        try:
            sought = view.asked = read(Sought, pairs(request))
            there = address(page_asked.SEARCH, sought)
            if request.method == "POST" and there is not None:
                return _to(there)
            model = await self._picked(view)
            if sought.text is not None:
                await self._lists(view, model, sought, sought.text)
        except (ProblemError, LvmdbError) as error:
            problem = problem_of(error)
        return self._page("search.html", view, problem)

    async def runs(self, request: Request) -> Response:
        """The leaderboard and the learning curves."""
        view = View({}, read(Form, pairs(request)))
        problem = None
        try:
            model = await self._picked(view)
            view.worth = await self._beside.worth(model.run_id, ALL)
        except (ProblemError, LvmdbError) as error:
            problem = problem_of(error)
        return self._page("runs.html", view, problem)

    async def articles(self, request: Request) -> Response:
        """Articles by their titles."""
        view = View(typed(pairs(request)), Titled())
        problem = None
        try:
            titled = view.asked = read(Titled, pairs(request))
            model = await self._picked(view)
            if titled.title is not None:
                asked = {"dataset": model.dataset, "title": titled.title, "most": MOST_ARTICLES}
                view.articles = await of_database(
                    self._lvm, lambda: self._rows("articles_by_title", asked)
                )
        except (ProblemError, LvmdbError) as error:
            problem = problem_of(error)
        return self._page("articles.html", view, problem)

    async def random(self, request: Request) -> Response:
        """To a window of the test split of a run's set."""
        form = read(Form, pairs(request))
        await self._lvm.context.require_database()
        model = await self._beside.model(form)
        rows = await of_database(
            self._lvm, lambda: self._rows("random_window", {"run_id": model.run_id})
        )
        if not rows:
            raise ProblemError(404, "not_found", "the set of this run has no window to test on")
        found = Asked(run=form.run, article=rows[0]["article_id"], at=rows[0]["at"])
        return _to(address(page_asked.HOME, found) or page_asked.HOME)

    async def picture(self, request: Request, name: str) -> Response:
        """A report's picture."""
        run = read(Form, pairs(request)).model
        await self._lvm.context.require_database()
        if isinstance(run, str):
            raise ProblemError(422, "invalid_request", "a picture is of a run by its number")
        try:
            drawn = await self._beside.picture(name, run)
        except RunError as error:
            raise ProblemError(404, "not_found", str(error)) from error
        headers = {**HEADERS, "Cache-Control": "private, max-age=60"}
        return Response(drawn, headers=headers, media_type="image/png")

    async def sign_in(self, request: Request) -> Response:
        """A cookie for a token."""
        given = dict(pairs(request))
        wanted = given.get("then", page_asked.HOME)
        wanted = wanted if inside(wanted) else page_asked.HOME
        if not self._door.locked:
            return _to(page_asked.HOME)
        problem = None
        if request.method == "POST":
            if self._door.knows(given.get("token", "")):
                answer = _to(wanted)
                answer.set_cookie(
                    COOKIE,
                    self._door.cookie(),
                    max_age=SECONDS,
                    httponly=True,
                    samesite="strict",
                    secure=request.url.scheme == "https",
                )
                return answer
            problem = ProblemError(403, "unauthorized", "that is not this service's token")
        return page("sign_in.html", problem=problem, wanted=wanted)

    async def sign_out(self) -> Response:
        """No cookie any more."""
        answer = _to(page_asked.SIGN_IN if self._door.locked else page_asked.HOME)
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return answer

    async def file(self, file: str) -> Response:
        """What all pages load."""
        kinds = {"style.css": "text/css", "icon.svg": "image/svg+xml"}
        if file not in kinds:
            return await self.nothing()
        headers = {**HEADERS, "Cache-Control": "max-age=300"}
        return FileResponse(TEMPLATES / file, headers=headers, media_type=kinds[file])

    async def nothing(self) -> Response:
        """No such page."""
        return error_page(ProblemError(404, "not_found", "there is no such page"))

    async def _picked(self, view: View) -> Inference:
        """The run that was picked, and those to pick from."""
        await self._lvm.context.require_database()
        view.runs = await self._beside.runs()
        model = view.model = await self._beside.model(view.asked)
        encoders = self._lvm.encoders
        if not encoders.wanted:
            view.mute = f"the service was started with --encoder {NO_ENCODER}"
        else:
            view.mute = encoders.part(model.dataset).reason
            view.loading = view.mute == LOADING
        return model

    async def _predictions(self, view: View, asked: Asked) -> None:
        model = await self._picked(view)
        view.worth = await self._beside.worth(model.run_id, BESIDE)
        if not asked.begins:
            return
        deadline = self._lvm.deadline()
        view.begun = await trying.context(self._lvm, model, asked, deadline)
        if asked.steps is None:
            view.guess = await trying.guess(self._lvm, model, view.begun, asked, deadline)
        else:
            view.rolled = await trying.roll(self._lvm, model, view.begun, asked)

    async def _lists(self, view: View, model: Inference, sought: Sought, text: str) -> None:
        lvm, wanted, deadline = self._lvm, Wanted(sought.k, sought.exact), self._lvm.deadline()
        if view.mute is None:
            read_as = await predicting.read_texts(lvm, model, [text], deadline)
            whole = await predicting.read_concepts(lvm, model, [[text]], deadline)
            ahead, _ = await predicting.predicted(lvm, model, read_as.contexts, deadline)
            plain, _ = await predicting.nearest(lvm, model, whole.contexts[0][0], wanted)
            follows, _ = await predicting.nearest(lvm, model, ahead[0], wanted)
            view.lists |= {"query": plain, "prediction": follows}
        if sought.words or view.mute is not None:
            words, _ = await predicting.full_text(lvm, model, text, sought.k)
            view.lists["words"] = words

    def _rows(self, name: str, asked: dict[str, Any]) -> list[dict[str, Any]]:
        with self._lvm.context.database.connect() as connection:
            return [dict(row) for row in connection.execute(query("page", name), asked).mappings()]

    def _page(self, name: str, view: View, problem: ProblemError | None) -> Response:
        settings = self._lvm.context.options.settings
        return page(
            name,
            problem=problem,
            sign_out=self._door.locked,
            view=view,
            asked=view.asked,
            no_pictures=self._beside.no_pictures,
            smoothing=settings.llm_url and (settings.llm_model or "the language model"),
        )


def _to(there: str) -> RedirectResponse:
    return RedirectResponse(there, status_code=303, headers=HEADERS)
