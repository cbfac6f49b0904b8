"""Runs whose worker is well and connected, and does not do in time what it owes.

Owns how long that is waited for, and the timers of it: a run has none unless it has a timeout, is
to end or to be given back, or has left a gap. Who is away for too long is `runner.py`'s.
"""

from collections.abc import Callable
from functools import partial

import trio

from remote_runner.protocol.messages import Kill
from remote_runner.run import RemoteRun
from remote_runner.session import Session
from remote_runner.types import DEFAULT_KILL_GRACE


class Overdue:
    """The patience with workers.

    Args:
        detach: seconds for which a worker that is away is waited for, if its run names none; one
            that is here gets as long.
        unnoticed: seconds for which a connection may be lost, or its worker stand still, before
            that shows.
        lose: gives a run up.
    """

    def __init__(self, detach: float, unnoticed: float, lose: Callable[[RemoteRun], None]) -> None:
        self._detach = detach
        self._unnoticed = unnoticed
        self._lose = lose
        self._nursery: trio.Nursery | None = None

    def open(self, nursery: trio.Nursery) -> None:
        """Where the timers run from now on."""
        self._nursery = nursery

    def detach_of(self, run: RemoteRun) -> float:
        """Seconds for which this run is waited for while its worker is away."""
        return self._detach if run.detach is None else run.detach

    def grace_of(self, run: RemoteRun) -> float:
        """Seconds that this run has until SIGKILL, once it is to end."""
        if run.kill_order is not None and run.kill_order.grace_ms is not None:
            return run.kill_order.grace_ms / 1000
        return run.command.kill_grace if run.command is not None else DEFAULT_KILL_GRACE

    def _patience_with(self, run: RemoteRun) -> float:
        return self.grace_of(run) + self.detach_of(run)

    def watch_timeout(self, run: RemoteRun, timeout: float) -> None:
        """Its worker's clock counts; one that has not ended it long after its time is told to."""
        self.later(run, timeout + self._patience_with(run), partial(self._overrun, run))

    def _overrun(self, run: RemoteRun) -> None:
        if run.session is None:
            self.later(run, self._patience_with(run), partial(self._overrun, run))
        elif run.kill_order is None:
            run.kill_order = Kill(run.id)
            self.order_kill(run, run.session)

    def order_kill(self, run: RemoteRun, session: Session) -> None:
        """Have it killed. A worker that never says that it has done so is not believed to."""
        assert run.kill_order is not None
        session.send(run.kill_order)
        self._wait_for_end(run)

    def _wait_for_end(self, run: RemoteRun) -> None:
        def look() -> None:
            if run.session is not None and run.session.is_paused:
                self._wait_for_end(run)  # what it says is not read: it may have said so
            else:
                self._lose(run)

        self.later(run, self._patience_with(run), look)

    def watch_withdrawn(self, run: RemoteRun) -> None:
        """A worker that neither gives it back nor begins it, for so long, does not have it.

        Not while it may only be out of reach: it then may have begun it, and said so in vain.
        """

        def look() -> None:
            if run.session is None or run.session.is_paused:
                self.watch_withdrawn(run)  # it could not, or what it says is not read
            elif not run.has_begun:
                self._lose(run)

        self.later(run, self._unnoticed + self.detach_of(run), look)

    def watch_gap(self, run: RemoteRun) -> None:
        """A worker that sends nothing of what is missing, for so long, does not have it."""
        known = run.received, run.results_received

        def look() -> None:
            if (run.received, run.results_received) == known:
                self._lose(run)
            else:
                self.watch_gap(run)

        self.later(run, self.detach_of(run), look)

    def later(self, run: RemoteRun, seconds: float, act: Callable[[], None]) -> None:
        """Do something about a run, unless it has ended by then."""
        if self._nursery is not None:
            self._nursery.start_soon(self._after, run, seconds, act)

    async def _after(self, run: RemoteRun, seconds: float, act: Callable[[], None]) -> None:
        if run.is_ended:
            return
        with trio.CancelScope() as timer:
            run.timers.append(timer)
            await trio.sleep(seconds)
            act()
