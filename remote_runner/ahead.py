"""Runs that were sent ahead of a free slot of their worker: how long each may wait there.

Owns when they are asked back, and that none is asked back twice. Which workers get some, and how
many, is `pool.py`'s; what became of them is `runner.py`'s.
"""

import math
from collections.abc import Mapping
from typing import Final

import trio

from remote_runner.overdue import Overdue
from remote_runner.pool import Pool, PooledWorker
from remote_runner.protocol.messages import Withdraw
from remote_runner.run import RemoteRun
from remote_runner.session import Session

PATIENCE: Final = 0.2
"""Seconds that a run waits for a slot of its worker, at most, until it is asked for; and as long as
the worker's answers are on their way, but for no longer than `LONGEST_ECHO`."""
LONGEST_ECHO: Final = 0.5
"""Seconds. After a second the worker gives back by itself what has not begun."""


class RunsAhead:
    """Those of all workers.

    Args:
        pool: where their workers are.
        runs: all runs by their ids.
        overdue: waits for the answers.
    """

    def __init__(self, pool: Pool, runs: Mapping[str, RemoteRun], overdue: Overdue) -> None:
        self._pool = pool
        self._runs = runs
        self._overdue = overdue
        self._sessions: dict[int, Session] = {}
        """Of workers that have some."""
        self._has_some = trio.lowlevel.ParkingLot()

    def add(self, session: Session, run: RemoteRun) -> None:
        """This run is sent there ahead of a slot."""
        worker = session.worker
        worker.ahead[run.id] = trio.current_time()
        run.was_ahead = True
        if worker.session not in self._sessions:
            self._sessions[worker.session] = session
            self._has_some.unpark()

    def withdraw(self, session: Session) -> None:
        """Ask for all that has not begun: others may begin it sooner. The worker is not believed to
        be quick until it is again."""
        worker = session.worker
        worker.ends.clear()
        for run_id, since in worker.ahead.items():
            if since < math.inf:
                worker.ahead[run_id] = math.inf
                session.send(Withdraw(run_id))
                self._overdue.watch_withdrawn(self._runs[run_id])
        self._pool.update(worker)

    async def run(self) -> None:
        """Ask for what waits for a slot that does not become free as soon as was expected."""
        while True:
            if not self._sessions:
                await self._has_some.park()
            await trio.sleep(PATIENCE / 2)
            now = trio.current_time()
            for number, session in list(self._sessions.items()):
                worker = session.worker
                oldest = min(worker.ahead.values(), default=now)
                if now - oldest >= PATIENCE / 2 + worker.echo:
                    self.withdraw(session)
                if not worker.ahead:
                    del self._sessions[number]


def see_begin(run: RemoteRun, worker: PooledWorker) -> None:
    """Its worker has said that it has begun."""
    if worker.ahead.pop(run.id, None) is None and not run.has_begun:
        worker.echo = min(trio.current_time() - run.sent, LONGEST_ECHO)
    run.has_begun = True
