"""One attempt as the worker holds it: its child, its output, its results, its outcome.

Owns what is to be sent of it and when; knows no connection.
"""

from dataclasses import replace

from remote_runner.protocol.messages import Close, OutputChunk, ResultChunk
from remote_runner.types import Outcome, Reason
from simple_worker.processes import Child
from simple_worker.result_feed import ResultFeed
from simple_worker.spool import Spool


class HeldAttempt:
    """One attempt, from its spawn until the runner says `closed` or `stale`."""

    def __init__(self, attempt_id: str, spool: Spool, detach: float | None = None) -> None:
        self.id = attempt_id
        self.output = spool
        self.detach = detach
        """Seconds that the runner waits for it without contact; None: as for all of the worker."""
        self.is_abandoned = False
        self.child: Child | None = None
        self.is_sendable = True
        """False after a reconnection, until the runner has said where to resume."""
        self._results: ResultFeed | None = None
        self._close: Close | None = None
        self.is_close_sent = False
        """Whether the runner has been told its end, on the newest connection."""

    @property
    def is_running(self) -> bool:
        """Whether its process, or something of its tree, may be alive."""
        return self._close is None

    def end(self, outcome: Outcome, results: ResultFeed | None = None) -> None:
        """The process and its tree are gone, and this is what it left."""
        self._results = results
        self._close = Close(
            outcome.exit_code,
            id=self.id,
            signal=outcome.signal,
            reason=outcome.reason.value,
            offset=outcome.output_bytes,  # what was dropped is in it too
            duration_ms=None if outcome.duration is None else round(outcome.duration * 1000),
            max_rss_kb=None if outcome.max_rss is None else outcome.max_rss // 1024,
            cpu_ms=None if outcome.cpu_time is None else round(outcome.cpu_time * 1000),
        )

    def kill(self, reason: Reason, signal: str | None = None, grace: float | None = None) -> None:
        """Begin the end of its tree, if anything of it may be alive."""
        if self.child is not None and self.is_running:
            self.child.kill(reason, signal, grace)

    def abandon(self, grace: float, signal: str | None = None) -> None:
        """End its tree within `grace` seconds, because the runner is about to give it up, or
        the worker to leave."""
        self.is_abandoned = True
        self.kill(Reason.ABANDONED, signal, grace)

    def resume(self, offset: int, results: int = 0) -> None:
        """The runner has everything below these offsets, durable or not: send again from there."""
        self.output.resume(offset)
        if self._results is not None:
            self._results.resume(results)
        self.is_sendable = True
        self.is_close_sent = False

    def drop(self) -> None:
        """The runner wants to hear nothing more of it."""
        self.output.drop()
        if self._results is not None:
            self._results.drop()

    def next_message(self, max_chunk: int) -> OutputChunk | ResultChunk | Close | None:
        """What to send next, in order; None when there is nothing now."""
        if not self.is_sendable:
            return None
        output = self.output.next(max_chunk)
        if output is not None:
            return OutputChunk(output.stream, output.data, self.id, output.offset)
        if self._close is None or self.is_close_sent or not self.output.is_all_given:
            return None
        close, results = self._close, self._results
        if self.output.is_cut:
            close = self._cut(close)
        elif results is not None:
            piece = results.next(max_chunk)
            if piece is not None:
                return ResultChunk(piece[0], self.id, piece[1])
            if not results.is_all_given:
                return None
            close = replace(close, results=results.size)
        self.is_close_sent = True
        return close

    def _cut(self, close: Close) -> Close:
        """Whatever its end was, its output is not whole: the attempt counts for nothing."""
        reason = Reason.ABANDONED.value
        return replace(close, code=None, signal=None, reason=reason, offset=self.output.size)
