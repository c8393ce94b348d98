"""A generation as the command line shows it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from lvmdb.cli.app import show

if TYPE_CHECKING:
    from lvmdb.decoding.generation import Generation
    from lvmdb.evaluation.inference import Inference


@dataclass
class Start:
    """What a generation begins with: texts, vectors, what is not to be found, what follows."""

    texts: list[str]
    vectors: Any
    without: list[Any]
    following: Any = None
    source: dict[str, object] = field(default_factory=dict)


_COLUMNS = ["step", "cosine", "band", "method", "title", "concept_text"]


def step_rows(steps: list[Any], start: Start) -> list[dict[str, object]]:
    """A row for each step; with what truly follows, where that is known."""
    rows = []
    for step in steps:
        hit = step.decoded.hits[0] if step.decoded.method == "nearest" else None
        row: dict[str, object] = {
            "step": step.number,
            "cosine": _number(step.decoded.cosine),
            "band": step.decoded.band,
            "method": step.decoded.method,
            "title": hit and hit.title,
            "concept_text": step.decoded.text,
            "cpe_id": hit and hit.cpe_id,
            "article_id": hit and hit.article_id,
            "moved": _number(step.moved),
            "end_cosine": _number(step.end_cosine),
            "why": step.decoded.why,
            "hits": [
                {"cosine": _number(each.cosine), "title": each.title, "seq": each.seq,
                 "concept_text": each.concept_text, "cpe_id": each.cpe_id}
                for each in step.decoded.hits
            ],
            "seconds": dict(step.seconds),
        }  # fmt: skip
        if start.following is not None:
            place = step.number - 1
            true = start.following[place] if place < len(start.following) else None
            row["true_cosine"] = None if true is None else _number(float(step.vector @ true))
        rows.append(row)
    return rows


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else round(value, 4)


def show_generation(
    infer: Inference,
    generation: Generation,
    start: Start,
    rows: list[dict[str, object]],
    seconds: dict[str, dict[str, float]],
    smoothed: Any,
    output_format: str,
) -> None:
    """Print it: rows, why it ended, seconds of each stage at p50 and p95, and the smoothed text."""
    assert generation.stopped is not None, "its steps have been read"
    stopped = generation.stopped
    whole = " ".join(str(row["concept_text"]) for row in rows)
    if output_format == "json":
        answer: dict[str, object] = {
            "run_id": infer.run_id,
            "architecture": infer.architecture,
            "dataset": infer.dataset,
            **start.source,
            "context": start.texts,
            "steps": rows,
            "stopped": {"reason": stopped.reason, "step": stopped.step, "told": stopped.told},
            "seconds": seconds,
            "generated": whole,
        }
        if smoothed is not None:
            answer["smoothed"] = {
                "text": smoothed.text, "smoothed": smoothed.smoothed, "why": smoothed.why,
                "prompt": smoothed.prompt, "added": list(smoothed.added),
            }  # fmt: skip
        click.echo(json.dumps(answer, indent=2, default=str, ensure_ascii=False))
        return
    columns = list(_COLUMNS)
    if start.following is not None:
        columns.insert(2, "true_cosine")
    show(columns, rows, output_format)
    to_people = output_format == "csv"
    click.echo(f"ended by {stopped.reason}: {stopped.told}", err=to_people)
    for stage, taken in seconds.items():
        click.echo(
            f"{stage}: p50 {1000 * taken['p50']:.1f} ms, p95 {1000 * taken['p95']:.1f} ms",
            err=to_people,
        )
    if smoothed is not None:
        marked = "smoothed" if smoothed.smoothed else f"not smoothed ({smoothed.why})"
        click.echo(f"{marked}: {smoothed.text}", err=to_people)
