"""`lvmdb bench serve`: what clients met, as rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from answering_server import Answer, AnsweringServer

from lvmdb.db.benchmarks import write
from lvmdb.db.engine import Database
from lvmdb.errors import ServiceError, UsageError
from lvmdb.reports.benchmarks import bars, side_by_side
from lvmdb.services.bench import bench_serve, held_out_contexts


def test_what_clients_met_is_measured(served: Any, service_db: Database) -> None:
    contexts = held_out_contexts(service_db, served.lstm)
    assert {each.shape for each in contexts} == {(3, 768)}
    np.testing.assert_allclose(np.linalg.norm(contexts[0], axis=1), 1, atol=1e-5)
    said = {"seconds": {"model": 0.002, "search": 0.001, "total": 0.004}}
    with AnsweringServer(lambda _: said) as service:
        measured = bench_serve(
            service.url, contexts, model="m", clients=(1, 2), seconds=0.05, repetitions=1
        )
        bodies = [request.body for request in service.requests]
    assert {body["model"] for body in bodies} == {"m"}
    assert {len(body["context"]) for body in bodies} == {3}
    rows = write(service_db, "serve", "run 1", measured, parameters={}, environment={})
    shown = {row["contender"]: row for row in side_by_side(rows)}
    assert shown["/predict, 2 clients, in the service"]["p95 ms"] == pytest.approx(3)
    assert float(str(shown["/infer, 2 clients"]["ratio"])) > 0
    assert float(str(shown["/infer, 1 client"]["p50 ms"])) > 0
    assert bars(rows, "serve").startswith(b"\x89PNG")


def test_what_is_refused_is_not_measured() -> None:
    contexts = [np.ones((1, 768), dtype=np.float32)]
    given: dict[str, Any] = {"model": 1, "clients": (1,), "seconds": 0.02, "repetitions": 1}
    refusal = Answer(503, {"error": {"code": "not_ready", "message": "", "details": []}}, {})
    with (
        AnsweringServer(lambda _: refusal) as service,
        pytest.raises(ServiceError, match=r"/infer refused requests .*503 not_ready: \d+"),
    ):
        bench_serve(service.url, contexts, **given)
    with pytest.raises(ServiceError, match="does not answer"):
        bench_serve("http://127.0.0.1:1", contexts, **given)
    with pytest.raises(UsageError, match="--url"):
        bench_serve("ftp://127.0.0.1", contexts, **given)
