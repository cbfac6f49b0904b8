"""The dead-man process: ends every job's tree when the worker itself dies, by SIGKILL too, and the
trees whose fence has passed when it is stopped, or hangs.

Holds the read end of a pipe. The worker writes a line when a job begins (`+cookie pid fence`; the
number alone when it is known later), when nothing of it is left (`-cookie`), the same of each
process that jobs have orphaned (`+@pid start`, `-@pid`), and now and then when the runner was last
heard of (`~time`); the end of the pipe without `quit` means the worker is dead. What a fence is:
`fences.py`. The standard library alone, so that it starts at once. The worker's end is
`reaper_link.py`.
"""

import math
import os
import select
import signal
from functools import partial
from typing import Final

from simple_worker.brand import brand_of, is_of
from simple_worker.family import end_family
from simple_worker.fences import Fences, clock
from simple_worker.scratch import remove_folder
from simple_worker.tree import mark

ORPHAN: Final = "@"
"""What the name of an orphan begins with, and no cookie does."""
READ: Final = 65536
"""Bytes of one read: as much as the pipe holds, so that a short one has emptied it."""
READ_PAUSE: Final = 20
"""Milliseconds between two reads: to be woken by every line would slow the worker down."""
LOOK: Final = 1000
"""Milliseconds at most between two looks at the fences: waiting does not count the time that the
machine sleeps."""


class Knowledge:
    """What a reaper was told of the jobs that live."""

    def __init__(self, herd: int) -> None:
        self.fences = Fences()
        self._herd = herd
        self._live: dict[str, int] = {}
        self._over: set[str] = set()
        """Those ended because their fence has passed."""

    def learn(self, line: bytes) -> None:
        """Take a line."""
        name, *values = line[1:].decode().split(" ")
        if line.startswith(b"~"):
            self.fences.extend(float(name))
        elif line.startswith(b"+"):
            self._live[name] = int(values[0])
            if len(values) > 1:
                self.fences.add(name, float(values[1]))
        else:
            self._live.pop(name, None)
            self._over.discard(name)
            self.fences.remove(name)

    def end_passed(self, now: float) -> None:
        """End the jobs whose fence has passed; the worker may wake up at any moment, and start
        others."""
        passed = self.fences.passed(now)
        if not passed:
            return
        for name in passed:
            self.fences.remove(name)
        self._over.update(passed)
        jobs = {name for name in self._live if not name.startswith(ORPHAN)}
        # Nobody has told whose the orphans are: they go with the last of the jobs.
        names = self._live if jobs <= self._over else passed
        brands = {brand_of(self._live[name]) for name in passed}
        self._end(names, {brand for brand in brands if is_of(self._herd, brand)})

    def end_all(self) -> None:
        """End all that lives, and all of the herd: the worker is dead."""
        if self._live:
            self._end(self._live, None)

    def _end(self, names: dict[str, int] | list[str], brands: set[int] | None) -> None:
        founders: dict[int, int | None] = {}
        marks = set()
        for name in names:
            number = self._live[name]
            if name.startswith(ORPHAN):
                founders[int(name[1:])] = number
            else:
                marks.add(mark(name))
                if number:
                    founders[number] = None
        is_branded = partial(is_of, self._herd) if brands is None else brands.__contains__
        end_family(founders, marks, is_branded, os.getppid())


def watch(pipe: int, scratch: str, herd: int) -> None:
    """Watch until the worker leaves, or end its jobs when it dies and remove the folder `scratch`.

    The jobs are gone before two seconds are over. `herd`: of its jobs, as in `brand.Brands`.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.set_blocking(pipe, False)
    readable, hangup = select.poll(), select.poll()
    readable.register(pipe, select.POLLIN)
    hangup.register(pipe, 0)
    knowledge = Knowledge(herd)
    rest = b""
    while True:
        readable.poll(_wait(knowledge.fences.due - clock()))
        # First the time, then all that was written until then: a word of the worker that came
        # before a fence has passed is never overlooked.
        now = clock()
        try:
            data = os.read(pipe, READ)
        except BlockingIOError:
            knowledge.end_passed(now)
            continue
        if not data:
            break
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if line == b"quit":
                return
            knowledge.learn(line)
        if len(data) < READ:
            knowledge.end_passed(now)
        hangup.poll(READ_PAUSE)  # no pause at the worker's death: trees begin to fall apart then
    knowledge.end_all()
    remove_folder(scratch)


def _wait(seconds: float) -> int | None:
    return None if seconds == math.inf else math.ceil(min(max(0.0, seconds * 1000), LOOK))
