"""Rows of a query as a table, JSON or CSV: the same rows, whoever reads them.

What people read (tables, and HTML in `page`) is rounded to sensible digits; what programs read
(JSON, CSV) keeps every digit. A missing value is `–`, `null` or an empty field. NaN and infinity,
which JSON cannot say, count as missing.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from io import StringIO
from typing import TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lvmdb.errors import UsageError

Rows = Sequence[Mapping[str, object]]

FORMATS = ("table", "json", "csv")
"""What `--format` takes for rows."""

MISSING = "–"  # noqa: RUF001

_LIST_SHOWN = 8
"""Longer lists (vectors) are abbreviated where people read them."""


def render(
    columns: Sequence[str], rows: Rows, format: str, stream: TextIO, title: str | None = None
) -> None:
    """Write rows to a stream.

    Args:
        columns: the columns to show, in this order.
        rows: one mapping per row; each holds all the columns.
        format: one of `FORMATS`.
        stream: text is written here; colours and wrapping are used only if it is a terminal.
        title: stands above a table; JSON and CSV have none.

    Raises:
        UsageError: there is no such format.
    """
    if format == "table":
        _write_table(columns, rows, stream, title)
        return
    if format == "json":
        text = _json(columns, rows)
    elif format == "csv":
        text = _csv(columns, rows)
    else:
        raise UsageError(f"unknown --format '{format}': take one of {', '.join(FORMATS)}")
    _write(stream, text)


def plain(value: object) -> object:
    """A value as JSON has it: null, true, number, string, list or object.

    Dates and times become ISO 8601, durations seconds, bytes hexadecimal; numpy scalars and arrays
    become numbers and lists.
    """
    if isinstance(value, Enum):
        value = value.value
    convert = getattr(value, "tolist", None) or getattr(value, "to_list", None)
    if callable(convert):  # numpy, pgvector
        value = convert()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, Decimal):
        value = int(value) if value.is_finite() and value == int(value) else float(value)
    if isinstance(value, (int, float)):
        return value if math.isfinite(value) else None
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in value]
    return str(value)


def _json(columns: Sequence[str], rows: Rows) -> str:
    """A list of objects, one a line."""
    objects = [
        json.dumps({c: plain(row[c]) for c in columns}, ensure_ascii=False, allow_nan=False)
        for row in rows
    ]
    return "[\n  " + ",\n  ".join(objects) + "\n]\n" if objects else "[]\n"


def _csv(columns: Sequence[str], rows: Rows) -> str:
    """RFC 4180 with a header row and plain line feeds; lists and objects as JSON."""
    out = StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_field(plain(row[c])) for c in columns])
    return out.getvalue()


def _field(value: object) -> object:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (bool, list, dict)) else value


def _write_table(columns: Sequence[str], rows: Rows, stream: TextIO, title: str | None) -> None:
    shown, numeric = cells(columns, rows)
    table = Table(box=SIMPLE_HEAD)
    for column in columns:
        number = numeric[column]
        table.add_column(
            Text(column),
            justify="right" if number else "left",
            no_wrap=number,
            overflow="fold",
        )
    for row in shown:
        # As Text, so that brackets in a concept are not taken for rich's markup.
        table.add_row(*(Text(row[c]) for c in columns))
    if stream.isatty():
        console = Console(file=stream, highlight=False)
        if title:
            console.print(Text(title, style="bold"))
        console.print(table)
        return
    # Wide enough for every cell, so that nothing is wrapped or cut in a pipe or a file.
    out = StringIO()
    console = Console(file=out, force_terminal=False, color_system=None, width=10**6)
    console.width = max(console.measure(table).maximum, 1)
    console.print(table)
    lines = [title] if title else []
    lines += [line.rstrip() for line in out.getvalue().rstrip("\n").split("\n")]
    _write(stream, "\n".join(lines) + "\n")


def _write(stream: TextIO, text: str) -> None:
    """Write text; what the stream's encoding cannot say becomes `?` (a dash `-`), not a crash."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        for sign, ascii_sign in ((MISSING, "-"), ("─", "-"), ("…", "...")):
            text = text.replace(sign, ascii_sign)
        text = text.encode(encoding, "replace").decode(encoding)
    stream.write(text)


def cells(columns: Sequence[str], rows: Rows) -> tuple[list[dict[str, str]], dict[str, bool]]:
    """Each row's cells as text for people, and which columns hold numbers alone."""
    shown: list[dict[str, str]] = [{} for _ in rows]
    numeric: dict[str, bool] = {}
    for column in columns:
        raw = [row[column] for row in rows]
        values = [plain(value) for value in raw]
        present = [v for v in values if v is not None]
        numbers = [
            float(v) for v in present if isinstance(v, (int, float)) and not isinstance(v, bool)
        ]
        numeric[column] = bool(present) and len(numbers) == len(present)
        floating = any(isinstance(v, float) for v in present)
        digits = _decimals(numbers) if numeric[column] and floating else None
        for cell, original, value in zip(shown, raw, values, strict=True):
            cell[column] = _text(original, value, digits)
    return shown, numeric


def _text(original: object, value: object, decimals: int | None) -> str:
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        if decimals is None:
            return str(value) if isinstance(value, int) else _significant(value)
        return f"{value:.{decimals}f}"
    if isinstance(original, datetime):
        return original.isoformat(sep=" ", timespec="seconds")
    if isinstance(value, list) and len(value) > _LIST_SHOWN:
        shown = ", ".join(_text(v, v, None) for v in value[:3])
        return f"[{shown}, … {len(value)} in all]"
    if isinstance(value, (list, dict)):
        return json.dumps(value, ensure_ascii=False)
    return "".join(c if c.isprintable() or c == "\n" else " " for c in str(value))


def _decimals(values: Sequence[float]) -> int | None:
    """How many decimals a column of floats needs, or None where no fixed number serves.

    Four significant digits of the largest value, at least one decimal, fewer where all values end
    in zeros. None where a value other than 0 would be shown as 0, or the column is very large.
    """
    sizes = [abs(v) for v in values if v]
    if not sizes:
        return 1
    if max(sizes) >= 1e9 or max(sizes) < 1e-6:
        return None
    most = max(1, 3 - math.floor(math.log10(max(sizes))))
    if min(sizes) < 0.5 * 10**-most:
        return None
    for fewer in range(1, most):
        if all(round(v, fewer) == round(v, most) for v in values):
            return fewer
    return most


def _significant(value: float) -> str:
    """Four significant digits; with an exponent only where the number is tiny or huge."""
    if value == 0 or not 1e-4 <= abs(value) < 1e9:
        return f"{value:.4g}"
    return f"{value:.{max(0, 3 - math.floor(math.log10(abs(value))))}f}"
