"""What becomes of a job when an attempt ends: a pure decision, acted on by the store.

Only failures and timeouts spend `retries`. Losses have their own limit; refusals, planned stops and
the loss of what has probably not begun spend nothing.
"""

from collections.abc import Callable
from typing import Final

from queued_runner.jobs import Job
from queued_runner.lifecycle import JobEvent
from remote_runner.types import Outcome, Reason
from remote_runner.value import value

MAX_LOSSES: Final = 3
"""Workers that a job may lose before it is taken for poison (HyperQueue allows 5, Sidekiq 3)."""
REFUSED_PAUSE: Final = 1.0


@value
class Decision:
    """The move, and what it carries. `run_after` is UNIX seconds, for moves back to the queue."""

    event: JobEvent
    reason: str | None = None
    run_after: float = 0.0
    is_failure: bool = False
    is_loss: bool = False


def backoff_delay(base: float, ceiling: float, failures: int, rng: Callable[[], float]) -> float:
    """Seconds before retry number `failures` + 1: doubling, half of it jitter."""
    full = min(ceiling, base * 2.0 ** min(failures, 60))
    return full / 2 + rng() * full / 2


def decide(job: Job, outcome: Outcome, now: float, rng: Callable[[], float]) -> Decision:
    """What the end of the running attempt means for the job."""
    if outcome.is_success:
        return Decision(JobEvent.SUCCEED)
    if job.cancel_requested:
        return Decision(JobEvent.CANCEL, "cancelled")
    if outcome.reason is Reason.REFUSED:
        return Decision(JobEvent.RELEASE, run_after=now + rng() * REFUSED_PAUSE)
    if outcome.reason is Reason.GIVEN_BACK:
        return Decision(JobEvent.RELEASE, run_after=now)
    spec = job.spec
    if outcome.reason in (Reason.STOPPED, Reason.UNHEARD):
        if spec.on_lost == "fail":  # it has begun, or may have, and may not begin again
            return Decision(JobEvent.FAIL, "worker-lost")
        return Decision(JobEvent.RELEASE, run_after=now)
    if outcome.reason in (Reason.WORKER_LOST, Reason.ABANDONED):
        if spec.on_lost == "fail":
            return Decision(JobEvent.FAIL, "worker-lost", is_loss=True)
        if job.losses + 1 >= MAX_LOSSES:
            return Decision(JobEvent.FAIL, "quarantined", is_loss=True)
        delay = backoff_delay(spec.backoff, spec.max_backoff, job.losses, rng)
        return Decision(JobEvent.RESCUE, run_after=now + delay, is_loss=True)
    if job.failures < spec.retries:
        delay = backoff_delay(spec.backoff, spec.max_backoff, job.failures, rng)
        return Decision(JobEvent.RETRY, run_after=now + delay, is_failure=True)
    reason = "signal" if outcome.reason is Reason.KILLED else outcome.reason.value
    return Decision(JobEvent.FAIL, reason, is_failure=True)
