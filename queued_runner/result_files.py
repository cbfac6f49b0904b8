"""Results in files, one an attempt and owner, and what a place of results can do (`ResultFiles`).

Owns every touch of such a file: all of it blocks, and is called in a thread. It is named after job,
attempt and epoch, never after anything in it, and is looked into for its head alone; `results.py`
says what is written when, and what counts.
"""

import errno
import os
import re
import shutil
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from queued_runner.store.base import NoRoom
from remote_runner.results import MAX_HEAD

FOLDER_DEPTH: Final = 3
"""Folders above a file that may be new with it, up to the one that holds `results`."""
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class ResultFile(NamedTuple):
    """Whose file it is: a job, the number of its attempt, and the epoch of its owner."""

    job_id: int
    attempt: int
    epoch: int = 0

    @property
    def name(self) -> str:
        """Of the file; the first owner's bears no epoch."""
        return f"{self.attempt}.{self.epoch}" if self.epoch else str(self.attempt)


_NAME: Final = re.compile(r"([0-9]+)(?:\.([0-9]+))?")


def parse_file(job_id: str, name: str) -> ResultFile | None:
    """Whose file is called so; None: none of ours, which is left alone."""
    found = _NAME.fullmatch(name)
    if not job_id.isdecimal() or found is None:
        return None
    return ResultFile(int(job_id), int(found[1]), int(found[2] or 0))


class OpenResult(Protocol):
    """A file that is read."""

    def read(self, size: int, offset: int) -> bytes:
        """At most so many bytes from there; empty: it is shorter. Raises OSError, StoreAway."""
        ...

    def close(self) -> None:
        """Done with it; blocks for no time worth a thread."""
        ...


class ResultFiles(Protocol):
    """A place of results. Every verb blocks; one thread at a time writes.

    All raise OSError where the disk failed, and StoreAway where the place cannot be reached.
    """

    def append(self, file: ResultFile, data: bytes, size: int) -> None:
        """Write behind the first `size` bytes; what was there is no more.

        Raises:
            NoRoom: there is no room; nothing of them is left behind.
        """
        ...

    def read_head(self, file: ResultFile) -> bytes:
        """How it begins: its first line, if that is no longer than a head may be."""
        ...

    def keep(self, file: ResultFile) -> None:
        """It is whole: make it durable. Raised StoreAway, it can be tried again."""
        ...

    def discard(self, file: ResultFile) -> None:
        """Delete it, if it is there."""
        ...

    def open(self, file: ResultFile) -> OpenResult: ...

    def tidy(self, kept: Collection[ResultFile]) -> None:
        """Delete all files but these."""
        ...

    def remove_older(self, file: ResultFile) -> None:
        """Delete those of this attempt's earlier owners."""
        ...

    def remove(self, job_ids: Sequence[int]) -> None:
        """Delete all files of these jobs."""
        ...


class _OpenFile:
    def __init__(self, number: int) -> None:
        self._number = number

    def read(self, size: int, offset: int) -> bytes:
        return os.pread(self._number, size, offset)

    def close(self) -> None:
        os.close(self._number)


class ResultFolder:
    """Results in a folder, which several servers may share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path_of(self, file: ResultFile) -> Path:
        """Where it lies, if it is there."""
        return self._folder / str(file.job_id // 1000) / str(file.job_id) / file.name

    def append(self, file: ResultFile, data: bytes, size: int) -> None:
        """As `ResultFiles`."""
        path = self.path_of(file)
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            number = _open(path, os.O_WRONLY | os.O_CREAT)
        except OSError as error:
            raise _refusal(error) from error
        try:
            try:
                done = 0
                while done < len(data):
                    done += os.pwrite(number, data[done:], size + done)
            except OSError as error:
                os.ftruncate(number, size)
                raise _refusal(error) from error
        finally:
            os.close(number)

    def read_head(self, file: ResultFile) -> bytes:
        """As `ResultFiles`."""
        try:
            with self.path_of(file).open("rb") as stream:
                return stream.readline(MAX_HEAD + 1)
        except FileNotFoundError:
            return b""

    def keep(self, file: ResultFile) -> None:
        """As `ResultFiles`: the file, and the names that lead to it from the data directory on."""
        path = self.path_of(file)
        number = _open(path)
        try:
            os.fdatasync(number)
        finally:
            os.close(number)
        for folder in (path.parent, *path.parent.parents[:FOLDER_DEPTH]):
            number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(number)
            finally:
                os.close(number)

    def discard(self, file: ResultFile) -> None:
        """As `ResultFiles`."""
        self.path_of(file).unlink(missing_ok=True)

    def open(self, file: ResultFile) -> OpenResult:
        """As `ResultFiles`."""
        return _OpenFile(_open(self.path_of(file)))

    def tidy(self, kept: Collection[ResultFile]) -> None:
        """As `ResultFiles`, with the folders that are empty then."""
        for path in self._folder.glob("*/*/*"):
            file = parse_file(path.parent.name, path.name)
            if file is not None and file not in kept:
                path.unlink()
                for parent in path.parents[:2]:
                    with suppress(OSError):  # something else is in it
                        parent.rmdir()

    def remove_older(self, file: ResultFile) -> None:
        """As `ResultFiles`."""
        for path in self.path_of(file).parent.glob("*"):
            other = parse_file(path.parent.name, path.name)
            if other is not None and other[:2] == file[:2] and other.epoch < file.epoch:
                path.unlink(missing_ok=True)

    def remove(self, job_ids: Sequence[int]) -> None:
        """As `ResultFiles`."""
        for job_id in job_ids:
            with suppress(FileNotFoundError):  # most jobs leave nothing
                shutil.rmtree(self.path_of(ResultFile(job_id, 1)).parent)


def _open(path: Path, flags: int = os.O_RDONLY) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _refusal(error: OSError) -> OSError | NoRoom:
    if error.errno not in _NO_ROOM:
        return error
    return NoRoom(f"results cannot be written: {error.strerror}")
