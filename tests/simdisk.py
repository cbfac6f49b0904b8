"""A disk in memory under SQLite: what was not synced may be gone after a crash.

Owns the bytes of every database file that is opened while it is `installed`, which of them are
safe, and the faults that a test asks for. Everything it draws comes from its seed. The file itself
stays on the real disk, empty: SQLite keeps its locks and its shared memory beside it. `SimFiles`
are the files that Python code writes on the same disk.
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, Final, Literal

import apsw

SECTOR: Final = 512
"""Bytes that a disk writes whole or not at all (SQLite counts on no more)."""

_numbers = count(1)

Operation = Literal["write", "sync"]


@dataclass(slots=True, eq=False)
class _File:
    """Bytes as they are read, bytes that are safe, and the changes between them, in order."""

    data: bytearray = field(default_factory=bytearray)
    safe: bytearray = field(default_factory=bytearray)
    changes: list[tuple[int, bytes | None]] = field(default_factory=list)
    """Where, and what was written; None: it was cut there."""

    def change(self, at: int, data: bytes | None) -> None:
        self.changes.append((at, data))
        _apply(self.data, at, data)

    def sync(self) -> None:
        for at, data in self.changes:
            _apply(self.safe, at, data)
        self.changes.clear()

    def crash(self, rng: Random, keeps: float) -> None:
        for at, data in self.changes:
            if data is None:
                if rng.random() < keeps:
                    _apply(self.safe, at, None)
                continue
            for start in range(0, len(data), SECTOR):
                if rng.random() < keeps:
                    _apply(self.safe, at + start, data[start : start + SECTOR])
        self.changes.clear()
        self.data = bytearray(self.safe)


def _apply(content: bytearray, at: int, data: bytes | None) -> None:
    if data is None:
        del content[at:]
    else:
        if len(content) < at:
            content.extend(bytes(at - len(content)))
        content[at : at + len(data)] = data


class SimDisk:
    """One disk, over all its crashes.

    Args:
        seed: decides what a crash leaves.
        keeps: how likely something that was not synced survives a crash; 0.0 loses all of it.

    Attributes:
        writes, syncs: how many there were since the last restart. Cutting and deleting a file
            count as writes.
        crash_at: the disk crashes as this operation begins, `("sync", 3)` being the third sync
            since the last restart. Of a write that began some sectors may be there.
        fault: raised by every operation that `is_faulty` of its kind and path, until it is None
            again: `apsw.FullError`, `apsw.IOError`.
        capacity: bytes on the disk beyond which a file cannot grow; None for no limit.
    """

    def __init__(self, seed: int = 0, *, keeps: float = 0.0) -> None:
        self.name = f"simdisk-{os.getpid()}-{next(_numbers)}"
        self.keeps = keeps
        self.writes = 0
        self.syncs = 0
        self.crash_at: tuple[Operation, int] | None = None
        self.fault: type[apsw.Error] | None = None
        self.is_faulty: Callable[[Operation, str], bool] = lambda operation, path: True
        self.capacity: int | None = None
        self.is_down = False
        self._rng = Random(seed)
        self._life = 0
        self._names: dict[str, _File] = {}
        self._safe_names: dict[str, _File] = {}
        self._vfs = _VFS(self)
        self.files: SimFiles | None = None

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Every database that is opened while entered lies on this disk."""
        before = apsw.vfs_details()[0]["zName"]
        apsw.set_default_vfs(self.name)
        try:
            yield
        finally:
            apsw.set_default_vfs(before)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(len(file.data) for file in self._names.values())

    def crash(self) -> None:
        """The power goes: every operation fails from now on, in this life."""
        if self.is_down:
            return
        self.is_down = True
        for path in sorted({*self._names, *self._safe_names}):
            if self._names.get(path) is not self._safe_names.get(path):
                if self._rng.random() < self.keeps:
                    self._keep_name(path)
        self._names = dict(self._safe_names)
        for path in sorted(self._names):
            self._names[path].crash(self._rng, self.keeps)
        if self.files is not None:
            self.files.crash(self._rng)

    def _keep_name(self, path: str) -> None:
        if path in self._names:
            self._safe_names[path] = self._names[path]
        else:
            del self._safe_names[path]

    def restart(self) -> None:
        """The power is back. Close first what was open before (it raises `apsw.IOError`): it stays
        dead, and SQLite's shared memory is that of the processes that had it."""
        self.crash()
        self.is_down = False
        self._life += 1
        self.writes = self.syncs = 0
        self.crash_at = None

    # --- what the files and the VFS ask ---

    @property
    def life(self) -> int:
        return self._life

    def file(self, path: str) -> _File:
        return self._names.setdefault(path, _File())

    def exists(self, path: str) -> bool:
        return path in self._names

    def delete(self, path: str, *, is_synced: bool) -> None:
        if self.begin("write", path, self._life):
            self._names.pop(path, None)
            self.crash()
        self.require_up(self._life)
        if self._names.pop(path, None) is None:
            raise apsw.IOError(f"there is no {path}")
        if is_synced:
            self.sync_folder(path)

    def sync_folder(self, path: str) -> None:
        """Every name in the folder of `path` is safe as it is."""
        folder = os.path.dirname(path)
        for each in {*self._names, *self._safe_names}:
            if os.path.dirname(each) == folder:
                self._safe_names.pop(each, None)
                if each in self._names:
                    self._safe_names[each] = self._names[each]

    def require_up(self, life: int) -> None:
        if self.is_down or life != self._life:
            raise apsw.IOError("the machine is off")

    def begin(self, operation: Operation, path: str, life: int) -> bool:
        """Count an operation; whether the disk is to crash in the middle of it."""
        self.require_up(life)
        if operation == "write":
            self.writes += 1
            number = self.writes
        else:
            self.syncs += 1
            number = self.syncs
        if self.fault is not None and self.is_faulty(operation, path):
            raise self.fault(f"this {operation} is made to fail")
        return self.crash_at == (operation, number)

    def require_room(self, file: _File, end: int) -> None:
        grown = max(0, end - len(file.data))
        if self.capacity is not None and grown and self.size + grown > self.capacity:
            raise apsw.FullError("this disk is full")


class _Operations:
    """What SQLite does to a file."""

    _disk: SimDisk
    _path: str
    _file: _File
    _life: int
    _is_name_new: bool

    def _open(self, disk: SimDisk, path: str, *, is_journal: bool) -> None:
        disk.require_up(disk.life)
        self._disk, self._path, self._life = disk, path, disk.life
        # As SQLite on unix: the folder is synced with a new journal, for that and all beside it.
        self._is_name_new = is_journal and not disk.exists(path)
        self._file = disk.file(path)

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        self._disk.require_up(self._life)
        return bytes(self._file.data[offset : offset + amount])

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        is_last = self._disk.begin("write", self._path, self._life)
        self._disk.require_room(self._file, offset + len(data))
        self._file.change(offset, bytes(data))
        self._end(is_last)

    def xTruncate(self, size: int) -> None:  # noqa: N802
        is_last = self._disk.begin("write", self._path, self._life)
        self._file.change(size, None)
        self._end(is_last)

    def _end(self, is_last: bool) -> None:
        if is_last:
            self._disk.crash()
            self._disk.require_up(self._life)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._end(self._disk.begin("sync", self._path, self._life))
        self._file.sync()
        if self._is_name_new:
            self._disk.sync_folder(self._path)
            self._is_name_new = False

    def xFileSize(self) -> int:  # noqa: N802
        self._disk.require_up(self._life)
        return len(self._file.data)

    def xFileControl(self, op: int, pointer: int) -> bool:  # noqa: N802
        return False

    def xSectorSize(self) -> int:  # noqa: N802
        return SECTOR

    def xDeviceCharacteristics(self) -> int:  # noqa: N802
        return 0


class _Database(_Operations, apsw.VFSFile):
    """The database itself: locks and shared memory are those of the real file, which is empty.

    Of several connections the one that writes is closed last: SQLite then locks to tidy up.
    """

    def __init__(self, disk: SimDisk, name: Any, path: str, flags: list[int]) -> None:
        apsw.VFSFile.__init__(self, "unix", name, flags)
        self._open(disk, path, is_journal=False)


class _Beside(_Operations):
    """A journal or a temporary file: only its connection has it."""

    def __init__(self, disk: SimDisk, path: str, flags: list[int]) -> None:
        flags[1] = flags[0]
        self._open(disk, path, is_journal=True)

    def xLock(self, level: int) -> None:  # noqa: N802
        pass

    def xUnlock(self, level: int) -> None:  # noqa: N802
        pass

    def xCheckReservedLock(self) -> bool:  # noqa: N802
        return False

    def xClose(self) -> None:  # noqa: N802
        pass


class _VFS(apsw.VFS):
    def __init__(self, disk: SimDisk) -> None:
        super().__init__(disk.name, "unix")
        self._disk = disk

    def xOpen(self, name: Any, flags: list[int]) -> Any:  # noqa: N802
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        if path is None:
            path = f"temporary-{next(_numbers)}"
        if flags[0] & apsw.SQLITE_OPEN_MAIN_DB:
            return _Database(self._disk, name, path, flags)
        return _Beside(self._disk, path, flags)

    def xDelete(self, path: str, sync_folder: bool) -> None:  # noqa: N802
        self._disk.delete(path, is_synced=bool(sync_folder))

    def xAccess(self, path: str, flags: int) -> bool:  # noqa: N802
        self._disk.require_up(self._disk.life)
        return self._disk.exists(path)


class SimFiles:
    """Stands for the module `os` in code that writes files below `root`: a crash of the disk takes
    from these, which are real ones, what was not synced, and names in folders that were not.

    It knows the calls that append and cut; everything else is that of `os`. An operation that the
    disk makes fail raises OSError: ENOSPC for `apsw.FullError`, else EIO.
    """

    def __init__(self, disk: SimDisk, root: Path) -> None:
        disk.files = self
        self._disk = disk
        self._root = root
        self._open: dict[int, Path] = {}
        self._safe: dict[Path, bytes] = {}
        self._safe_names: set[Path] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def open(self, path: str | os.PathLike[str], flags: int, mode: int = 0o777) -> int:
        if self._disk.is_down:
            raise OSError(errno.EIO, "the machine is off")
        file = os.open(path, flags, mode)
        self._open[file] = Path(path)
        return file

    def close(self, file: int) -> None:
        self._open.pop(file, None)
        os.close(file)

    def write(self, file: int, data: bytes) -> int:
        with self._operation("write", file):
            return os.write(file, data)

    def writev(self, file: int, pieces: list[bytes]) -> int:
        """As a disk that is full or crashes does it: half of it may be there."""
        with self._operation("write", file, lambda: os.write(file, b"".join(pieces)[:20])):
            return os.writev(file, pieces)

    def ftruncate(self, file: int, size: int) -> None:
        os.ftruncate(file, size)

    def fdatasync(self, file: int) -> None:
        self.fsync(file)

    def fsync(self, file: int) -> None:
        with self._operation("sync", file):
            path = self._open[file]
            if path.is_dir():
                self._safe_names = {name for name in self._safe_names if name.parent != path}
                self._safe_names.update(path.iterdir())
            else:
                self._safe[path] = path.read_bytes()

    @contextmanager
    def _operation(
        self, kind: Operation, file: int, begin: Callable[[], object] = lambda: None
    ) -> Iterator[None]:
        try:
            is_last = self._disk.begin(kind, str(self._open[file]), self._disk.life)
        except apsw.FullError as error:
            begin()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        except apsw.IOError as error:
            begin()
            raise OSError(errno.EIO, str(error)) from error
        if is_last:
            begin()
            self._disk.crash()
            raise OSError(errno.EIO, "the machine is off")
        yield

    def crash(self, rng: Random) -> None:
        """Leave what is safe, and what luck leaves."""
        if self._root.exists():
            self._crash_name(self._root, rng)

    def _crash_name(self, path: Path, rng: Random) -> None:
        if path not in self._safe_names and rng.random() >= self._disk.keeps:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        elif path.is_dir():
            for each in sorted(path.iterdir()):
                self._crash_name(each, rng)
        else:
            now, safe = path.read_bytes(), self._safe.get(path, b"")
            if self._disk.keeps == 1.0:
                safe = now
            elif rng.random() < self._disk.keeps:
                safe += now[len(safe) : rng.randint(len(safe), max(len(safe), len(now)))]
            path.write_bytes(safe)
