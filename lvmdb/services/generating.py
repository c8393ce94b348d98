"""A generation as the events that the LVM service answers with."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

from lvmdb.evaluation.inference import Inference
from lvmdb.services import predicting
from lvmdb.services.lvm_answers import rounded, run_of, said, smoothed_text
from lvmdb.services.lvm_bodies import GenerateRequest
from lvmdb.services.lvm_state import Lvm
from lvmdb.services.rolling import Rolling
from lvmdb.services.vectors import written

EVENTS = {
    "description": "Events: `begin`, a `step` for each concept, and `end` or `error`; each with "
    "JSON as its data.",
    "content": {
        "text/event-stream": {
            "schema": {
                "type": "object",
                "properties": {
                    "event": {"enum": ["begin", "step", "end", "error"]},
                    "data": {"type": "string", "contentMediaType": "application/json"},
                },
                "required": ["event", "data"],
            }
        }
    },
}
"""What the description of the service says of a generation."""


async def stream(
    lvm: Lvm,
    model: Inference,
    rolling: Rolling,
    request: GenerateRequest,
    read: list[str],
) -> AsyncIterator[tuple[str, Any]]:
    """The events of a generation."""
    began, texts = time.perf_counter(), []
    yield "begin", {"model": run_of(model), "read": read, "end_concept": rolling.ends}
    while (step := await rolling.step()) is not None:
        texts.append(step.decoded.text)
        vector = {}
        if request.encoding is not None:
            vector = {"vector": written(step.vector[None], request.encoding)[0]}
        yield (
            "step",
            {
                "number": step.number,
                **said(step.decoded),
                "end_cosine": step.end_cosine,
                "moved": step.moved,
                **vector,
                "seconds": rounded(step.seconds),
            },
        )
    fluent = None
    if request.smooth and texts:
        fluent = smoothed_text(await predicting.smoothed(lvm, texts, context=read))
    stopped = rolling.stopped
    assert stopped is not None, "as a generation has it that gives no more steps"
    yield (
        "end",
        {
            "reason": stopped.reason,
            "told": stopped.told,
            "steps": len(texts),
            "text": "\n".join(texts),
            "smoothed": fluent,
            "seconds": rounded({"total": time.perf_counter() - began}),
        },
    )
