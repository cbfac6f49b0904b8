"""The state folder of a worker: its id, and by what to find what its last life may have left.

Owns that one process at a time has it. What a killed worker ran its reaper ends; where both were
killed, nobody did, and the next life does before it takes a job: two attempts never overlap.
"""

import fcntl
import json
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain, count, takewhile
from pathlib import Path
from typing import Any, Final, NamedTuple

from simple_worker.brand import brand_of, is_of
from simple_worker.family import end_family
from simple_worker.scratch import is_scratch_root, is_scratch_root_name, remove_folder
from simple_worker.tree import command_line, is_marked, living, look_at, scratch_mark

_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_IDS: Final = "worker-id"
_LIFE: Final = "life.json"
_NAME: Final = "name"
_MAX_SIZE: Final = 16 * 1024
REAPER: Final = 2.0
"""Seconds that the reaper of the last life has for its work: it knows more than is known here."""
LOOK: Final = 0.05
SHOWN: Final = 10
"""Processes that are named at most."""

Say = Callable[[str], object]


class _Life(NamedTuple):
    """One life: its process, by what those of its jobs are known, and their scratch folder."""

    boot: str
    """The kernel's, of which all these numbers are."""
    pid: int
    start: int
    herd: int
    scratch: str

    @property
    def is_over(self) -> bool:
        """Whether its process is dead. One that lives has a copy of this folder, or had this one
        before somebody removed its files."""
        facts = look_at(self.pid) if self.boot == _boot() else None
        return facts is None or facts.start != self.start

    @property
    def has_reaper(self) -> bool:
        """Whether its reaper is at work, to which the scratch folder was given as an argument."""
        folder = os.fsencode(self.scratch)
        return any(folder in command_line(pid) for pid in living())

    @property
    def left(self) -> list[int]:
        """The processes of its jobs."""
        marks = {scratch_mark(self.scratch)}
        return [pid for pid in living() if self.bears(brand_of(pid)) or is_marked(pid, marks)]

    def end(self) -> None:
        """End them; it gives up on what SIGKILL does not end."""
        end_family({}, {scratch_mark(self.scratch)}, self.bears, os.getpid())

    def bears(self, brand: int) -> bool:
        """Whether that is the brand of one of its jobs."""
        return is_of(self.herd, brand)


class StateFolder:
    """One that this process holds.

    Args:
        path: where it is.
        ids: the open file of its id.
        say: takes a line for the person who watches.

    Attributes:
        worker_id: the same in each of its lives.
    """

    def __init__(self, path: Path, ids: int, say: Say) -> None:
        self._file = path / _LIFE
        self._ids = ids
        self._say = say
        said = os.pread(ids, 100, 0).decode("ascii", "replace").strip()
        self.worker_id = said if _ID.fullmatch(said) else self._new_id()
        if said and said != self.worker_id:
            say(f"{path / _IDS} held no id of a worker; this one has a new one now")

    def _new_id(self) -> str:
        worker_id = secrets.token_hex(16)
        os.ftruncate(self._ids, 0)
        os.pwrite(self._ids, worker_id.encode(), 0)
        os.fsync(self._ids)
        return worker_id

    def end_last_life(self) -> None:
        """End what the last life has left, if it could not do so itself. It blocks meanwhile.

        One that goes on has another folder, of which this one is a copy: it keeps its id, since a
        server would take this process for a new life of it.

        Raises:
            StateUnusable: what is known of it cannot be read.
        """
        with _explained(self._file.parent):
            last = self._last_life()
        if last is None:
            return
        if not last.is_over:
            self.worker_id = self._new_id()
            self._say(
                f"{self._file.parent} is a copy of the folder of a worker that runs (process"
                f" {last.pid}): this one has an id of its own now"
            )
            return
        if last.boot == _boot():
            self._end_jobs(last)
        if is_scratch_root(Path(last.scratch)):
            remove_folder(last.scratch)

    def _end_jobs(self, last: _Life) -> None:
        due = time.monotonic() + REAPER
        while last.has_reaper and time.monotonic() < due:
            time.sleep(LOOK)
        if last.left:
            self._say("ending what the jobs of this worker's last life have left running")
        last.end()
        if left := last.left:
            shown = ", ".join(map(str, left[:SHOWN]))
            self._say(f"{len(left)} of these processes cannot be ended from here: {shown}")

    @contextmanager
    def life(self, herd: int, scratch: Path) -> Iterator[None]:
        """Leave word of this life while entered: nothing of it is left afterwards."""
        facts = look_at(os.getpid())
        start = 0 if facts is None else facts.start
        life = _Life(_boot(), os.getpid(), start, herd, str(scratch))
        try:
            self._write(life)
        except OSError as error:  # no reason not to work
            self._say(
                f"{self._file} cannot be written, so that what its jobs leave would stay if this"
                f" worker and its reaper were killed at once: {error.strerror}"
            )
        try:
            yield
        finally:
            with suppress(OSError):  # somebody has done something to it; the next life will see
                if self._last_life() == life:
                    self._file.unlink()

    def _write(self, life: _Life) -> None:
        new = self._file.with_suffix(".new")
        new.unlink(missing_ok=True)
        try:
            with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as text:
                json.dump(life._asdict(), text)
            new.rename(self._file)
        finally:
            new.unlink(missing_ok=True)

    def _last_life(self) -> _Life | None:
        """None: it has ended well, or all that there is is no word of a life."""
        try:
            file = os.open(self._file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            is_file = stat.S_ISREG(os.fstat(file).st_mode)  # a pipe would be waited for
            return _parse(os.read(file, _MAX_SIZE)) if is_file else None
        finally:
            os.close(file)


def _parse(content: bytes) -> _Life | None:
    with suppress(ValueError, TypeError, RecursionError):
        said: dict[str, Any] = json.loads(content)
        life = _Life(**said)
        if [type(each) for each in life] == [str, int, int, int, str] and _is_usable(life.scratch):
            return life
    return None


def _is_usable(scratch: str) -> bool:
    """Whether it names one folder of one worker: what is marked with it is ended."""
    return b"\0" not in os.fsencode(scratch) and is_scratch_root_name(Path(scratch))


class StateUnusable(OSError):
    """A state folder cannot be used: why, and what to do."""


@contextmanager
def held_state(folder: Path, say: Say, name: str = "") -> Iterator[StateFolder]:
    """The state in a folder while entered; a second worker gets its own below it.

    Of several it is that of a worker of this name, or else the first that is free.

    Raises:
        StateUnusable: it cannot be made, or used.
    """
    with _explained(folder):
        place, ids = _take(folder, name)
    try:
        with _explained(place):
            state = StateFolder(place, ids, say)
        if name and _name_at(place) != name:
            with suppress(OSError):  # there need not be several
                _write_name(place, name)
        yield state
    finally:
        os.close(ids)


def _take(folder: Path, name: str) -> tuple[Path, int]:
    """A place that nobody has, and the open file of its id."""
    for place in _places(folder, name):
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        ids = os.open(place / _IDS, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(ids, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(ids)
        else:
            return place, ids
    raise AssertionError("there is always one more")


def _places(folder: Path, name: str) -> Iterator[Path]:
    places = chain([folder], (folder / f"worker-{number}" for number in count(2)))
    known = list(takewhile(Path.exists, places))
    yield from sorted(known, key=lambda place: _name_at(place) != name)
    for number in count(len(known) + 1):
        yield folder if number == 1 else folder / f"worker-{number}"


def _name_at(place: Path) -> str | None:
    path = place / _NAME
    with suppress(OSError, UnicodeDecodeError):
        if path.is_file():  # a pipe would be waited for
            with path.open(encoding="utf-8") as file:
                return file.read(_MAX_SIZE)
    return None


def _write_name(place: Path, name: str) -> None:
    file = os.open(place / _NAME, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(file, "w", encoding="utf-8") as text:
        text.write(name)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StateUnusable(
            f"the state folder {folder} cannot be used: {error.strerror}; mend it, or choose"
            " another with --state-dir"
        ) from error


def _boot() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text()
    return ""
