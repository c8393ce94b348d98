"""A report as a page: whole, escaped, and in need of nothing else."""

from __future__ import annotations

import base64
from html.parser import HTMLParser
from typing import Any

import pytest

from lvmdb.db.queries import report_names, report_sql
from lvmdb.reports.named import Report, comment
from lvmdb.reports.page import page

EVIL = "<script>alert(1)</script> & \"x\" 'y' <img src=x onerror=alert(2)>"
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Texts by the tag that they stand in; fails on tags that do not match or do not belong."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, str]] = []
        self.right: list[str] = []
        self.images: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in {"script", "link", "iframe", "b"}
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag == "img":
            self.images.append(dict(attrs)["src"] or "")
        if tag not in VOID:
            self.open.append(tag if dict(attrs).get("class") != "n" else f"{tag}.n")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().removesuffix(".n") == tag

    def handle_data(self, data: str) -> None:
        if self.open and data.strip():
            self.found.append((self.open[-1], data))

    def texts(self, tag: str) -> list[str]:
        return [text for where, text in self.found if where == tag]


def answer(name: str, rows: list[dict[str, Any]], run_id: int | None = None) -> Report:
    return Report(name, run_id, report_sql(name), list(rows[0]) if rows else ["a"], rows)


def test_a_table_is_escaped_and_numbers_stand_right() -> None:
    rows = [
        {"<b>": EVIL, "value": 0.5, "interval": "[0.4000, 0.6000]", "verdict": None},
        {"<b>": "x", "value": 0.25, "interval": None, "verdict": "worse"},
    ]
    source = page(answer("leaderboard", rows))
    assert "<script" not in source
    assert "<img" not in source
    seen = Page(source)
    assert seen.texts("th") == ["<b>", "verdict"]
    assert seen.texts("th.n") == ["value", "interval"]
    assert seen.texts("td") == [EVIL, "–", "x", "worse"]  # noqa: RUF001
    assert seen.texts("td.n") == ["0.50", "[0.4000, 0.6000]", "0.25", "–"]  # noqa: RUF001


def test_the_page_says_what_was_asked_and_how() -> None:
    seen = Page(page(answer("leaderboard", [{"a": 1}], run_id=7)))
    assert seen.texts("title") == ["lvmdb: Leaderboard, run 7"]
    assert seen.texts("h1") == ["Leaderboard, run 7"]
    question, note = seen.texts("p")
    assert question == "What is each run worth, and is it better than the best baseline?"
    assert "95 %" in note
    assert "SET lvmdb" not in note
    assert seen.texts("summary") == ["The query"]
    assert seen.texts("pre") == [report_sql("leaderboard")]


def test_the_page_loads_nothing_and_knows_both_schemes() -> None:
    source = page(answer("targets", [{"a": 1}]), b"\x89PNG bytes")
    (image,) = Page(source).images
    kind, data = image.split(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data) == b"\x89PNG bytes"
    assert "default-src 'none'" in source
    assert "prefers-color-scheme: dark" in source
    assert "url(" not in source


def test_a_missing_picture_is_said_and_no_rows_are_a_page() -> None:
    seen = Page(page(answer("leaderboard", []), note="No picture: <why>"))
    assert "No picture: <why>" in seen.texts("p")
    assert "There are no rows." in seen.texts("p")
    assert seen.images == []
    assert seen.texts("th") == []


def test_predictions_are_shown_with_whole_texts() -> None:
    def window(group: str, **more: Any) -> dict[str, Any]:
        return {
            "windows": group, "run": 7, "split": "test", "title": EVIL, "cosine": 0.91, "rank": 3,
            "candidates": 1318, "nearest_cosine": 0.95, "context": f"{EVIL}\nsecond",
            "truth": "true " * 100, "nearest": "near " * 100, **more,
        }  # fmt: skip

    right = window("best", rank=1, truth="same", nearest="same")
    rows = [window("best"), right, window("hardest", context=None)]
    source = page(answer("predictions", rows))
    assert "<script" not in source
    seen = Page(source)
    assert seen.texts("h2") == ["Best predicted", "Hardest to predict"]
    assert seen.texts("h3") == [EVIL] * 3
    first, second, third = (seen.texts("dd")[i : i + 3] for i in (0, 3, 6))
    assert first == [f"{EVIL}\nsecond", "true " * 100, "near " * 100]
    assert second[1:] == ["same", "(the truth itself)"]
    assert third[0] == "–"  # noqa: RUF001
    assert "cosine 0.91, rank 3 of 1318; run 7, split test" in seen.texts("p")
    assert "Nearest to the prediction, cosine 0.95" in seen.texts("dt")


@pytest.mark.parametrize("name", report_names())
def test_every_report_begins_with_its_question(name: str) -> None:
    question, *more = comment(name)
    assert "?" in question
    assert not any(line.startswith(("--", "For one run: SET")) for line in (question, *more))
