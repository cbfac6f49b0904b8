"""Ends what a job leaves behind when its main process has ended.

Owns the knowledge which process belongs to which job. Two ways, because two kinds of process run
jobs: a worker, all of whose children are jobs', and a program that has children of its own.
"""

import math
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NamedTuple, Protocol

import trio

from simple_worker.brand import NONE, Brands, brand_of, is_of
from simple_worker.reaper_link import ReaperLink
from simple_worker.tree import (
    environment,
    kill_descendants,
    kill_marked,
    look_at,
    mark,
    newest_process,
    session,
)

PAUSE: Final = 0.005
ROUND: Final = 1.0
"""Seconds in which the numbers of processes do not go all the way round: there are 32,768, or
more on large machines. A job that takes longer can afford a look at all processes."""
LOOKS: Final = 10
"""How often one sweep reads the list of children, of which some die all the time, at most."""
STUBBORN: Final = 2.0
"""Seconds after which what SIGKILL does not end (it runs as another user, or hangs in the kernel)
holds the job's slot no longer."""


class Leftovers(Protocol):
    """Knows the main processes that run, and ends what one of them has left."""

    def expect(self) -> None:
        """A job's main process is about to be started; nothing else is before `begin`."""
        ...

    def begin(self, pid: int, cookie: str) -> None:
        """It has been started."""
        ...

    def forget(self, pid: int) -> None:
        """It has been reaped, and never executed its command: it cannot have left anything."""
        ...

    def is_clear(self, pid: int) -> bool:
        """It has been reaped: whether a quick look tells that nothing is left of its tree. If so,
        all is done; if not, it must come to an `end`."""
        ...

    async def end(self, pid: int, cookie: str) -> None:
        """It has been reaped: end the rest of its tree. May be called again when cancelled."""
        ...


class MarkedLeftovers:
    """For a program that has children and orphans of its own: touches only what bears the cookie.

    Such a program cannot be made a subreaper behind its back: that holds for all of it, so it
    would inherit the daemons that its other children start, and have to bury them. Nothing tells
    it then that a process has outlived a job, and only a look at /proc finds out. What a job has
    started is younger than its main process, and has a higher number, so nobody looks when no
    process at all was started since, and else only at those that were.
    """

    def __init__(self) -> None:
        self._began: dict[int, float] = {}

    def expect(self) -> None:
        pass

    def begin(self, pid: int, cookie: str) -> None:
        self._began[pid] = trio.current_time()

    def forget(self, pid: int) -> None:
        self._began.pop(pid, None)

    def is_clear(self, pid: int) -> bool:
        is_clear = self._is_recent(pid) and newest_process() == pid
        if is_clear:
            self.forget(pid)
        return is_clear

    async def end(self, pid: int, cookie: str) -> None:
        with trio.move_on_after(STUBBORN):
            # ASYNC110: as below
            while not self.is_clear(pid) and await self._kill_rest(pid, cookie):  # noqa: ASYNC110
                await trio.sleep(PAUSE)
        self.forget(pid)

    def _is_recent(self, pid: int) -> bool:
        return trio.current_time() - self._began.get(pid, -math.inf) < ROUND

    async def _kill_rest(self, pid: int, cookie: str) -> bool:
        above = pid if self._is_recent(pid) and newest_process() > pid else 0
        return await trio.to_thread.run_sync(kill_marked, {mark(cookie)}, above)


class _Signs(NamedTuple):
    """By which processes of a job are known when it has ended."""

    brand: int
    mark: bytes


class AdoptedLeftovers:
    """For a subreaper all of whose children are jobs', or orphans of jobs.

    One read of its own children after a job's end tells whether anything is left: no scan of
    /proc. An orphan belongs to the job whose session, brand or cookie it has. One that has shed all
    three may be any job's that ran when it was first seen, and is ended when the last of these has
    ended. The reaper learns of every orphan: what has shed all, it would not find.
    """

    def __init__(
        self, reaper: ReaperLink, brands: Brands, own_children: Callable[[], list[int]]
    ) -> None:
        self._reaper = reaper
        self._brands = brands
        self._next = NONE
        self._live: dict[int, _Signs] = {}
        self._owners: dict[int, set[int]] = {}
        self._own_children = own_children
        self._not_jobs = frozenset(own_children())

    def expect(self) -> None:
        self._next = self._brands.give()

    def begin(self, pid: int, cookie: str) -> None:
        self._live[pid] = _Signs(self._next, mark(cookie))

    def forget(self, pid: int) -> None:
        self._live.pop(pid, None)

    def is_clear(self, pid: int) -> bool:
        if self._sweep(pid):
            return False
        self.forget(pid)
        return True

    async def end(self, pid: int, cookie: str) -> None:
        if self.is_clear(pid):
            return
        with trio.move_on_after(STUBBORN):
            # A poll: nothing announces the end of a process that is not our child yet.
            while self._sweep(pid):  # noqa: ASYNC110
                await trio.sleep(PAUSE)
        self.forget(pid)

    async def reap(self, interval: float) -> None:
        """Look for orphans, for ever: the reaper must know those that live, and one job could
        fill the process table with those that have ended."""
        while True:
            await trio.sleep(interval)
            self._sweep(None)

    def _sweep(self, ended: int | None) -> bool:
        """Kill the orphans that no job owns once `ended` is gone; False if there are none.

        One that dies after the list was read leaves its own children to us, who are not on it: so
        the list is read again until all that are on it live.
        """
        for _ in range(LOOKS):
            listed = [pid for pid in self._own_children() if not self._is_known(pid)]
            living = [pid for pid in listed if not self._is_reaped(pid)]
            unowned = [pid for pid in living if not self._owners_without(ended, pid)]
            for pid in unowned:
                kill_descendants(pid)
            if unowned or len(living) == len(listed):
                return bool(unowned)
        return True

    def _is_known(self, pid: int) -> bool:
        return pid in self._live or pid in self._not_jobs or pid == self._reaper.pid

    def _is_reaped(self, pid: int) -> bool:
        """Whether an orphan is dead; if so, it is reaped."""
        with suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG)[0] == 0:
                return False
        if self._owners.pop(pid, None) is not None:
            self._reaper.bury(pid)
        return True

    def _owners_without(self, ended: int | None, pid: int) -> set[int]:
        owners = self._owners.get(pid)
        if owners is None:
            owners = self._adopt(pid)
        owners.discard(ended or 0)
        return owners

    def _adopt(self, pid: int) -> set[int]:
        self._owners[pid] = owners = self._possible_owners(pid)
        facts = look_at(pid)
        if facts is not None:
            self._reaper.adopt(pid, facts.start)
        return owners

    def _possible_owners(self, pid: int) -> set[int]:
        own_session = session(pid)
        if own_session in self._live:
            return {own_session}
        brand = brand_of(pid)
        if is_of(self._brands.herd, brand):  # of one of them, or of none: it has outlived its job
            return {main for main, signs in self._live.items() if signs.brand == brand}
        content = environment(pid)
        marked = {main for main, signs in self._live.items() if signs.mark in content}
        return marked or set(self._live)
