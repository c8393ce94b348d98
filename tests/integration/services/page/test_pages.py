"""The page without a browser: what it shows, what it escapes, whom it lets in, how it fails."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from urllib.parse import parse_qsl, urlsplit

import pytest
from answering_server import AnsweringServer, Request
from sqlalchemy import text
from starlette.testclient import TestClient

from lvmdb.db.engine import Database
from lvmdb.services import beside, lvm
from lvmdb.services.door import COOKIE, PageDoor, inside
from lvmdb.services.limits import Limits
from lvmdb.services.options import ServiceOptions

Serving = Callable[..., AbstractContextManager[TestClient]]

TYPED = "The harbour and the river froze in winter. The king wrote a letter to the school."
HOSTILE = '<script>alert("1")</script> & <b>'
FORM = {"content-type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def ids(tried_db: Database) -> dict[tuple[int, int], str]:
    """Concepts by article and place."""
    with tried_db.connect() as connection:
        rows = connection.execute(text("SELECT article_id, seq, cpe_id FROM cpe_entry"))
        return {(article_id, seq): str(cpe_id) for article_id, seq, cpe_id in rows}


def texts(body: str, of: str) -> list[str]:
    """The first lines of the items of a list."""
    (inner,) = re.findall(rf'<ol class="{of}">(.*?)</ol>', body, re.DOTALL)
    items = re.findall(r"<li[^>]*>(.*?)</li>", inner, re.DOTALL)
    plain = [re.sub(r"<[^>]*>", "", item.partition('<div class="where">')[0]) for item in items]
    return [html.unescape(each).strip() for each in plain]


def test_typed_sentences_lead_to_an_address_that_shows_what_follows(page: TestClient) -> None:
    answer = page.post("/", data={"text": TYPED, "k": "4", "run": ""})
    (sent,) = answer.history
    assert sent.status_code == 303
    asked = parse_qsl(urlsplit(str(answer.url)).query)
    assert asked == [("text", TYPED), ("k", "4")]
    assert texts(answer.text, "context") == [TYPED]
    expected = page.post("/predict", json={"text": TYPED, "k": 4}).json()
    assert texts(answer.text, "hits") == [each["text"] for each in expected["concepts"]]
    for each in expected["concepts"]:
        assert f"cosine {each['cosine']:.3f}" in answer.text
    assert f'<span class="band {expected["band"]}">{expected["band"]}</span>' in answer.text
    assert page.get(str(answer.url)).text.count("Go on with this") == 4


def test_a_place_in_an_article_shows_the_truth(
    page: TestClient, ids: dict[tuple[int, int], str]
) -> None:
    body = page.get("/", params={"article": 2, "at": 4, "k": 100}).text
    assert [each[:9] for each in texts(body, "context")] == ["Concept 1", "Concept 2", "Concept 3"]
    assert "Article 1, before concept 5 of 9" in body
    (marked,) = re.findall(r'<li class="truth">.*?</li>', body, re.DOTALL)
    assert "Concept 4 of Article 1" in marked
    assert ids[2, 4] in marked
    assert not any(f'value="{ids[2, seq]}"' in body for seq in (1, 2, 3)), "the context is no news"
    few = page.get("/", params={"article": 2, "at": 4, "k": 1}).text
    if ids[2, 4] not in re.findall(r'name="then" value="([^"]*)" aria', few):
        assert "The truth is not among them." in few


def test_what_is_chosen_stands_behind_the_context(
    page: TestClient, ids: dict[tuple[int, int], str]
) -> None:
    fields = {"article": "2", "at": "4", "then": [ids[2, 4], ids[5, 0]]}
    body = page.post("/", data=fields).text
    context = texts(body, "context")
    assert [each[:22] for each in context[:2]] == [
        "Concept 3 of Article 1",
        "Concept 4 of Article 1",
    ]
    assert context[2].startswith("Concept 0 of Article 4")
    assert f'<input type="hidden" name="then" value="{ids[5, 0]}">' in body
    back = re.findall(r'href="([^"]*)">Take back the last', body)
    assert parse_qsl(urlsplit(html.unescape(back[0])).query) == [
        ("article", "2"),
        ("at", "4"),
        ("then", ids[2, 4]),
    ]
    # The same context as at the next place, so the same is predicted.
    walked = page.get("/", params={"article": 2, "at": 4, "then": ids[2, 4]}).text
    assert texts(walked, "hits") == texts(page.get("/?article=2&at=5").text, "hits")


def test_another_run_says_something_else_of_the_same_context(page: TestClient) -> None:
    first, second = (page.get(f"/?article=2&at=4&run={run}").text for run in ("production", "2"))
    assert texts(first, "context") == texts(second, "context")
    assert texts(first, "hits") != texts(second, "hits")
    assert '<option value="production" selected>production: run 1, context-mean' in first
    assert '<option value="2" selected>run 2, lstm (s)' in second
    assert '<option value="3">run 3, copy-last (s)' in second


@pytest.mark.parametrize("loop", ["index", "none"])
def test_several_steps_are_those_of_the_json_route(page: TestClient, loop: str) -> None:
    asked = {"text": TYPED, "steps": "3", "loop": loop}
    body = page.post("/", data=asked).text
    events = page.post("/generate", json={"text": TYPED, "steps": 3, "loop": loop}).text
    said = re.findall(r'event: step.*?"text":"(.*?)","', events, re.DOTALL)
    assert said
    assert [each.partition("\n")[0] for each in texts(body, "hits")] == [
        each.encode().decode("unicode_escape") for each in said
    ]
    assert re.search(r"It ended after \d concepts?: ", body)
    assert "Put these behind the context" in body
    on = page.post("/", data={**asked, "repeat": "1"}).text
    assert "It ended after 3 concepts: 3 concepts, as many as were asked for." in on


def test_truths_stand_beside_the_steps(page: TestClient) -> None:
    body = page.get("/?article=2&at=4&steps=2&run=3").text
    assert "Concept 4 of Article 1" in body.partition('id="rolled"')[2]


def test_texts_are_escaped_wherever_they_come_from(page: TestClient) -> None:
    hostile = f"{HOSTILE} '\"><img src=x onerror=alert(1)> {{{{7*7}}}}"
    pages = [
        page.get("/", params={"text": hostile}).text,
        page.get("/", params={"text": hostile, "k": "0"}).text,
        page.get("/", params={"article": 4, "at": 4}).text,
        page.get("/page/search", params={"text": hostile}).text,
        page.get("/page/articles", params={"title": "<script>"}).text,
        page.get("/", params={"run": hostile}).text,
        page.get("/", params={hostile: "1"}).text,
        page.get(f"/page/{hostile}").text,
    ]
    for body in pages:
        assert "<script" not in body
        assert "<img src=x" not in body
        assert "onerror=alert(1)&gt; 49" not in body
    assert html.escape(HOSTILE, quote=False).replace('"', "&#34;") in pages[0]
    assert "&lt;script&gt;" in pages[2]
    assert "9 concepts" in pages[4]


WRONG = [
    ("/", {"run": "17"}, 422, "unknown run '17'"),
    ("/", {"run": "staging"}, 422, "staging"),
    ("/", {"run": "../x"}, 422, "run"),
    ("/", {"text": "x", "article": "1"}, 422, "a text or a place in an article"),
    ("/", {"text": "a\0b"}, 422, "NUL"),
    ("/", {"article": "99"}, 422, "99"),
    ("/", {"article": "1", "at": "10"}, 422, "from 1 to 9, not 10"),
    ("/", {"article": "9" * 30}, 422, "article"),
    ("/", {"at": "1"}, 422, "choose the article as well"),
    ("/", {"steps": "3"}, 422, "no context to go on from"),
    ("/", {"article": "1", "steps": "65"}, 422, "steps"),
    ("/", {"article": "1", "then": "x"}, 422, "then.0"),
    ("/", {"article": "1", "then": "0" * 32}, 422, "not in the dataset"),
    ("/", {"article": "1", "then": ["0" * 32] * 201}, 422, "200"),
    ("/", {"article": "1", "loop": "vec2text"}, 422, "loop"),
    ("/", {"article": "1", "colour": "red"}, 422, "colour"),
    ("/", {"article": ["1", "2"]}, 422, "twice"),
    ("/", {"article": "1", "smooth": "1", "steps": "1"}, 422, "by its button"),
    ("/", {f"f{n}": "1" for n in range(301)}, 400, "300 fields"),
    ("/page/search", {"text": "x", "k": "101"}, 422, "k"),
    ("/page/runs", {"run": "17"}, 422, "unknown run '17'"),
    ("/page/random", {"run": "17"}, 422, "unknown run '17'"),
    ("/page/picture/learning_curve.png", {"run": "1"}, 404, "no curve to draw"),
    ("/page/picture/cost.png", {}, 404, "no such picture"),
    ("/page/no/such", {}, 404, "no such page"),
]


@pytest.mark.parametrize(("path", "fields", "status", "said"), WRONG)
def test_what_is_wrong_is_said_in_one_line(
    page: TestClient, path: str, fields: dict[str, str], status: int, said: str
) -> None:
    answer = page.get(path, params=fields)
    assert (answer.status_code, answer.headers["content-type"]) == (
        status,
        "text/html; charset=utf-8",
    )
    (line,) = re.findall(r'<p class="problem" role="alert">(.*)</p>', answer.text)
    assert said in html.unescape(line)
    assert '{"error"' not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"text=%ff%fe", FORM, 400),
        ("text=ä".encode(), FORM, 400),
        (b'{"text": "x"}', {"content-type": "application/json"}, 415),
        (b"text=" + b"x" * 200_001, FORM, 422),
        (b"text=" + b"x" * (8 << 20), FORM, 413),
        (b"text=x", {**FORM, "origin": "http://elsewhere.example"}, 403),
        (b"text=x", {**FORM, "origin": "null"}, 403),
        (b"text=x", {**FORM, "sec-fetch-site": "cross-site"}, 403),
        (b"text=x", {**FORM, "sec-fetch-site": "same-site"}, 403),
        (b"text=x", {**FORM, "host": "elsewhere.example"}, 403),
    ],
)
def test_forms_that_are_none_or_come_from_elsewhere_are_refused(
    page: TestClient, body: bytes, headers: dict[str, str], status: int
) -> None:
    answer = page.post("/", content=body, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (
        status,
        "text/html; charset=utf-8",
    )
    assert answer.text.count('role="alert"') == 1


def test_a_long_text_stays_in_the_form(page: TestClient) -> None:
    long = " ".join(f"{TYPED} And {number} more." for number in range(60))
    answer = page.post("/", data={"text": long})
    assert (answer.status_code, answer.history) == (200, [])
    assert len(texts(answer.text, "context")) == 3
    fields = re.findall(r'<input type="hidden" name="text" value="([^"]*)"', answer.text)
    assert fields
    assert {html.unescape(each) for each in fields} == {long}
    chosen = re.findall(r'name="then" value="([^"]*)"', answer.text)[0]
    stepped = page.post("/", data={"text": long, "then": chosen})
    assert "put here; from" in stepped.text
    assert '<button class="link">Take back the last</button>' in stepped.text


def test_search_shows_three_lists_beside_each_other(page: TestClient) -> None:
    body = page.post(
        "/page/search", data={"text": "the king wrote a letter", "k": "3", "words": "1"}
    ).text
    expected = page.post(
        "/search", json={"text": "the king wrote a letter", "k": 3, "full_text": True}
    ).json()
    lists = re.findall(r'<section aria-labelledby="(\w+)">(.*?)</section>', body, re.DOTALL)
    assert [name for name, _ in lists] == ["query", "prediction", "words"]
    for (_, shown), name in zip(lists, ("plain", "prediction", "full_text"), strict=True):
        found = [html.escape(each["text"]).replace("&quot;", "&#34;") for each in expected[name]]
        assert found
        assert re.findall(r"<p>(Concept.*?)</p>", shown) == found
    assert "/?article=" in body
    vectors = page.get("/page/search", params={"text": "king"}).text
    assert re.findall(r'<h2 id="(\w+)">', vectors) == ["query", "prediction"]


def test_a_random_window_is_one_of_the_test_split(page: TestClient, tried_db: Database) -> None:
    with tried_db.connect() as connection:
        windows = {
            (str(row.article_id), str(row.target_seq))
            for row in connection.execute(
                text("SELECT article_id, target_seq FROM training_sequence WHERE split = 'test'")
            )
        }
    drawn = set()
    for _ in range(12):
        sent = page.get("/page/random", params={"run": "2"}, follow_redirects=False)
        asked = dict(parse_qsl(urlsplit(sent.headers["location"]).query))
        assert asked["run"] == "2"
        drawn.add((asked["article"], asked["at"]))
    assert drawn <= windows
    assert len(drawn) > 1


def test_leaderboard_and_curves_stand_beside(page: TestClient) -> None:
    body = page.get("/?run=2").text
    rows = re.findall(r"<tr[^>]*>\s*<td><a href=\"/\?run=(\d)\">", body)
    assert sorted(rows) == ["1", "2"]
    assert re.search(r'alt="Learning curve of run 2: loss by epoch; the best .* in epoch \d"', body)
    assert "has no learning curve" in page.get("/?run=1").text
    for path in ("learning_curve.png?run=2", "leaderboard.png?run=2"):
        drawn = page.get(f"/page/picture/{path}")
        assert drawn.headers["content-type"] == "image/png"
        assert drawn.content.startswith(b"\x89PNG")
    runs = page.get("/page/runs?run=2").text
    assert "95 % interval" in runs
    assert "/page/picture/leaderboard.png" in runs


def test_without_the_extra_for_pictures_it_says_so(
    page: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside, "find_spec", lambda _: None)
    body = page.get("/?run=2").text
    assert "the best of validation is" in body
    assert "lvmdb[plots]" in body
    assert ".png" not in body


def test_pages_load_nothing_from_elsewhere(page: TestClient) -> None:
    for path in ("/", "/?article=2&at=4", "/page/search", "/page/runs", "/page/articles"):
        answer = page.get(path)
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'self'; img-src 'self'")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert not re.search(r'(src|href|action)="(?!/|#)', answer.text)
        assert "style=" not in answer.text
        ids = re.findall(r'\bid="([^"]*)"', answer.text)
        assert len(ids) == len(set(ids))
        labelled = set(re.findall(r'<label for="([^"]*)"', answer.text))
        fields = re.findall(
            r'<(?:input(?! type="hidden")|select|textarea)[^>]*\bid="([^"]*)"', answer.text
        )
        assert set(fields) == labelled
        assert answer.text.count("<h1>") == 1
    assert page.get("/page/style.css").headers["content-type"].startswith("text/css")
    assert page.get("/page/icon.svg").headers["content-type"] == "image/svg+xml"


def test_what_was_found_is_rewritten_where_there_is_a_language_model(
    serving: Serving, tried_options: ServiceOptions
) -> None:
    def answer(request: Request) -> object:
        asked = request.body["messages"][-1]["content"]
        said = f"<So> {' and '.join(re.findall('Concept .* of Article .*', asked))} of 1815."
        return {"choices": [{"message": {"content": said}, "finish_reason": "stop"}]}

    with AnsweringServer(answer) as model:
        settings = replace(tried_options.settings, llm_url=f"{model.url}/v1", llm_model="m")
        with serving(lvm.create(replace(tried_options, settings=settings))) as client:
            client.headers["origin"] = "http://127.0.0.1"
            asked = {"article": "2", "at": "4", "steps": "2"}
            assert "Rewrite as fluent text" in client.post("/", data=asked).text
            assert model.requests == []
            body = client.post("/", data={**asked, "smooth": "1"}).text
            assert "Not rewritten" not in body, body.partition("Rewritten")[2]
            assert re.search(r"<blockquote>&lt;So&gt; Concept .* of 1815\.</blockquote>", body)
            assert re.search(r"By m, prompt smoothing-\d+, .*It added: .*1815", body)
            assert "smooth=1" not in body
            model.then(400, {}).then(400, {}).then(400, {})
            assert "Not rewritten" in client.post("/", data={**asked, "smooth": "1"}).text


def test_without_an_encoder_stored_articles_do(
    serving: Serving, tried_options: ServiceOptions
) -> None:
    with serving(lvm.create(replace(tried_options, encoder="none"))) as client:
        body = client.get("/?article=2&at=4").text
        assert "Texts cannot be typed here: the service was started with --encoder none" in body
        assert re.search(r"<textarea[^>]* disabled", body)
        assert len(texts(body, "hits")) == 5
        assert client.get("/", params={"text": TYPED}).status_code == 503
        found = client.get("/page/search", params={"text": "king"})
        assert found.status_code == 200
        assert re.findall(r'<h2 id="(\w+)">', found.text) == ["words"]
        assert "Only words are searched: the service was started with --encoder none." in found.text


@pytest.fixture(scope="module")
def locked(serving: Serving, tried_options: ServiceOptions) -> Iterator[TestClient]:
    """A client of a service that has the token `sesame`."""
    settings = replace(tried_options.settings, token="sesame")
    options = replace(tried_options, settings=settings, encoder="none")
    with serving(lvm.create(options)) as client:
        client.headers["origin"] = "http://127.0.0.1"
        yield client


def test_with_a_token_a_browser_signs_in(locked: TestClient) -> None:
    answer = locked.get("/?article=2&at=4")
    assert urlsplit(str(answer.url)).path == "/page/sign-in"
    assert '<input type="hidden" name="then" value="/?article=2&amp;at=4">' in answer.text
    assert locked.get("/page/style.css").status_code == 200
    for path in ("/page/runs", "/page/picture/learning_curve.png"):
        assert locked.get(path, follow_redirects=False).status_code == 303
    assert locked.post("/", data={"article": "2"}).status_code == 401
    wrong = locked.post("/page/sign-in", data={"token": "sesam", "then": "/"})
    assert wrong.status_code == 403
    assert "not this service&#39;s token" in wrong.text
    assert COOKIE not in locked.cookies

    back = {"token": "sesame", "then": "/?article=2&at=4"}
    sent = locked.post("/page/sign-in", data=back, follow_redirects=False)
    assert sent.headers["location"] == "/?article=2&at=4"
    cookie = sent.headers["set-cookie"]
    assert all(part in cookie for part in ("HttpOnly", "SameSite=strict", "Max-Age=43200"))
    assert "sesame" not in cookie
    assert len(texts(locked.get("/?article=2&at=4").text, "hits")) == 5
    # The cookie opens the page alone.
    assert locked.get("/models").status_code == 401
    assert locked.post("/predict", json={"text": "x"}).status_code == 401
    # And forms must still come from here.
    elsewhere = {"origin": "http://elsewhere.example"}
    assert locked.post("/", data={"article": "2"}, headers=elsewhere).status_code == 403
    assert "Sign out" in locked.get("/").text
    assert "Sign in" in locked.post("/page/sign-out", headers=FORM).text
    assert locked.get("/", follow_redirects=False).status_code == 303


@pytest.mark.parametrize(
    "value",
    ["", "9999999999.", "9999999999.0", "x.y", f"{'9' * 40}.0", "1.{}", "9999999999.ä", "²²²²."],
)
def test_a_made_up_or_old_cookie_opens_nothing(locked: TestClient, value: str) -> None:
    door = PageDoor("sesame")
    value = value.format(door._hash("1"))
    cookie = {b"cookie": f"{COOKIE}={value}".encode()}
    sent = locked.get("/", headers=cookie, follow_redirects=False)
    assert sent.status_code == 303
    assert PageDoor("other").cookie() != door.cookie()


def test_nobody_is_led_elsewhere_by_signing_in(locked: TestClient) -> None:
    for there in (
        "//elsewhere.example",
        "https://elsewhere.example",
        "/\\elsewhere",
        "/x",
        "/page//x",
    ):
        assert not inside(there)
        sent = locked.post(
            "/page/sign-in", data={"token": "sesame", "then": there}, follow_redirects=False
        )
        assert sent.headers["location"] == "/"
    locked.cookies.clear()


def test_a_database_that_is_away_is_503_with_a_hint(
    serving: Serving, tried_options: ServiceOptions
) -> None:
    away = replace(tried_options, dsn="postgresql://nobody@127.0.0.1:1/none?connect_timeout=1")
    with serving(lvm.create(away), ready=False) as client:
        for path in ("/?article=2&at=4", "/page/search?text=x", "/page/runs", "/page/random"):
            answer = client.get(path)
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) > 0
            assert re.search(r'role="alert">.*database.* Try again in \d+ s\.</p>', answer.text)
        assert "<textarea" in client.get("/").text


def test_a_page_takes_a_place_like_any_request(
    serving: Serving, tried_options: ServiceOptions
) -> None:
    limits = Limits(threads=1, waiting=0)
    app = lvm.create(replace(tried_options, encoder="none"), limits)
    with serving(app) as client, app.state.context.work.place():
        answer = client.get("/")
        assert answer.status_code == 503
        assert "too many requests wait already" in answer.text
