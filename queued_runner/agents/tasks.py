"""What agents call an attempt, and how they say that it has ended. Pure.

Owns the number of a task: it is computed from job and attempt, and back, so that it means the same
after any restart. It stays below 2^53, which is as far as a number of JavaScript is exact.
"""

from dataclasses import dataclass
from typing import Final, Literal

from queued_runner.agents.bash import TIMED_OUT
from queued_runner.jobs import attempt_id, parse_attempt_id
from remote_runner.errors import RunnerError
from remote_runner.types import Outcome, Reason

_ATTEMPT_BITS: Final = 16
_MAX_ATTEMPT: Final = (1 << _ATTEMPT_BITS) - 1
_MAX_JOB: Final = (1 << 53 - _ATTEMPT_BITS) - 1


class UnknownTask(RunnerError):
    """There is no such task."""


class TaskOver(RunnerError):
    """What is said of a task contradicts what is known, or it is another's by now."""


@dataclass(frozen=True, slots=True)
class Task:
    """What an agent is given to run."""

    id: int
    command: str


@dataclass(frozen=True, slots=True)
class Report:
    """How an agent says that a task has ended.

    An agent of the ancestor says `status` alone. Ours also says how, and with `is_complete` that
    all its output has been answered.
    """

    status: Literal["succeeded", "failed"]
    reason: Reason | None = None
    exit_code: int | None = None
    signal: str | None = None
    is_complete: bool = False

    def outcome(self, size: int, is_late: bool) -> Outcome:
        """The outcome after `size` bytes of output; `is_late`: its time was over by then."""
        if self.status == "succeeded":
            return Outcome(Reason.EXIT, exit_code=0, output_bytes=size)
        code = 1 if self.reason is None else self.exit_code  # "failed" is all that is known
        reason = self.reason or Reason.EXIT
        if is_late and reason is Reason.EXIT and (self.reason is None or code in TIMED_OUT):
            return Outcome(Reason.TIMEOUT, exit_code=self.exit_code, output_bytes=size)
        return Outcome(reason, exit_code=code, signal=self.signal, output_bytes=size)


def task_id(run_id: str) -> int | None:
    """The number that agents know an attempt by; None if it is beyond all that a number holds."""
    found = parse_attempt_id(run_id)
    if found is None or found[0] > _MAX_JOB or found[1] > _MAX_ATTEMPT:
        return None
    return found[0] << _ATTEMPT_BITS | found[1]


def attempt_of(task: int) -> tuple[int, int]:
    """The job and the attempt that a number stands for; nobody says that there are such."""
    return task >> _ATTEMPT_BITS, task & _MAX_ATTEMPT


def run_id_of(task: int) -> str:
    """The id of that attempt, as the rest of the system writes it."""
    return attempt_id(*attempt_of(task))
