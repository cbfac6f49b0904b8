"""One attempt that is live in this server: it runs, or may still run, on some worker.

Owns what is known of it here, and hands on what its runner tells: output to its log, its end to its
owner. Decides nothing, and stores nothing itself.
"""

from typing import Protocol

from queued_runner.jobs import Job, Limits, attempt_id
from queued_runner.logs import AttemptLog
from queued_runner.results import AttemptResults
from queued_runner.tally import Tally
from remote_runner.types import Outcome, Output, Run


class Owner(Protocol):
    """Who has an attempt, and hears of it."""

    tally: Tally

    def see_start(self, job: Job, worker: str) -> None: ...
    def open_results(self, attempt: "LiveAttempt") -> AttemptResults: ...
    def end(self, attempt: "LiveAttempt", outcome: Outcome) -> None: ...


class LiveAttempt:
    """One attempt that runs, or may still run, on some worker: the observer of its run."""

    __slots__ = (
        "_owner", "deadline", "id", "is_ending", "is_started", "job", "kill", "limits", "log",
        "results", "run",
    )  # fmt: skip

    log: AttemptLog

    def __init__(self, owner: Owner, job: Job, limits: Limits) -> None:
        self._owner = owner
        self.job = job
        self.limits = limits
        self.id = attempt_id(job.id, job.attempt)
        self.results: AttemptResults | None = None
        self.run: Run | None = None
        self.deadline: float | None = None
        self.is_ending = False
        self.kill: tuple[str | None, float | None] | None = None
        """The cancel that was passed on last: signal and grace."""
        self.is_started = False
        """Its worker has said so."""

    def on_started(self, run: Run, pid: int | None) -> None:
        if not self.is_started:
            self.is_started = True
            self._owner.see_start(self.job, run.worker)

    def on_output(self, run: Run, output: Output) -> None:
        self._owner.tally.output_bytes += len(output.data)
        self.log.append(output.stream, output.data)
        if output.is_awaited:
            self.log.spill()

    def is_repeat(self, run: Run, output: Output) -> bool:
        return self.log.agrees(output)

    def on_durable(self, offset: int) -> None:
        """Everything below `offset` is on disk."""
        if self.run is not None and not self.is_ending:
            self.run.ack(offset)

    def on_result(self, run: Run, data: bytes, offset: int) -> None:
        if self.results is None:
            self.results = self._owner.open_results(self)
        self.results.append(data)

    def on_result_taken(self, offset: int) -> None:
        """Results below `offset` are out of memory."""
        if self.run is not None and not self.is_ending:
            self.run.ack_result(offset)

    def on_closed(self, run: Run, outcome: Outcome) -> None:
        self._owner.end(self, outcome)
