"""Very many jobs, sent in batches: bounded memory, few requests, none of them twice.

It owns how large a batch is, and whose fault a refusal is. A job that has no key gets one, so that
a batch whose answer is lost can be sent again.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from queued_runner.client.errors import Refused
from queued_runner.client.link import Link, dump

MAX_JOBS: Final = 10_000
"""What the server takes in one request, and stores in one commit."""
MAX_BYTES: Final = 8 * 1024 * 1024
"""Half of what the server takes in one request."""
TIMEOUT: Final = 120.0
"""Seconds for the answer to a batch."""
MAX_TOLD: Final = 5
"""Refused jobs that a message names."""

_FIELD: Final = re.compile(r"\[([0-9]+)\]\.?(.*)", re.ASCII)


def submit_in_batches(
    link: Link, jobs: Iterable[tuple[str, Mapping[str, Any]]], *, key: str | None = None
) -> Iterator[list[int]]:
    """The ids of each batch, once it is stored. Jobs come with their origin, for messages.

    `key` names them all: the jobs without one of their own are `KEY/0`, `KEY/1`, …

    Raises:
        Refused: a job of this batch is none, and no job of it was stored; those before were.
        Unreachable: as `Link.respond`.
    """
    origins: list[str] = []
    bodies: list[bytes] = []
    size = 0
    base = key or os.urandom(16).hex()
    for number, (origin, job) in enumerate(jobs):
        body = dump({"key": f"{base}/{number}", **job})
        if bodies and (len(bodies) == MAX_JOBS or size + len(body) > MAX_BYTES):
            yield _submit(link, origins, bodies)
            origins, bodies, size = [], [], 0
        origins.append(origin)
        bodies.append(body)
        size += len(body)
    if bodies:
        yield _submit(link, origins, bodies)


def _submit(link: Link, origins: list[str], bodies: list[bytes]) -> list[int]:
    content = b"[" + b",".join(bodies) + b"]"
    try:
        answer = link.request("POST", "/api/v1/jobs", content=content, timeout=TIMEOUT)
    except Refused as refusal:
        raise _with_origins(refusal, origins) from None
    return [int(job_id) for job_id in answer["ids"]]


def _with_origins(refusal: Refused, origins: list[str]) -> Refused:
    """The same refusal, which names where its jobs came from."""
    told = []
    for error in refusal.problem.get("errors", ()):
        match = _FIELD.fullmatch(str(error["field"]))
        if match is not None and int(match[1]) < len(origins):
            field = f"{match[2]}: " if match[2] else ""
            told.append(f"{origins[int(match[1])]}: {field}{error['detail']}")
    if not told:
        return refusal
    more = f"\n(and {len(told) - MAX_TOLD} more)" if len(told) > MAX_TOLD else ""
    return Refused(refusal.status, "\n".join(told[:MAX_TOLD]) + more, refusal.problem)
