"""Scratch directories: one a job, under one folder a process; removed whatever is in them.

Owns their names, their removal, and that the folder is made again where somebody else removes it.
The standard library alone, because the reaper uses it too.
"""

import errno
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

_PREFIX: Final = "duplex-worker-"
_FRESH: Final = stat.S_IFDIR | 0o700
TICK: Final = 3.0
"""Seconds after which a change has another time than the one before, on any file system."""


class NoScratch(Exception):
    """There is no scratch directory to be had; the command is not to blame."""


class ScratchRoot:
    """A new private folder.

    Args:
        parent: where it is made; None: in the TMPDIR.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, parent: Path | None) -> None:
        place = os.path.realpath(tempfile.gettempdir() if parent is None else parent)
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
        self._owners = {folder: os.lstat(folder).st_uid for folder in self.path.parents}

    def restore(self) -> None:
        """Make it again if it has been removed, by a cleaner of /tmp say, and its parents too.

        Raises:
            OSError: that fails, or somebody has put something else in its place.
        """
        _require(self.path, self._made(self.path), {os.geteuid()})

    def _made(self, folder: Path) -> os.stat_result:
        with suppress(FileNotFoundError):
            return os.lstat(folder)
        parent = folder.parent
        _require(parent, self._made(parent), {0, os.geteuid(), self._owners[parent]})
        with suppress(FileExistsError):
            os.mkdir(folder, 0o700)
        return os.lstat(folder)


def is_scratch_root_name(path: Path) -> bool:
    """Whether a `ScratchRoot` may have this path."""
    return path.is_absolute() and path.name.startswith(_PREFIX)


def is_scratch_root(path: Path) -> bool:
    """Whether this may be the folder of one, alive or dead, that was this user's."""
    with suppress(OSError):
        facts = os.lstat(path)
        is_own = stat.S_ISDIR(facts.st_mode) and True
        return is_own and is_scratch_root_name(path)
    return False


def _require(folder: Path, facts: os.stat_result, owners: set[int]) -> None:
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid not in owners:
        raise OSError(errno.EPERM, f"somebody has put another {folder} there; remove it")


@contextmanager
def scratch_root(parent: Path | None) -> Iterator[ScratchRoot]:
    """A `ScratchRoot` while entered. Raises as it does."""
    root = ScratchRoot(parent)
    try:
        yield root
    finally:
        remove_folder(root.path)


class _Seen(NamedTuple):
    """What is known of an empty directory."""

    changed: int
    """When it was changed last, on the clock of its file system."""
    since: float
    """When that was known first, in seconds."""


class Scratches:
    """The scratch directories below one folder. One that a job has not touched serves the next."""

    def __init__(self, root: ScratchRoot) -> None:
        self._root = root
        self._made = 0
        self._unused: list[tuple[str, _Seen]] = []
        self._used: dict[str, tuple[_Seen, float]] = {}
        """Those of jobs of this user, and since when."""

    def take(self, uid: int | None, gid: int | None) -> str:
        """A directory for one job; with `uid` or `gid` that user's.

        Raises:
            NoScratch: there is none.
            OSError: it cannot be made that user's.
        """
        is_own, now = uid is None and gid is None, time.monotonic()
        while self._unused and is_own:
            path, seen = self._unused.pop()
            if os.path.isdir(path):  # nobody has removed it
                self._used[path] = seen, now
                return path
        self._made += 1
        path = f"{self._root.path}/job-{self._made}"
        try:
            try:
                os.mkdir(path, 0o700)
            except FileNotFoundError:
                self._root.restore()
                os.mkdir(path, 0o700)
            if is_own:
                self._used[path] = _Seen(os.lstat(path).st_ctime_ns, now), now
        except OSError as error:
            raise NoScratch(f"no scratch directory: {error.strerror}") from error
        if not is_own:
            os.chown(path, -1 if uid is None else uid, -1 if gid is None else gid)
        return path

    def give_back(self, path: str) -> bool:
        """Keep it for another job, unless something was done in it or to it: then `remove` it."""
        seen, taken = self._used.pop(path, (None, 0.0))
        try:
            facts = os.lstat(path)
            if seen is None or facts.st_ctime_ns != seen.changed:
                return False
            # That time tells of no change that came in the same moment as the one before.
            if taken < seen.since + TICK:
                is_fresh = facts.st_mode == _FRESH and facts.st_uid == os.geteuid()
                if not is_fresh or os.listdir(path):
                    return False
        except FileNotFoundError:
            return True
        except OSError:
            return False  # no descriptor is left to look into it
        self._unused.append((path, seen))
        return True


def remove_folder(path: str | Path) -> None:
    """Remove a folder, also where a job has made folders in it unreadable or unwritable.

    May take long. A job may have put a file or a link in its place.
    """
    if os.path.islink(path) or os.path.isfile(path):
        with suppress(OSError):  # it may be somebody else's
            os.unlink(path)
        return
    shutil.rmtree(path, ignore_errors=True)
    if not os.path.lexists(path):
        return
    with suppress(OSError):
        os.chmod(path, 0o700)
    for folder, names, _ in os.walk(path):
        for name in names:
            inner = os.path.join(folder, name)
            with suppress(OSError):
                if not os.path.islink(inner):
                    os.chmod(inner, 0o700)
    shutil.rmtree(path, ignore_errors=True)
