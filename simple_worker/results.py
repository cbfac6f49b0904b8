"""What a job has left in its results folder: looked through once, copied, and kept to be sent.

Owns which files are taken. The tree of the job is gone, but others may write there still, and what
lies there may be meant to deceive: every step opens by name below an open folder and follows no
link, what was opened is looked at again, and nothing is read that is no regular file. The copy is
what is sent, however often: it does not change, and has no name, so that it goes with this process.
"""

import os
import stat
import tempfile
from collections.abc import Callable
from itertools import islice
from typing import IO, Final, Self

from remote_runner.results import (
    FOLDER,
    MAX_FILES,
    MAX_TOLD,
    Head,
    LeftOut,
    ResultFile,
    encode_head,
    name_problem,
    shown,
)

IN_MEMORY: Final = 256 * 1024
"""Bytes of all files up to which no file is made for them."""
COPY: Final = 256 * 1024
MAX_DEPTH: Final = 32
MAX_SEEN: Final = 10_000
"""Entries of folders that are looked at; a job may have made millions."""

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Archive:
    """The results of one attempt as the stream that is sent: its head, then the files' bytes."""

    def __init__(self, head: bytes, body: bytes | IO[bytes], size: int) -> None:
        self._head = head
        self._body = body
        self.size = len(head) + size
        """Bytes of the stream."""

    @property
    def is_in_memory(self) -> bool:
        """Whether `read` touches no disk."""
        return isinstance(self._body, bytes)

    def read(self, offset: int, limit: int) -> bytes:
        """At most `limit` bytes from `offset` on; none at the end.

        Raises:
            OSError: the disk does not give them back.
        """
        limit = min(limit, self.size - offset)  # behind it lie files that were given up half-way
        if offset < len(self._head):
            return self._head[offset : offset + limit]
        offset -= len(self._head)
        if isinstance(self._body, bytes):
            return self._body[offset : offset + limit]
        return os.pread(self._body.fileno(), limit, offset)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Forget all of it."""
        if not isinstance(self._body, bytes):
            self._body.close()


def collect(
    scratch: str, limit: int, keep_in: str, owner: int | None, check: Callable[[], object]
) -> Archive | None:
    """What a job left in the results folder of its scratch directory; None: nothing at all.

    It blocks, in proportion to what there is. What is wrong with files is in the head, not raised.

    Args:
        limit: bytes of all files together; one that does not fit is left out as a whole.
        keep_in: the folder for the copy.
        owner: take only files of this user; None: of anybody.
        check: called now and then; what it raises ends the work.
    """
    with _Collection(limit, keep_in, owner, check) as collection:
        try:
            facts = os.lstat(f"{scratch}/{FOLDER}")
            if stat.S_ISDIR(facts.st_mode):
                collection.start(scratch)
            else:
                collection.leave_out(FOLDER, "it is not a folder; make one with mkdir -p")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            collection.leave_out(FOLDER, _why(error))
        return collection.archive()


class _NoFit(Exception):
    """A file is not taken; the message says why."""


class _Collection:
    """The files that were taken so far, and their bytes."""

    def __init__(
        self, limit: int, keep_in: str, owner: int | None, check: Callable[[], object]
    ) -> None:
        self._device = 0
        self._limit = limit
        self._keep_in = keep_in
        self._owner = owner
        self._check = check
        self._files: list[ResultFile] = []
        self._left_out: list[LeftOut] = []
        self._left_out_count = 0
        self._seen = 0
        self._size = 0
        self._memory = bytearray()
        self._file: IO[bytes] | None = None
        self._is_given = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None and not self._is_given:
            self._file.close()

    def leave_out(self, name: str, why: str) -> None:
        """Remember that this is no result."""
        self._left_out_count += 1
        if len(self._left_out) < MAX_TOLD:
            self._left_out.append(LeftOut(shown(name), why))

    def start(self, scratch: str) -> None:
        """Take what is in the results folder of this directory."""
        folder = os.open(scratch, _FOLDER)
        try:
            self._device = os.fstat(folder).st_dev
            self.walk(folder, FOLDER, "", 0)
        finally:
            os.close(folder)

    def walk(self, parent: int, entry: str, prefix: str, depth: int) -> None:
        """Take what is in a folder and below; `prefix` stands before the names of all of it."""
        try:
            folder = os.open(entry, _FOLDER, dir_fd=parent)
        except OSError as error:
            self.leave_out(prefix or FOLDER, _why(error))
            return
        try:
            if os.fstat(folder).st_dev != self._device:
                self.leave_out(prefix or FOLDER, "it lies on another disk")
                return
            with os.scandir(folder) as entries:
                names = [item.name for item in islice(entries, MAX_SEEN - self._seen + 1)]
            for name in sorted(names):
                self._seen += 1
                if self._seen > MAX_SEEN:
                    self.leave_out(prefix + "…", f"there are more than {MAX_SEEN:,} entries")
                    return
                self._check()
                self._visit(folder, name, prefix + name, depth)
        except OSError as error:
            self.leave_out(prefix or FOLDER, _why(error))
        finally:
            os.close(folder)

    def _visit(self, folder: int, entry: str, name: str, depth: int) -> None:
        try:
            facts = os.stat(entry, dir_fd=folder, follow_symlinks=False)
            if not stat.S_ISDIR(facts.st_mode):
                self._take(folder, entry, name, facts)
            elif depth >= MAX_DEPTH:
                raise _NoFit(f"it lies more than {MAX_DEPTH} folders deep")
            else:
                self.walk(folder, entry, name + "/", depth + 1)
        except _NoFit as refusal:
            self.leave_out(name, str(refusal))
        except OSError as error:
            self.leave_out(name, _why(error))

    def _take(self, folder: int, entry: str, name: str, facts: os.stat_result) -> None:
        self._require(name, facts)
        file = os.open(entry, _FILE, dir_fd=folder)
        try:
            facts = os.fstat(file)  # what it is now that nobody can put another in its place
            self._require(name, facts)
            size = self._copy(file, facts.st_size)
        finally:
            os.close(file)
        self._files.append(ResultFile(name, size))

    def _require(self, name: str, facts: os.stat_result) -> None:
        if not stat.S_ISREG(facts.st_mode):
            raise _NoFit(f"it is {_kind(facts.st_mode)}, and no regular file")
        if facts.st_dev != self._device:
            raise _NoFit("it lies on another disk")
        if self._owner is not None and facts.st_uid != self._owner:
            raise _NoFit("it belongs to another user")
        problem = name_problem(name)
        if problem is not None:
            raise _NoFit(problem)
        if len(self._files) >= MAX_FILES:
            raise _NoFit(f"there are more than {MAX_FILES:,} files")
        if self._size + facts.st_size > self._limit:
            raise _NoFit(f"with its {facts.st_size:,} bytes there are more than {self._limit:,}")

    def _copy(self, file: int, size: int) -> int:
        """The bytes of a file as long as it was when it was opened; how many there are."""
        begin = self._size
        try:
            while self._size - begin < size:
                self._check()
                data = os.read(file, min(COPY, size - (self._size - begin)))
                if not data:
                    break
                self._write(data)
        except BaseException:
            self._size = begin
            raise
        return self._size - begin

    def _write(self, data: bytes) -> None:
        if self._file is None and self._size + len(data) <= IN_MEMORY:
            self._memory[self._size :] = data
        else:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._keep_in, buffering=0)  # noqa: SIM115
                _write_all(self._file.fileno(), self._memory[: self._size], 0)
                self._memory.clear()
            _write_all(self._file.fileno(), data, self._size)
        self._size += len(data)

    def archive(self) -> Archive | None:
        """All of it; None where there is nothing, and nothing was left out."""
        if not self._files and not self._left_out_count:
            return None
        head = Head(tuple(self._files), tuple(self._left_out), self._left_out_count)
        body = bytes(self._memory[: self._size]) if self._file is None else self._file
        self._is_given = True
        return Archive(encode_head(head), body, self._size)


def _write_all(file: int, data: bytes | bytearray, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written


def _why(error: OSError) -> str:
    return f"it cannot be kept or read: {error.strerror or error}"


def _kind(mode: int) -> str:
    kinds = (
        (stat.S_ISLNK, "a link"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"),
    )  # fmt: skip
    return next((kind for test, kind in kinds if test(mode)), "a device")
