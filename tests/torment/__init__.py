"""Requests that schemathesis makes of the API's own description, good and broken, to a real server.

It owns what must hold of every answer: no server error, the shape that the description promises,
and that a refusal is a problem with a sentence. `python -m tests.torment --examples 500`.
"""

import json
from collections import Counter
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.commands import Service

CHECKS = [
    not_a_server_error,
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
]
LIMITS = ("maxLength", "maxItems", "maxProperties", "maximum")
SMALL = 40
STREAMS = ("/events", "/logs", "/logs/stream")
TRUE = ("true", "1", "on", "yes", "t", "y")
NOT_SENT = (requests.exceptions.InvalidHeader, requests.exceptions.InvalidURL, UnicodeError)
"""What its own client refuses to send."""


def begin(service: Service) -> None:
    """A server with a job that has ended, one that is queued, and no worker: what is submitted
    from here on is never run."""
    service.start_server()
    worker = service.start_worker("w1")
    service.run("sh", "-c", "echo out; echo err >&2; exit 3", name="n", group="g")
    service.verb("drain", "w1")
    worker.kill()
    worker.wait()
    service.submit("true", name="n", group="g")


def ask(service: Service, examples: int, *, is_random: bool) -> Counter[int]:
    """So many requests of each operation, good ones and broken ones: how often which status.

    Raises the failure of a check, with the request as a line of curl.
    """
    facts = service.facts
    token = (service.data_dir / "token").read_text().strip()
    headers = {"Authorization": f"Bearer {token}"}
    described = json.loads(service.request("/openapi.json"))
    schema = schemathesis.openapi.from_dict(_small(described))
    seen: Counter[int] = Counter()
    with requests.Session() as session:
        session.trust_env = False

        def check(case: Case) -> None:
            if isinstance(case.query, dict):
                _make_short(case.path, case.query)
            case.headers = {**(case.headers or {}), **headers}
            try:
                response = case.call(base_url=facts["url"], session=session, timeout=20)
            except NOT_SENT:
                return
            seen[response.status_code] += 1
            case.validate_response(response, checks=CHECKS)
            if response.status_code >= 400:
                assert response.headers["content-type"] == ["application/problem+json"]
                assert response.json()["detail"].strip(), case.as_curl_command()

        for operation in schema.get_all_operations():
            for mode in GenerationMode:
                _ask_one(operation.ok(), mode, check, examples, is_random=is_random)
    return seen


def _small(schema: Any) -> Any:
    """The same with lower limits: what is large takes long to make, and is tried elsewhere."""
    if isinstance(schema, list):
        return [_small(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: min(value, SMALL) if key in LIMITS and isinstance(value, int) else _small(value)
        for key, value in schema.items()
    }


def _make_short(path: str, query: dict[str, Any]) -> None:
    """No request that stays."""
    if path.endswith(STREAMS) and str(query.get("follow", "true")).lower() in TRUE:
        query["follow"] = "false"
    if isinstance(query.get("wait"), int | float) and 0 < query["wait"] <= 60:
        query["wait"] = 0.01


def _ask_one(
    operation: Any, mode: GenerationMode, check: Any, examples: int, *, is_random: bool
) -> None:
    cases = operation.as_strategy(generation_mode=mode)

    @settings(
        max_examples=examples,
        derandomize=not is_random,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases)
    def run(case: Case) -> None:
        check(case)

    try:
        run()
    except Unsatisfiable:
        pass  # nothing can be wrong with a request that has no parameters
