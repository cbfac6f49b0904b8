"""The dead-man process: ends every job's tree when the worker itself dies, by SIGKILL too.

Holds the read end of a pipe. The worker writes a line when a job begins (`+cookie pid`) and when
nothing of it is left (`-cookie`), and the same of each process that jobs have orphaned
(`+@pid start`, `-@pid`); the end of the pipe without `quit` means the worker is dead.
The standard library alone, so that it starts at once. The worker's end is `reaper_link.py`.
"""

import os
import select
import signal
from typing import Final

from simple_worker.family import end_family
from simple_worker.scratch import remove_folder
from simple_worker.tree import mark

ORPHAN: Final = "@"
"""What the name of an orphan begins with, and no cookie does."""
READ_PAUSE: Final = 20
"""Milliseconds between two reads: to be woken by every line would slow the worker down."""


def watch(pipe: int, scratch: str, herd: int) -> None:
    """Watch until the worker leaves, or end its jobs when it dies and remove the folder `scratch`.

    The jobs are gone before two seconds are over. `herd`: of its jobs, as in `brand.Brands`.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    hangup = select.poll()
    hangup.register(pipe, 0)
    live: dict[str, int] = {}
    rest = b""
    while data := os.read(pipe, 65536):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if line == b"quit":
                return
            name, _, value = line[1:].decode().partition(" ")
            if line.startswith(b"+"):
                live[name] = int(value)
            else:
                live.pop(name, None)
        hangup.poll(READ_PAUSE)  # no pause at the worker's death: trees begin to fall apart then
    if live:
        _end(live, herd)
    remove_folder(scratch)


def _end(live: dict[str, int], herd: int) -> None:
    founders: dict[int, int | None] = {}
    marks = set()
    for name, number in live.items():
        if name.startswith(ORPHAN):
            founders[int(name[1:])] = number
        else:
            marks.add(mark(name))
            if number:
                founders[number] = None
    end_family(founders, marks, herd)
