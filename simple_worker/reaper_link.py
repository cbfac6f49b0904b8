"""The worker's end of its reaper: starts it, tells it which jobs run, sends it home.

Never blocks, whatever became of the reaper. What the reaper does is `reaper.py`'s.
"""

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio

QUIT_TIMEOUT: Final = 2.0

_START: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]);"
    " from simple_worker.reaper import watch; watch(int(sys.argv[2]), sys.argv[3])"
)


class ReaperLink:
    """Tells the reaper about jobs; what it has not read costs at most a line a job it knows."""

    def __init__(self, pipe: int) -> None:
        os.set_blocking(pipe, False)
        self._pipe = pipe
        self._untold: dict[str, bytes] = {}
        self._unknown: set[str] = set()

    def expect(self, cookie: str) -> None:
        """A job with this cookie is about to begin."""
        self._unknown.add(cookie)
        self._tell(cookie, f"+{cookie} 0\n")

    def watch(self, cookie: str, pid: int) -> None:
        """Its main process is `pid`."""
        self._tell(cookie, f"+{cookie} {pid}\n")

    def unwatch(self, cookie: str) -> None:
        """Nothing of the job is left."""
        if cookie in self._unknown:
            self._unknown.remove(cookie)
            del self._untold[cookie]
        else:
            self._tell(cookie, f"-{cookie}\n")

    def quit(self) -> None:
        """Nothing of any job is left, and the worker leaves."""
        self._tell("", "quit\n")

    def _tell(self, cookie: str, line: str) -> None:
        self._untold[cookie] = line.encode()  # the newest word about a job is enough
        try:
            while self._untold:
                first = next(iter(self._untold))
                # Shorter than PIPE_BUF: it is written whole or not at all.
                os.write(self._pipe, self._untold[first])
                del self._untold[first]
                self._unknown.discard(first)
        except (BlockingIOError, BrokenPipeError):
            pass


@asynccontextmanager
async def opened_reaper(scratch: Path) -> AsyncIterator[ReaperLink]:
    """A reaper process while entered; should this process die, it removes `scratch` as well."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        # From this thread: the children of another one are inherited, like an orphan, at its end.
        process = subprocess.Popen(  # noqa: ASYNC220 see docs/decisions/0002
            [
                sys.executable, "-I", "-S", "-c", _START,
                str(Path(__file__).parents[1]), str(reading), str(scratch),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(reading,),
            start_new_session=True,
            env={"PATH": os.defpath},
        )  # fmt: skip
    except OSError:
        os.close(writing)
        raise
    finally:
        os.close(reading)
    link = ReaperLink(writing)
    try:
        yield link
    finally:
        link.quit()
        os.close(writing)
        await _wait(process)


async def _wait(process: subprocess.Popen[bytes]) -> None:
    pidfd = os.pidfd_open(process.pid)
    try:
        with trio.move_on_after(QUIT_TIMEOUT, shield=True) as waiting:
            await trio.lowlevel.wait_readable(pidfd)
    finally:
        os.close(pidfd)
        if waiting.cancelled_caught:
            process.kill()
        process.wait()
