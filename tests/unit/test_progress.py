"""Progress: a bar on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
from io import StringIO

import pytest

from lvmdb.progress import SILENT, Progress


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, to be set by the test."""
    now = [0.0]
    monkeypatch.setattr("lvmdb.progress.time.monotonic", lambda: now[0])
    return now


def test_plain_lines_come_now_and_then_and_at_the_end(clock: list[float]) -> None:
    out = StringIO()
    with Progress(stream=out).task("encoding", 200, "concepts") as advance:
        for _ in range(5):
            clock[0] += 6
            advance(20)
    assert out.getvalue().splitlines() == [
        "encoding: 40/200 concepts (20 %)",
        "encoding: 80/200 concepts (40 %)",
        "encoding: 100 concepts in 30.0 s",
    ]


def test_an_unknown_total_has_no_share(clock: list[float]) -> None:
    out = StringIO()
    with Progress(stream=out).task("checking", 0, "rows") as advance:
        clock[0] = 11
        advance(7)
    assert "%" not in out.getvalue()


def test_work_that_fails_is_not_said_to_be_done() -> None:
    out = StringIO()
    with pytest.raises(ZeroDivisionError), Progress(stream=out).task("work", 3):
        raise ZeroDivisionError
    assert out.getvalue() == ""


def test_a_terminal_gets_a_bar() -> None:
    out = Terminal()
    with Progress(stream=out).task("encoding", 4, "concepts") as advance:
        advance(4)
    assert "encoding" in out.getvalue()
    assert "4/4" in out.getvalue()


def test_quiet_writes_nothing() -> None:
    for stream in (StringIO(), Terminal()):
        quiet = Progress(enabled=False, stream=stream)
        quiet.say("a line")
        with quiet.task("encoding", 4) as advance:
            advance(4)
        assert stream.getvalue() == ""
    with SILENT.task("x", 1) as advance:
        advance(1)


def test_lines_are_neither_wrapped_nor_taken_for_markup() -> None:
    out = StringIO()
    line = "[bold]" + "x" * 300 + "[/] /a/b.npz:17"
    Progress(stream=out).say(line)
    assert out.getvalue() == line + "\n"


def test_progress_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    Progress().say("a line")
    assert capsys.readouterr() == ("", "a line\n")
    assert sys.stdout is not sys.stderr
