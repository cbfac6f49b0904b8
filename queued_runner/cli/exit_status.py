"""How a job ended, as the status of a process. Pure: the one place that knows these numbers."""

from collections.abc import Mapping
from typing import Any, Final

from remote_runner.signals import signal_number

TIMED_OUT: Final = 124
WORKER_LOST: Final = 123
CANCELLED: Final = 130


def exit_status(job: Mapping[str, Any]) -> int:
    """The status for a job that has ended, from its JSON."""
    state, reason = job["state"], job["reason"]
    if state == "succeeded":
        return 0
    if state == "cancelled":
        return CANCELLED
    if reason == "timeout":
        return TIMED_OUT
    if reason in ("worker-lost", "quarantined", "abandoned"):
        return WORKER_LOST
    if job["exit_code"]:
        return int(job["exit_code"]) & 0xFF or 1
    number = signal_number(job["signal"] or "")
    return 1 if number is None else 128 + number


def ending(job: Mapping[str, Any]) -> str:
    """How a job ended, in a few words."""
    state, reason = str(job["state"]), job["reason"]
    if state != "failed" or reason is None:
        return state
    if reason == "exit":
        return f"failed (exit {job['exit_code']})"
    return f"failed ({job['signal'] if reason == 'signal' else reason})"
