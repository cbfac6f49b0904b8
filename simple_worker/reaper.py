"""The dead-man process: ends every job's tree when the worker itself dies, by SIGKILL too.

Holds the read end of a pipe. The worker writes a line when a job begins (`+pid cookie`) and when
it has ended (`-pid cookie`); the end of the pipe without `quit` means that the worker is dead.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from simple_worker.tree import COOKIE, kill_marked

ROUNDS: Final = 40
PAUSE: Final = 0.05


_START: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]);"
    " from simple_worker.reaper import watch; watch(int(sys.argv[2]))"
)


class Reaper:
    """The worker's end of the pipe."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def watch(self, pid: int, cookie: str) -> None:
        """A job's main process has begun."""
        self._write(f"+{pid} {cookie}\n")

    def unwatch(self, pid: int, cookie: str) -> None:
        """Nothing of the job is left."""
        self._write(f"-{pid} {cookie}\n")

    def _write(self, line: str) -> None:
        with suppress(BrokenPipeError):  # a dead reaper must not stop the worker
            os.write(self._pipe, line.encode())


@contextmanager
def reaper() -> Iterator[Reaper]:
    """A reaper process for the time of the worker's life."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    process = subprocess.Popen(
        [sys.executable, "-S", "-E", "-c", _START, str(Path(__file__).parents[1]), str(reading)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=(reading,),
        start_new_session=True,
        env={"PATH": os.defpath},
    )
    os.close(reading)
    try:
        yield Reaper(writing)
    finally:
        with suppress(BrokenPipeError):
            os.write(writing, b"quit\n")
        os.close(writing)
        process.wait()


def watch(pipe: int) -> None:
    """The reaper process itself: returns once there is nothing left to watch or to end."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    live: dict[str, int] = {}
    rest = b""
    while data := os.read(pipe, 65536):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if line == b"quit":
                return
            text, cookie = line[1:].decode().split()
            if line.startswith(b"+"):
                live[cookie] = int(text)
            else:
                live.pop(cookie, None)
    if not live:
        return
    for pid in live.values():
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
    cookies = {f"{COOKIE}={cookie}".encode() for cookie in live}
    for _ in range(ROUNDS):
        if not kill_marked(cookies):
            return
        time.sleep(PAUSE)
