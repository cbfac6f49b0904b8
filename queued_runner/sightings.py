"""What servers of one queue write down of their workers for each other. Pure."""

import json
from dataclasses import asdict

from queued_runner.store.base import WorkerRecord
from remote_runner.types import WorkerInfo


def worker_record(worker: WorkerInfo, boot: str = "", connection: int = 0) -> WorkerRecord:
    """The record of a worker as it is now."""
    facts = asdict(worker)
    del facts["id"], facts["running"], facts["free"]  # they change with every job
    return WorkerRecord(worker.id, boot, connection, json.dumps(facts, ensure_ascii=False))
