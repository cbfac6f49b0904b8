"""The life of a job as one table: what may happen in which state, and where it leads. Pure."""

from enum import StrEnum
from typing import Final

from queued_runner.jobs import JobState
from remote_runner.errors import RunnerError


class JobEvent(StrEnum):
    """What can happen to a job."""

    CLAIM = "claim"
    SUCCEED = "succeed"
    FAIL = "fail"
    RETRY = "retry"
    """An attempt failed, and the job has a retry left."""
    RELEASE = "release"
    """The attempt never started, or was stopped as planned; it does not count."""
    RESCUE = "rescue"
    """The attempt was lost with its worker."""
    CANCEL = "cancel"
    STRAND = "strand"
    """A job that it waits for has failed, or was cancelled."""
    REVIVE = "revive"
    """A person asks for a job that has ended to be run again."""


class IllegalMove(RunnerError):
    """The table has no such move: a bug, or a write that came too late."""


_Q, _R = JobState.QUEUED, JobState.RUNNING

TRANSITIONS: Final[dict[JobState, dict[JobEvent, JobState]]] = {
    JobState.QUEUED: {
        JobEvent.CLAIM: _R,
        JobEvent.CANCEL: JobState.CANCELLED,
        JobEvent.STRAND: JobState.FAILED,
    },
    JobState.RUNNING: {
        JobEvent.SUCCEED: JobState.SUCCEEDED,
        JobEvent.FAIL: JobState.FAILED,
        JobEvent.CANCEL: JobState.CANCELLED,
        JobEvent.RETRY: _Q,
        JobEvent.RELEASE: _Q,
        JobEvent.RESCUE: _Q,
    },
    JobState.SUCCEEDED: {JobEvent.REVIVE: _Q},
    JobState.FAILED: {JobEvent.REVIVE: _Q},
    JobState.CANCELLED: {JobEvent.REVIVE: _Q},
}


def move(state: JobState, event: JobEvent) -> JobState:
    """Where `event` leads from `state`.

    Raises:
        IllegalMove: nowhere.
    """
    following = TRANSITIONS[state].get(event)
    if following is None:
        raise IllegalMove(f"a {state} job cannot {event}")
    return following


def mermaid() -> str:
    """The table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", "    [*] --> queued: submit"]
    for state, row in TRANSITIONS.items():
        targets: dict[JobState, list[str]] = {}
        for event, target in row.items():
            targets.setdefault(target, []).append(event.value)
        lines += [f"    {state} --> {target}: {', '.join(e)}" for target, e in targets.items()]
    return "\n".join(lines)
