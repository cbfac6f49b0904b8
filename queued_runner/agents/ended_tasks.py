"""What agents say of tasks that have ended: output that comes late, and the same end once more.

Owns what becomes of the output at rest then; the attempts that agents have are `runner.py`'s.
"""

from collections.abc import Sequence
from contextlib import aclosing
from typing import Final

import structlog
import trio

from queued_runner.agents.agent import PREFIX
from queued_runner.agents.chunks import MAX_AHEAD, TooEarly, TooLate, given_up_line
from queued_runner.agents.run import GAP
from queued_runner.agents.tasks import Report, TaskOver, UnknownTask
from queued_runner.jobs import Job, Limits, attempt_id
from queued_runner.logs import Logs
from queued_runner.store.base import JobNotFound
from queued_runner.store.commit import GroupCommit
from remote_runner.types import StreamName

log = structlog.get_logger("queued_runner")

LATE_PAUSE: Final = 0.2
"""Seconds between two looks whether its turn has come, after the end."""


class EndedTasks:
    """The tasks that have ended. Arguments as of `AgentRunner`."""

    def __init__(self, commits: GroupCommit, logs: Logs, limits: Limits) -> None:
        self._commits = commits
        self._logs = logs
        self._limits = limits
        self._lock = trio.Lock()

    async def require_kept(self, job_id: int, number: int, stream: StreamName, index: int) -> None:
        """Look whether this chunk, whose turn is over, came in its turn.

        Raises:
            TooLate: it was given up.
        """
        line, at = given_up_line(stream, index), -1
        source = self._logs.read(job_id, number, None, 0)
        async with aclosing(source) as records:  # type: ignore[type-var]
            async for record in records:
                at += record.stream == stream
                if at == index:
                    if record.data == line:
                        raise TooLate(stream, index)
                    return

    async def take(
        self, job_id: int, number: int, stream: StreamName, index: int, data: bytes
    ) -> None:
        """Add a chunk to the output at rest, in its turn or when that does not come."""
        deadline = trio.current_time() + GAP
        while True:
            async with self._lock:
                job = await self._job(job_id, number)
                if job.attempt != number or not (job.worker_id or "").startswith(PREFIX):
                    raise TaskOver("this attempt of the job is over, and another has begun")
                attempts = await self._commits.call(lambda store: store.attempts(job_id))
                size = attempts[-1].log_bytes
                following = (await self._logs.count(job_id, number, size))[stream]
                is_full = size >= job.spec.limits(self._limits).max_log_size
                if index < following:
                    await self.require_kept(job_id, number, stream, index)
                    return
                if index == following or is_full:
                    await self._append(job, size, stream, [data])
                    return
                if index - following > MAX_AHEAD:
                    raise TooEarly(
                        f"chunk {index} of {stream} is too far ahead: send chunk {following} first,"
                        " then this one again"
                    )
                if trio.current_time() >= deadline:
                    log.warning("output never came", attempt=attempt_id(job_id, number),
                                stream=stream, chunk=following)  # fmt: skip
                    missing = [given_up_line(stream, at) for at in range(following, index)]
                    await self._append(job, size, stream, [*missing, data])
                    return
            await trio.sleep(LATE_PAUSE)

    async def _append(
        self, job: Job, size: int, stream: StreamName, pieces: Sequence[bytes]
    ) -> None:
        """Go on after the first `size` bytes: what else is in its files, nobody was told of."""
        epoch = await self._logs.free_epoch(job.id, job.attempt)
        is_durable = trio.Event()
        cap = job.spec.limits(self._limits).max_log_size
        end = size + sum(map(len, pieces))

        def on_durable(offset: int) -> None:
            if offset >= end:
                is_durable.set()

        late = self._logs.open(job.id, job.attempt, size, cap, on_durable, epoch)
        for piece in pieces:
            late.append(stream, piece)
        late.spill()
        await is_durable.wait()
        stored = late.stored()
        await self._commits.call(
            lambda store: store.lengthen(job.id, job.attempt, stored.size, stored.dropped)
        )

    async def report(self, job_id: int, number: int, report: Report) -> None:
        """The end of what has ended: fine if it is the same."""
        await self._job(job_id, number)
        attempts = await self._commits.call(lambda store: store.attempts(job_id))
        known = next((attempt for attempt in attempts if attempt.number == number), None)
        is_success = known is not None and (known.reason, known.exit_code) == ("exit", 0)
        if known is None or is_success != (report.status == "succeeded"):
            raise TaskOver("this attempt of the job has ended otherwise before")

    async def _job(self, job_id: int, number: int) -> Job:
        try:
            job = await self._commits.call(lambda store: store.get(job_id))
        except JobNotFound:
            job = None
        if job is None or not 0 < number <= job.attempt:
            raise UnknownTask("there is no such task")
        return job
