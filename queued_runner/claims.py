"""Claims jobs for the room that runners offer, as commits are formed.

Owns when there is a claim, and what the last one has told. It starts nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple

import trio
from outcome import Error
from outcome import Outcome as Result

from queued_runner.jobs import Job
from queued_runner.store.base import Store
from queued_runner.store.commit import GroupCommit
from remote_runner.types import JobRunner, Offer

MAX_CLAIM: Final = 256
"""Jobs in one claim, and slots of equal workers that are offered to it: bounds its time."""


class _Claimed(NamedTuple):
    """What a claim has found; when the next job is due, if that was none; see `Store.kept`."""

    jobs: list[Job]
    next_due: float | None
    kept: Mapping[str, int]


class Claims:
    """The claims of one server, one at a time.

    Args:
        commits: they join its commits.
        runners: a claim takes slots of any of them.
        server: the id of this life of this server.
        now: wall clock, UNIX seconds.
        then: called with what a claim has found, once that is durable and the next one may be made.
    """

    def __init__(
        self,
        commits: GroupCommit,
        runners: Sequence[JobRunner],
        server: Callable[[], str],
        now: Callable[[], float],
        then: Callable[[list[Job]], None],
    ) -> None:
        self._commits = commits
        self._runners = runners
        self._server = server
        self._now = now
        self._then = then
        self._is_wanted = True
        self._next_due: float | None = None
        self._due_changed = trio.Event()
        self.is_allowed = True
        """False: no more jobs are to be started here."""
        self.is_open = False
        """Whether there is one whose commit has not come to its end."""
        self.kept: Mapping[str, int] = {}
        """For which job the free slots of which worker, by its id, are kept, as far as is known."""
        commits.before_batch = self._join_batch

    def wake(self) -> None:
        """There may be something to claim, or room for it."""
        self._is_wanted = True
        self._commits.nudge()

    async def run(self) -> None:
        """Wake when a delayed job becomes due, for ever."""
        while True:
            changed = self._due_changed
            with trio.move_on_after(self._until(self._next_due)) as waiting:
                await changed.wait()
            if waiting.cancelled_caught:
                self._next_due = None  # the claim says what is next, when there is room for one
                self.wake()

    def _until(self, due: float | None) -> float:
        return 3600.0 if due is None else min(3600.0, max(0.01, due - self._now()))

    def _join_batch(self) -> None:
        """A commit is about to begin. A claim joins it last: it sees all the room there is by now,
        and what the batch itself has added; so a job's end and its successor's start cost one."""
        if self._is_wanted and self.is_allowed and not self.is_open:
            offers = [offer for runner in self._runners for offer in runner.offers(MAX_CLAIM)]
            if any(offer.slots for offer in offers):
                self._is_wanted, self.is_open = False, True
                self._commits.submit(partial(self._claim, self._server(), offers), self._done)

    def _claim(self, server: str, offers: list[Offer], store: Store) -> _Claimed:
        if server != self._server():  # it has waited for the database, and was buried meanwhile
            return _Claimed([], None, {})
        now = self._now()
        jobs = store.claim(offers, now, MAX_CLAIM)
        return _Claimed(jobs, None if jobs else store.next_run_after(now), store.kept)

    def _done(self, result: Result[_Claimed]) -> None:
        self.is_open = False
        if isinstance(result, Error):
            self._then([])  # the commit failed: its own task ends the service, nothing is started
            return
        jobs, self._next_due, self.kept = result.unwrap()
        self._then(jobs)
        if jobs:
            self._is_wanted = True  # there may be more
        else:
            self._due_changed.set()
            self._due_changed = trio.Event()
