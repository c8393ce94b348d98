"""A report as one HTML page that needs nothing but itself: no scripts, no other files."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Mapping, Sequence
from itertools import groupby

from lvmdb.reports.named import Report
from lvmdb.reports.render import cells

_INTERVAL = re.compile(r"\[-?[\d.e-]+, -?[\d.e-]+\]|–")  # noqa: RUF001

_WRAPPED = 48
"""Texts with more characters than this may be wrapped."""

_GROUPS = {"best": "Best predicted", "hardest": "Hardest to predict"}


def page(answer: Report, picture: bytes | None = None, note: str | None = None) -> str:
    """The page: title, question, picture, rows, and the query that gave them.

    Every text is escaped. Predictions are shown with their whole texts, other reports as a table.

    Args:
        answer: the report's.
        picture: a PNG of it, which becomes part of the page.
        note: why there is no picture.
    """
    question, *more = answer.comment
    title = answer.name.replace("_", " ").capitalize()
    if answer.run_id is not None:
        title += f", run {answer.run_id}"
    title += "".join(f", {setting} {value}" for setting, value in answer.chosen.items())
    parts = [f"<h1>{_escaped(title)}</h1>", f"<p class=question>{_escaped(question)}</p>"]
    if more:
        parts.append(f"<p class=note>{_escaped(' '.join(more))}</p>")
    if picture is not None:
        data = base64.b64encode(picture).decode("ascii")
        parts.append(
            f'<img src="data:image/png;base64,{data}" alt="The picture of the rows below">'
        )
    if note is not None:
        parts.append(f"<p class=note>{_escaped(note)}</p>")
    if not answer.rows:
        parts.append("<p>There are no rows.</p>")
    elif answer.name == "predictions":
        parts.append(_predictions(answer))
    else:
        parts.append(_table(answer.columns, answer.rows))
    parts.append(
        f"<details><summary>The query</summary><pre>{_escaped(answer.sql)}</pre></details>"
    )
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        # Even what escaped all escaping could load and run nothing.
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n"
        f"<title>lvmdb: {_escaped(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"{body}\n</body>\n</html>\n"
    )


def _escaped(text: str) -> str:
    return html.escape(text)


def _table(columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> str:
    """Numbers and intervals stand right, texts left."""
    shown, numeric = cells(columns, rows)
    right = {
        column
        for column in columns
        if numeric[column] or all(_INTERVAL.fullmatch(row[column]) for row in shown)
    }

    # Rows stay low: only long texts are wrapped, however wide the table becomes.
    short = {c for c in columns if all(len(row[c]) <= _WRAPPED for row in shown)} - right
    classes = dict.fromkeys(right, " class=n") | dict.fromkeys(short, " class=s")

    def line(tag: str, texts: Sequence[str]) -> str:
        parts = [
            f"<{tag}{classes.get(column, '')}>{_escaped(text)}</{tag}>"
            for column, text in zip(columns, texts, strict=True)
        ]
        return f"<tr>{''.join(parts)}</tr>"

    body = "\n".join(line("td", [row[column] for column in columns]) for row in shown)
    return (
        f"<div class=wide><table>\n<thead>{line('th', columns)}</thead>\n"
        f"<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def _predictions(answer: Report) -> str:
    """Windows under the heads of their groups, each with its whole texts."""
    shown, _ = cells(answer.columns, answer.rows)
    parts = []
    for group, windows in groupby(shown, key=lambda row: row["windows"]):
        parts.append(f"<h2>{_escaped(_GROUPS.get(group, group))}</h2>")
        parts += [_window(row) for row in windows]
    return "\n".join(parts)


def _window(row: Mapping[str, str]) -> str:
    numbers = (
        f"cosine {row['cosine']}, rank {row['rank']} of {row['candidates']}; "
        f"run {row['run']}, split {row['split']}"
    )
    nearest = f"{row['nearest']}"
    if row["rank"] == "1" and row["nearest"] == row["truth"]:
        nearest = "(the truth itself)"
    texts = (
        ("Context", row["context"]),
        ("Truth", row["truth"]),
        (f"Nearest to the prediction, cosine {row['nearest_cosine']}", nearest),
    )
    said = "".join(f"<dt>{_escaped(name)}</dt><dd>{_escaped(text)}</dd>" for name, text in texts)
    return (
        f"<section><h3>{_escaped(row['title'])}</h3><p class=note>{_escaped(numbers)}</p>"
        f"<dl>{said}</dl></section>"
    )


_STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #fff; --soft: #5a5a5a; --line: #d8d8d8;
  --band: #f5f5f5; font: 15px/1.5 system-ui, sans-serif; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6e6; --paper: #161616; --soft: #a8a8a8; --line: #3c3c3c; --band: #202020; }
}
body { margin: 2rem auto; padding: 0 1.5rem; max-width: 90rem; color: var(--ink);
  background: var(--paper); }
h1 { font-size: 1.4rem; margin: 0; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
h3 { font-size: 1rem; margin: 0; overflow-wrap: anywhere; }
.question { margin: .2rem 0 .6rem; font-size: 1.1rem; }
.note { margin: .2rem 0 .8rem; color: var(--soft); max-width: 60rem; }
img { display: block; max-width: 100%; height: auto; margin: 1rem 0; background: #fff;
  border-radius: 6px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { padding: .3rem .7rem; text-align: left; vertical-align: top; white-space: pre-wrap; }
th { border-bottom: 2px solid var(--line); }
td { border-bottom: 1px solid var(--line); }
tbody tr:nth-child(odd) { background: var(--band); }
.s { white-space: pre; }
.n { text-align: right; white-space: pre; font-variant-numeric: tabular-nums; }
section { max-width: 60rem; margin: 1rem 0; padding: .9rem 1.1rem; border: 1px solid var(--line);
  border-radius: 6px; background: var(--band); }
dl { margin: 0; }
dt { color: var(--soft); font-size: .9rem; margin-top: .5rem; }
dd { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; }
details { margin: 1.5rem 0; color: var(--soft); }
summary { cursor: pointer; }
pre { overflow-x: auto; padding: .8rem; background: var(--band); border-radius: 6px; }
"""
