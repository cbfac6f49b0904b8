"""The description of the API (OpenAPI): what FastAPI reads from the routes, and what it cannot see.

It owns the bodies that are validated raw, the shapes of answers, and that every refusal is a
problem. A test holds the shapes against what is really answered.
"""

from collections.abc import Iterable
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from queued_runner.http.problem import MEDIA_TYPE
from queued_runner.jobs import JobSpec, JobState

Schema = dict[str, Any]

_TEMPLATE: Final = "#/components/schemas/{model}"
_TEXT: Final[Schema] = {"type": "string"}
_NUMBER: Final[Schema] = {"type": "integer"}
_TIME: Final[Schema] = {"type": "string", "format": "date-time"}
_YES_OR_NO: Final[Schema] = {"type": "boolean"}


def _maybe(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _record(says: str, **properties: Schema) -> Schema:
    return {
        "type": "object",
        "description": says,
        "properties": properties,
        "required": list(properties),
    }


_OUTCOME: Final[Schema] = {
    "reason": _maybe(_TEXT),
    "exit_code": _maybe(_NUMBER),
    "signal": _maybe(_TEXT),
    "duration": _maybe({"type": "number", "description": "Seconds"}),
    "started_at": _maybe(_TIME),
    "finished_at": _maybe(_TIME),
    "log_bytes": _NUMBER,
    "log_dropped": _NUMBER,
}
_FACTS: Final[Schema] = {
    "id": _NUMBER,
    "state": {"enum": [state.value for state in JobState]},
    "attempt": _NUMBER,
    "worker": _maybe(_TEXT),
    "server": _maybe(_TEXT),
    "created_at": _TIME,
    "cancel_requested": _YES_OR_NO,
    "pending_reason": _maybe(_TEXT),
    **_OUTCOME,
}
SHAPES: Final[Schema] = {
    "Attempt": _record(
        "One try at a job.",
        job_id=_NUMBER,
        attempt=_NUMBER,
        worker=_maybe(_TEXT),
        max_rss=_maybe({"type": "integer", "description": "Bytes"}),
        cpu_time=_maybe({"type": "number", "description": "Seconds"}),
        **_OUTCOME,
    ),
    "Worker": _record(
        "A worker that is connected, or drained and away.",
        id=_TEXT,
        name=_TEXT,
        state={"enum": ["greeting", "ready", "draining", "drained", "away"]},
        slots=_NUMBER,
        free=_NUMBER,
        taken=_NUMBER,
        labels={"type": "object", "additionalProperties": _TEXT},
        version=_TEXT,
        address=_TEXT,
        running={"type": "array", "items": _TEXT},
        is_baseline=_YES_OR_NO,
        can_mask=_YES_OR_NO,
        server=_TEXT,
    ),
    "Server": _record(
        "A server of the queue.",
        name=_TEXT,
        id=_TEXT,
        silence={"type": "number", "description": "Seconds since its last sign of life"},
        workers=_NUMBER,
        running=_NUMBER,
    ),
    "Problem": {
        **_record(
            "Why a request is refused (RFC 9457).",
            type=_TEXT,
            title=_TEXT,
            status=_NUMBER,
            detail={**_TEXT, "description": "A sentence that says what to do"},
        ),
        "additionalProperties": True,
    },
}


def _ref(name: str) -> Schema:
    return {"$ref": _TEMPLATE.format(model=name)}


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


def _list(name: str) -> Schema:
    return _json({"type": "array", "items": _ref(name)})


_IDS: Final = {
    "anyOf": [
        _record("The id of the job.", id=_NUMBER),
        _record("The ids of a list, in its order.", ids={"type": "array", "items": _NUMBER}),
    ]
}
_EVENT_STREAM: Final[Schema] = {"text/event-stream": {}}
ANSWERS: Final[dict[tuple[str, str], Schema]] = {
    ("/api/v1/jobs", "post"): _json(_IDS),
    ("/api/v1/jobs", "get"): _list("Job"),
    ("/api/v1/jobs/{job_id}", "get"): _json(_ref("Job")),
    ("/api/v1/jobs/{job_id}/attempts", "get"): _list("Attempt"),
    ("/api/v1/jobs/{job_id}/cancel", "post"): _json(_ref("Job")),
    ("/api/v1/jobs/{job_id}/logs", "get"): {"application/octet-stream": {"schema": _TEXT}},
    ("/api/v1/jobs/{job_id}/logs/stream", "get"): {
        **_EVENT_STREAM,
        "application/vnd.msgpack": {"schema": _TEXT},
    },
    ("/api/v1/events", "get"): _EVENT_STREAM,
    ("/api/v1/servers", "get"): _list("Server"),
    ("/api/v1/workers", "get"): _list("Worker"),
    ("/api/v1/workers/{worker_id}/drain", "post"): _json(_ref("Worker")),
    ("/api/v1/workers/{worker_id}/resume", "post"): _json(_ref("Worker")),
    ("/docs", "get"): {"text/html": {"schema": _TEXT}},
    ("/metrics", "get"): {"text/plain": {"schema": _TEXT}},
}
"""What is answered where it is not any JSON, by path and method."""


def describe(app: FastAPI, models: Iterable[type[BaseModel]], open_paths: Iterable[str]) -> Schema:
    """The whole description. `models` are those of raw bodies; `open_paths` need no token."""
    schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
    _, made = models_json_schema(
        [(model, "validation") for model in models], ref_template=_TEMPLATE
    )
    shapes = schema.setdefault("components", {}).setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        shapes.pop(unused, None)
    shapes |= made["$defs"]
    shapes |= SHAPES
    shapes["Job"] = _record(
        "What was sent, and what became of it.", **_FACTS, **JobSpec.model_json_schema(
            ref_template=_TEMPLATE
        )["properties"],
    )  # fmt: skip
    schema["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    schema["security"] = [{"token": []}]
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            answers = operation["responses"]
            answers.pop("422", None)
            if (path, method) in ANSWERS:
                for answer in answers.values():
                    answer["content"] = ANSWERS[path, method]
            answers["default"] = {
                "description": "Refused: the sentence in `detail` says why.",
                "content": {MEDIA_TYPE: {"schema": _ref("Problem")}},
            }
            if path in open_paths:
                operation["security"] = []
    return schema
