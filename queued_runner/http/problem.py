"""Errors as `application/problem+json` (RFC 9457): one shape, always with a sentence that helps.

What is wrong with a value is said by `refusals.py`. It never shows a traceback, and never repeats
the value that was sent: it may be a secret.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from starlette.responses import Response

from queued_runner.refusals import MAX_ERRORS, sentence

MEDIA_TYPE = "application/problem+json"


def problem_body(status: int, detail: str, **extra: Any) -> bytes:
    """The JSON of a problem."""
    content = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        **extra,
    }
    return json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")


def problem(
    status: int, detail: str, headers: Mapping[str, str] | None = None, **extra: Any
) -> Response:
    """A response that says what is wrong."""
    return Response(problem_body(status, detail, **extra), status, headers, MEDIA_TYPE)


def field_name(location: Iterable[int | str]) -> str:
    """`("env", "A")` → `env.A`, `(3, "args", 0)` → `[3].args[0]`."""
    name = ""
    for part in location:
        if isinstance(part, int):
            name += f"[{part}]"
        else:
            name += f".{part}" if name else part
    return name or "body"


def validation_problem(
    errors: Sequence[Mapping[str, Any]], known_fields: Collection[str] = ()
) -> Response:
    """422 that names each field that was refused, from pydantic's list of errors."""
    found = [
        {"field": field_name(error["loc"]), "detail": sentence(error, known_fields)}
        for error in errors[:MAX_ERRORS]
    ]
    if len(errors) > MAX_ERRORS:
        more = f" (and {len(errors) - 1} more errors)"
    elif len(errors) > 1:
        rest = ", ".join(item["field"] for item in found[1:])
        more = f" (also wrong: {rest})"
    else:
        more = ""
    first = found[0]
    return problem(422, f"{first['field']}: {first['detail']}{more}", errors=found)
