"""The dead-man process: ends every job's tree when the worker itself dies, by SIGKILL too.

Holds the read end of a pipe. The worker writes a line when a job begins (`+cookie pid`) and when
nothing of it is left (`-cookie`); the end of the pipe without `quit` means the worker is dead.
The standard library alone, so that it starts at once. The worker's end is `reaper_link.py`.
"""

import os
import signal
import time
from typing import Final

from simple_worker.scratch import remove_folder
from simple_worker.tree import kill_marked, mark, signal_group

ROUNDS: Final = 40
PAUSE: Final = 0.05
READ_PAUSE: Final = 0.02
"""Seconds between two reads: to be woken by every line would slow the worker down."""


def watch(pipe: int, scratch: str) -> None:
    """Watch until the worker leaves, or end its jobs when it dies and remove the folder `scratch`.

    The jobs are gone long before the two seconds that `ROUNDS` take are over.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    live: dict[str, int] = {}
    rest = b""
    while data := os.read(pipe, 65536):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if line == b"quit":
                return
            cookie, _, pid = line[1:].decode().partition(" ")
            if line.startswith(b"+"):
                live[cookie] = int(pid)
            else:
                live.pop(cookie, None)
        time.sleep(READ_PAUSE)
    if live:
        _end(live)
    remove_folder(scratch)


def _end(live: dict[str, int]) -> None:
    for pid in filter(None, live.values()):
        signal_group(pid, signal.SIGKILL)
    marks = {mark(cookie) for cookie in live}
    for _ in range(ROUNDS):
        if not kill_marked(marks):
            return
        time.sleep(PAUSE)
