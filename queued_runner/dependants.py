"""The end of a job is told to those that wait for it: some may begin now, some never.

Owns when they are told: as many as there is time for in the commit of that end, the others in the
commits that follow. What becomes of them is the store's to say (`Store.settle`).
"""

from collections.abc import Callable

from outcome import Error
from outcome import Outcome as Result

from queued_runner.changes import Changes
from queued_runner.events import Events
from queued_runner.jobs import Job, JobState
from queued_runner.store.base import Settled, Store
from queued_runner.store.commit import GroupCommit
from queued_runner.tally import Tally


class Dependants:
    """Those that wait for other jobs of the queue.

    Args:
        commits: the one writer of the store. now: wall clock, UNIX seconds.
        tally, events, changes: learn which of them can never begin.
        wake: called when some may begin.
    """

    def __init__(
        self,
        commits: GroupCommit,
        now: Callable[[], float],
        tally: Tally,
        events: Events,
        changes: Changes,
        wake: Callable[[], None],
    ) -> None:
        self._commits = commits
        self._now = now
        self._tally = tally
        self._events = events
        self._changes = changes
        self._wake = wake
        self._is_telling = False

    def settle(self, store: Store, job: Job | None) -> Settled:
        """In the commit that ends a job: tell those that wait for it, while there is time."""
        if job is None or not job.is_awaited or not job.state.is_terminal:
            return Settled()
        return store.settle(self._now())

    def see(self, settled: Settled) -> None:
        """What a `settle` has done is durable."""
        for job in settled.stranded:
            self._tally.ended[JobState.FAILED] += 1
            self._events.tell_stranded(job)
            self._changes.tell(job.id)
        if settled.released:
            self._wake()
            self._changes.tell_work()
        if not settled.is_all:
            self.tell_all()

    def tell_all(self) -> None:
        """Go on in the next commit, and so on until all have been told."""
        if self._is_telling:
            return

        def done(result: Result[Settled]) -> None:
            self._is_telling = False
            if not isinstance(result, Error):
                self.see(result.unwrap())

        self._is_telling = True
        self._commits.submit(lambda store: store.settle(self._now()), done)
