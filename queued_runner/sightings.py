"""What servers of one queue write down of their workers for each other, and read of it. Pure."""

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Final

from queued_runner.jobs import attempt_id
from queued_runner.store.base import PlacedAttempt, WorkerRecord
from remote_runner.types import WorkerInfo

_CHANGING: Final = frozenset({"id", "running", "free", "taken", "server"})
"""What is not written down: it changes with every job, or the record says it."""
_FACTS: Final = frozenset(item.name for item in fields(WorkerInfo)) - _CHANGING


def worker_record(worker: WorkerInfo, boot: str = "", connection: int = 0) -> WorkerRecord:
    """The record of a worker as it is now. One that greets is ready in a moment, or gone."""
    facts = {name: value for name, value in asdict(worker).items() if name in _FACTS}
    if worker.state == "greeting":
        facts["state"] = "ready"
    return WorkerRecord(worker.id, boot, connection, json.dumps(facts, ensure_ascii=False))


def worker_info(record: WorkerRecord, server: str, running: Sequence[PlacedAttempt]) -> WorkerInfo:
    """A worker that is connected to another server, named `server`, where these attempts run.

    What a later release has written down besides is passed over.
    """
    facts = {name: value for name, value in json.loads(record.facts).items() if name in _FACTS}
    taken = sum(attempt.slots for attempt in running)
    free = max(0, facts["slots"] - taken) if facts["state"] == "ready" else 0
    names = tuple(sorted(attempt_id(*attempt.key) for attempt in running))
    return WorkerInfo(
        id=record.worker_id, free=free, running=names, taken=taken, server=server, **facts
    )
