"""Very many jobs, sent in batches: bounded memory, few requests, none of them twice.

It owns how large a batch is, and whose fault a refusal is. A job that has no key gets one, so that
a batch whose answer is lost can be sent again.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
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


@dataclass(slots=True)
class Batch:
    """Jobs as they are sent, and where each came from."""

    origins: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    size: int = 0

    def add(self, origin: str, body: bytes) -> None:
        """One more job."""
        self.origins.append(origin)
        self.bodies.append(body)
        self.size += len(body)


def batches(
    jobs: Iterable[tuple[str, Mapping[str, Any]]], *, key: str | None = None
) -> Iterator[Batch]:
    """Jobs, which come with their origin, as the batches to send.

    `key` names them all: the jobs without one of their own are `KEY/0`, `KEY/1`, …
    """
    base = key or os.urandom(16).hex()
    batch = Batch()
    for number, (origin, job) in enumerate(jobs):
        body = dump({"key": f"{base}/{number}", **job})
        is_full = len(batch.bodies) == MAX_JOBS or batch.size + len(body) > MAX_BYTES
        if batch.bodies and is_full:
            yield batch
            batch = Batch()
        batch.add(origin, body)
    if batch.bodies:
        yield batch


def submit_batch(link: Link, batch: Batch) -> list[int]:
    """The ids of its jobs, once they are stored.

    Raises:
        Refused: one of them is no job, and none of them was stored.
        Unreachable: as `Link.respond`.
    """
    content = b"[" + b",".join(batch.bodies) + b"]"
    try:
        answer = link.request("POST", "/api/v1/jobs", content=content, timeout=TIMEOUT)
    except Refused as refusal:
        raise _with_origins(refusal, batch.origins) from None
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
