"""Rows as text: nothing lost, nothing cut, nothing that a reader could misread."""

from __future__ import annotations

import csv
import json
import math
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from io import BytesIO, StringIO, TextIOWrapper
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from lvmdb.errors import UsageError
from lvmdb.reports.render import FORMATS, render

UID = UUID("12345678-1234-5678-1234-567812345678")
WHEN = datetime(2025, 3, 4, 5, 6, 7, 123456, tzinfo=UTC)


def text(rows: list[dict[str, object]], format: str = "table", title: str | None = None) -> str:
    stream = StringIO()
    render(list(rows[0]) if rows else ["a"], rows, format, stream, title)
    return stream.getvalue()


def column(*values: object) -> list[str]:
    """The cells of a one-column table, without head and rule."""
    return [line.strip() for line in text([{"x": v} for v in values]).splitlines()[3:] if line]


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_numbers_stand_right_and_texts_left() -> None:
    lines = text([{"name": "lstm", "r": 0.5}, {"name": "mamba2", "r": 12}]).splitlines()
    ends = {len(line) for line in lines if "0.5" in line or "12" in line}
    assert len(ends) == 1
    assert {line.index(n) for line in lines for n in ("lstm", "mamba2") if n in line} == {2}


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([0.61512345, 0.2], ["0.6151", "0.2000"]),
        ([0.5, 0.25], ["0.50", "0.25"]),
        ([1.0, 2.0], ["1.0", "2.0"]),
        ([0.0026041], ["0.002604"]),
        ([1e-4, 3e-4], ["0.0001", "0.0003"]),
        ([1234.56, 2.0], ["1234.6", "2.0"]),
        ([12345.6, 0.02], ["12346", "0.02000"]),
        ([3e-9], ["3e-09"]),
        ([0.0, 0.0], ["0.0", "0.0"]),
        ([1234567, 3], ["1234567", "3"]),
        ([Decimal("0.6060"), None], ["0.606", "–"]),  # noqa: RUF001
        ([math.nan, 1.5], ["–", "1.5"]),  # noqa: RUF001
        ([True, False, None], ["yes", "no", "–"]),  # noqa: RUF001
        ([WHEN], ["2025-03-04 05:06:07+00:00"]),
        ([np.float32(0.25), np.int64(3)], ["0.25", "3.00"]),
        ([[1, 2]], ["[1, 2]"]),
        ([{"hidden": 512}], ['{"hidden": 512}']),
        ([np.zeros(768)], ["[0, 0, 0, … 768 in all]"]),
    ],
)
def test_cells_of_a_table(values: list[object], shown: list[str]) -> None:
    assert column(*values) == shown


def test_a_long_text_is_neither_cut_nor_wrapped_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("FORCE_COLOR", "1")
    long = "word " * 100 + "end"
    out = text([{"a": long, "b": long, "n": 1}])
    assert out.count(long) == 2
    assert "\x1b" not in out


def test_a_terminal_gets_folded_lines_within_its_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    render(["a", "n"], [{"a": "x" * 100, "n": 1}], "table", stream, "Title")
    out = stream.getvalue()
    assert out.count("x") == 100
    assert "Title" in out
    assert "\x1b[" in out


def test_markup_and_control_characters_of_a_concept_are_only_text() -> None:
    out = text([{"a": "[red]not red[/red] \x1b[31mnor this\x07"}])
    assert "[red]not red[/red]" in out
    assert not {"\x1b", "\x07"} & set(out)


def test_title_and_empty_table() -> None:
    assert text([{"a": 1}], title="Leaderboard [5]").startswith("Leaderboard [5]\n")
    stream = StringIO()
    render(["run", "cosine"], [], "table", stream)
    assert "run" in stream.getvalue()
    assert "cosine" in stream.getvalue()


def test_a_stream_that_knows_only_ascii_does_not_crash() -> None:
    raw = BytesIO()
    stream = TextIOWrapper(raw, encoding="ascii")
    render(["a", "b"], [{"a": None, "b": "naïve"}], "table", stream)
    stream.flush()
    assert b"na?ve" in raw.getvalue()
    assert raw.getvalue().splitlines()[3].strip().startswith(b"-")


def test_json_keeps_types_and_digits() -> None:
    row: dict[str, object] = {
        "id": UID,
        "at": WHEN,
        "day": date(2025, 3, 4),
        "took": timedelta(minutes=1, milliseconds=500),
        "whole": Decimal("7"),
        "part": Decimal("0.123456789"),
        "scalar": np.float64(1 / 3),
        "count": np.int64(2),
        "flag": np.bool_(True),
        "vector": np.array([1.5, np.nan], dtype=np.float32),
        "nan": math.nan,
        "inf": -math.inf,
        "none": None,
        "options": {"lr": 1e-3, "when": date(2025, 1, 1)},
        "text": 'é "quoted"\n',
        "bytes": b"\x00\xff",
    }
    out = text([row, row], "json")
    assert (
        json.loads(out)
        == [
            {
                "id": str(UID),
                "at": "2025-03-04T05:06:07.123456+00:00",
                "day": "2025-03-04",
                "took": 60.5,
                "whole": 7,
                "part": 0.123456789,
                "scalar": 1 / 3,
                "count": 2,
                "flag": True,
                "vector": [1.5, None],
                "nan": None,
                "inf": None,
                "none": None,
                "options": {"lr": 1e-3, "when": "2025-01-01"},
                "text": 'é "quoted"\n',
                "bytes": "00ff",
            }
        ]
        * 2
    )
    assert list(json.loads(out)[0]) == list(row)
    assert "é" in out


def test_json_of_no_rows() -> None:
    assert json.loads(text([], "json")) == []


def test_csv_has_a_header_and_survives_commas_quotes_and_lines() -> None:
    row: dict[str, object] = {
        "text": 'a, "b"\nc',
        "value": 1 / 3,
        "none": None,
        "nan": math.nan,
        "flag": True,
        "list": [1, 2],
    }
    out = text([row], "csv", title="not shown")
    assert list(csv.reader(StringIO(out))) == [
        list(row),
        ['a, "b"\nc', repr(1 / 3), "", "", "true", "[1, 2]"],
    ]
    assert "\r" not in out


def test_columns_are_chosen_and_ordered() -> None:
    for format in FORMATS:
        stream = StringIO()
        rows: list[dict[str, Any]] = [{"a": "first", "b": "second", "c": "third"}]
        render(["c", "a"], rows, format, stream)
        out = stream.getvalue()
        assert out.index("third") < out.index("first")
        assert "second" not in out


def test_an_unknown_format_names_the_known() -> None:
    with pytest.raises(UsageError, match="unknown --format 'xml': take one of table, json, csv"):
        render(["a"], [], "xml", StringIO())
