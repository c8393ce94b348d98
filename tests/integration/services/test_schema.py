"""Every service against its own OpenAPI description, with bodies that fit it and that do not.

More examples than the suite has time for:

    LVMDB_TEST_EXAMPLES=2000 python -m pytest -o timeout=0 tests/integration/services/test_schema.py
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks
from starlette.testclient import TestClient

from lvmdb.db.types import DIMENSION
from lvmdb.services.catalogue import SERVICES
from lvmdb.services.limits import TEXT_LENGTH

EXAMPLES = int(os.environ.get("LVMDB_TEST_EXAMPLES", "4"))

load_all_checks()


@pytest.mark.parametrize("mode", GenerationMode)
@pytest.mark.parametrize("service", SERVICES)
def test_a_service_answers_as_it_says(
    clients: Mapping[str, TestClient], service: str, mode: GenerationMode
) -> None:
    client = clients[service]
    config = schemathesis.Config()
    # The same characters, without a table of UTF-8 that takes seconds to make.
    config.projects.default.generation.codec = None
    description = with_few_vectors(without_length(client.get("/openapi.json").json()))
    schema = schemathesis.openapi.from_dict(description, config=config)
    # That options contradict each other, or keys are there twice, is beyond a schema.
    contradict = service in ("chunking", "ingest", "lvm", "embedding", "decoding")
    beyond = ["positive_data_acceptance"] if contradict else []
    excluded: list[Any] = [check for check in CHECKS.get_all() if check.__name__ in beyond]
    statuses: Counter[int] = Counter()

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=schema.as_strategy(generation_mode=mode))
    def check(case: schemathesis.Case[Any]) -> None:
        sent: Any = requests.Request(**case.as_transport_kwargs("http://127.0.0.1")).prepare()
        answer = client.request(
            sent.method, sent.url, content=sent.body or b"", headers=dict(sent.headers)
        )
        statuses[answer.status_code] += 1
        assert answer.status_code < 500, answer.text
        case.validate_response(answer, excluded_checks=excluded)

    check()
    # Bodies that fit are answered, and bodies that do not are refused.
    wanted = {200} if mode is GenerationMode.POSITIVE else {422}
    if service == "decoding" and 200 in wanted:
        wanted = {200, 409, 422}  # a name that was drawn is nobody's, and one must be given
    assert statuses.keys() & wanted, statuses


def with_few_vectors(description: Any) -> Any:
    """A description in which a vector is one of a few, and a model mostly one that is there.

    A vector has more numbers than an example may have, and names that are drawn are nobody's.
    """
    if isinstance(description, list):
        return [with_few_vectors(item) for item in description]
    if not isinstance(description, dict):
        return description
    if description.get("minItems") == DIMENSION:
        return {"enum": [[1.0, *[0.0] * 767], [0.5] * 768, [0.0] * 768, [-1e308] * 768]}
    if description.get("minLength") == 4096:
        return {"enum": ["AACA" + 1023 * "PwAA", 4096 * "A", 4095 * "A" + "=", 4096 * "/"]}
    if description.get("default") == "production":
        return {"enum": ["production", "plain", "nobody", 1, 2, 3]}
    return {key: with_few_vectors(value) for key, value in description.items()}


def without_length(description: Any) -> Any:
    """A description that does not say how long a text may be.

    Generating texts near the limit takes seconds for each; a test of its own sends one.
    """
    if isinstance(description, list):
        return [without_length(item) for item in description]
    if not isinstance(description, dict):
        return description
    kept = {
        key: value
        for key, value in description.items()
        if (key, value) != ("maxLength", TEXT_LENGTH)
    }
    return {key: without_length(value) for key, value in kept.items()}
