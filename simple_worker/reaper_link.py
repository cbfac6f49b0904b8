"""The worker's end of its reaper: starts it, tells it which jobs run, sends it home.

Owns that there is one: what the reaper is told never blocks, whatever became of it, and one that
has died gets a successor that is told all that is known. Owns as well which jobs the reaper may
have ended while this process stood still. What the reaper does is `reaper.py`'s.
"""

import logging
import math
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import trio

from remote_runner.signals import signal_name
from simple_worker.backoff import reconnect_delay
from simple_worker.brand import NONE
from simple_worker.fences import BEAT, REAPED, Fences, clock
from simple_worker.reaper import ORPHAN

QUIT_TIMEOUT: Final = 2.0
YOUNG: Final = 1.0
"""A reaper that dies at this age, in seconds, is replaced then; an older one at once."""

_START: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); from simple_worker.reaper import watch;"
    " watch(int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))"
)

log = logging.getLogger("simple_worker")

Say = Callable[[str], None]


class ReaperLink:
    """Tells the reaper about jobs; what it has not read costs at most a line a job it knows."""

    def __init__(self) -> None:
        self.pid = 0
        """The number of the reaper; 0 while there is none."""
        self._pipe: int | None = None
        self._live: dict[str, int] = {}
        self._untold: dict[str, None] = {}
        """About whom there is news: the newest word about each is enough."""
        self._known: set[str] = set()
        """Whom the reaper takes for alive."""
        self._kill: Callable[[], object] = lambda: None
        self._limits: dict[str, float] = {}
        self._fences = Fences()
        """As the reaper knows them: it judges by the contact that it was told of last."""
        self._contact: float | None = None
        self._is_contact_told = True
        self._passed: set[str] = set()
        self._just_passed: list[str] = []

    def connect(self, pid: int, pipe: int, kill: Callable[[], object] = lambda: None) -> None:
        """There is a new reaper, which `kill` ends: tell it all."""
        os.set_blocking(pipe, False)
        self.pid, self._pipe, self._kill = pid, pipe, kill
        self._known.clear()
        self._untold = dict.fromkeys(self._live)
        self._is_contact_told = self._contact is None
        self._flush()

    def disconnect(self) -> None:
        """It has died."""
        self.pid, self._pipe = 0, None
        self._note_passed()
        self._fences = Fences()

    def tell_contact(self, contact: float) -> list[str]:
        """The runner was heard of at this moment, on the clock of fences.

        To be said while jobs run, each time that `BEAT` of the shortest `detach` is over. Returns
        the cookies of those whose fence was found to have passed since the last time: the reaper
        may have ended them, and they must not run any more.
        """
        self._contact, self._is_contact_told = contact, False
        self._flush()
        passed, self._just_passed = self._just_passed, []
        return [cookie for cookie in passed if cookie in self._passed]

    def expect(self, cookie: str, detach: float | None = None, silence: float = 0.0) -> None:
        """A job with this cookie is about to begin.

        `detach`: seconds that the runner waits for it without contact; None: for ever. `silence`:
        seconds since it was last heard of.
        """
        if detach is not None:
            self._limits[cookie] = REAPED * detach
            contact, told = clock() - silence, self._fences.contact
            if told == math.inf or contact >= told + BEAT * detach:
                self._contact, self._is_contact_told = contact, False
                self._flush()
        self._set(cookie, 0)

    def watch(self, cookie: str, pid: int) -> None:
        """Its main process is `pid`."""
        self._set(cookie, pid)

    def unwatch(self, cookie: str) -> bool:
        """Nothing of the job is left. Whether its fence has passed, so that this is the reaper's
        work, if somebody's."""
        has_passed = cookie in self._passed or self._fences.has_passed(cookie, clock())
        self._passed.discard(cookie)
        self._limits.pop(cookie, None)
        self._fences.remove(cookie)
        self._remove(cookie)
        return has_passed

    def adopt(self, pid: int, start: int) -> None:
        """A job has left this process behind; `start` as in `tree.Facts`."""
        self._set(f"{ORPHAN}{pid}", start)

    def bury(self, pid: int) -> None:
        """It has ended."""
        self._remove(f"{ORPHAN}{pid}")

    def quit(self) -> None:
        """Nothing of any job is left, and the worker leaves."""
        self._flush()
        self._write("quit\n")

    def _set(self, name: str, number: int) -> None:
        self._live[name] = number
        if self._untold or not self._is_contact_told or not self._begin(name, number):
            self._untold[name] = None
            self._flush()

    def _remove(self, name: str) -> None:
        if self._live.pop(name, None) is None:
            return
        if not self._untold and self._write(f"-{name}\n"):
            self._known.discard(name)
        elif name in self._known:
            self._untold[name] = None
            self._flush()
        else:
            del self._untold[name]

    def _flush(self) -> None:
        if not self._is_contact_told and not self._pass_on_contact():
            return  # a job that it hears of must not be judged by an old one
        while self._untold:
            name = next(iter(self._untold))
            number = self._live.get(name)
            if number is not None:
                is_told = self._begin(name, number)
            elif is_told := self._write(f"-{name}\n"):
                self._known.discard(name)
            if not is_told:
                return
            del self._untold[name]

    def _begin(self, name: str, number: int) -> bool:
        limit = self._limits.get(name)
        if limit is None or self._fences.has(name):
            if not self._write(f"+{name} {number}\n"):
                return False
        elif self._write(f"+{name} {number} {limit!r}\n"):
            self._fences.add(name, limit)
        else:
            return False
        self._known.add(name)
        return True

    def _pass_on_contact(self) -> bool:
        assert self._contact is not None
        if self._write(f"~{self._contact!r}\n"):
            # It looks at the time before it reads, and this looks after it has written: a job
            # whose fence has not passed here will not be ended there.
            self._note_passed()
            self._fences.extend(self._contact)
            self._is_contact_told = True
        elif clock() > (self._fences.contact + self._fences.due) / 2:
            self._kill()  # it does not read, and would wake up to end jobs that are well
        return self._is_contact_told

    def _note_passed(self) -> None:
        passed = [name for name in self._fences.passed(clock()) if name not in self._passed]
        self._passed.update(passed)
        self._just_passed += passed

    def _write(self, line: str) -> bool:
        """Write a line if there is room: shorter than PIPE_BUF, it is whole or not there at all."""
        if self._pipe is None:
            return False
        try:
            os.write(self._pipe, line.encode())
        except (BlockingIOError, BrokenPipeError):
            return False
        return True


class ReaperProcess:
    """A reaper that runs, and the pipe into it. What it is given: see `reaper.watch`.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, scratch: Path, herd: int) -> None:
        reading, self.pipe = os.pipe2(os.O_CLOEXEC)
        try:
            # From this thread: the children of another one are inherited, like an orphan, at its
            # end.
            self._popen = subprocess.Popen(
                [
                    sys.executable, "-I", "-S", "-c", _START,
                    str(Path(__file__).parents[1]), str(reading), str(scratch), str(herd),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(reading,),
                start_new_session=True,
                env={"PATH": os.defpath},
            )  # fmt: skip
            self.pid = self._popen.pid
            self._pidfd = self._open_pidfd()
        except OSError:
            os.close(self.pipe)
            raise
        finally:
            os.close(reading)

    async def wait(self) -> str:
        """Wait for its end: how it ended, in words."""
        await trio.lowlevel.wait_readable(self._pidfd)
        status = self._popen.wait()
        return f"exit status {status}" if status >= 0 else signal_name(-status)

    def kill(self) -> None:
        """End it at once; `wait` tells of it."""
        self._popen.kill()

    async def close(self) -> None:
        """Wait until it has left, which the end of its pipe makes it do; kill it if it does not."""
        os.close(self.pipe)
        with trio.move_on_after(QUIT_TIMEOUT, shield=True) as waiting:
            await self.wait()
        if waiting.cancelled_caught:
            self._kill()
        os.close(self._pidfd)

    def _open_pidfd(self) -> int:
        try:
            return os.pidfd_open(self.pid)
        except OSError:
            self._kill()  # the end of its pipe would make it think that this process has died
            raise

    def _kill(self) -> None:
        self._popen.kill()
        self._popen.wait()


Start = Callable[[], ReaperProcess]


@asynccontextmanager
async def opened_reaper(
    scratch: Path, say: Say = log.warning, herd: int = NONE
) -> AsyncIterator[ReaperLink]:
    """A reaper while entered; should this process die, it removes `scratch` as well, and ends
    all that is of the herd.

    Raises:
        OSError: there is no reaper to begin with.
    """
    link = ReaperLink()
    start = partial(ReaperProcess, scratch, herd)
    process = start()
    link.connect(process.pid, process.pipe, process.kill)
    # Jobs that are cancelled need it until their trees are gone.
    keeping = trio.CancelScope(shield=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_keep, link, process, start, say, keeping)
        try:
            yield link
        finally:
            link.quit()
            keeping.cancel()


async def _keep(
    link: ReaperLink, process: ReaperProcess, start: Start, say: Say, keeping: trio.CancelScope
) -> None:
    """Put another in the place of each reaper that dies, until `keeping` is cancelled."""
    with keeping:
        while True:
            began = trio.current_time()
            try:
                why = await process.wait()
            finally:
                link.disconnect()
                await process.close()
            await trio.sleep_until(began + YOUNG)
            process = await _start_again(start, why, say)
            link.connect(process.pid, process.pipe, process.kill)
            say(f"the reaper process has died ({why}) and was replaced")


async def _start_again(start: Start, why: str, say: Say) -> ReaperProcess:
    failures = 0
    while True:
        try:
            return start()
        except OSError as error:
            failures += 1
            delay = reconnect_delay(failures, lambda: 1.0)
            say(
                f"the reaper process has died ({why}) and cannot be replaced, so that jobs would"
                f" outlive a killed worker: {error}; next try in {delay:g} s"
            )
            await trio.sleep(delay)
