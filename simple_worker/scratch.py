"""Scratch directories: one a job, under one folder a process; removed whatever is in them.

Owns their names and their removal. The standard library alone, because the reaper uses it too.
"""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_FRESH: Final = stat.S_IFDIR | 0o700


@contextmanager
def scratch_root(parent: Path | None) -> Iterator[Path]:
    """A new private folder for scratch directories while entered. None: in the TMPDIR."""
    root = Path(tempfile.mkdtemp(prefix="duplex-worker-", dir=parent))
    try:
        yield root
    finally:
        remove_folder(root)


class Scratches:
    """The scratch directories below one folder. One that a job left as it was serves the next."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._made = 0
        self._unused: list[str] = []

    def take(self, uid: int | None, gid: int | None) -> str:
        """A directory for one job; with `uid` or `gid` that user's."""
        if self._unused and uid is None and gid is None:
            return self._unused.pop()
        self._made += 1
        path = f"{self._root}/job-{self._made}"
        os.mkdir(path, 0o700)
        if uid is not None or gid is not None:
            os.chown(path, -1 if uid is None else uid, -1 if gid is None else gid)
        return path

    def give_back(self, path: str) -> bool:
        """Keep it for another job, unless something is in it or about it: then `remove` it."""
        try:
            facts = os.lstat(path)
            is_fresh = facts.st_mode == _FRESH and facts.st_uid == os.geteuid()
            if is_fresh and not os.listdir(path):
                self._unused.append(path)
                return True
        except FileNotFoundError:
            return True
        except OSError:
            return False  # no descriptor is left to look into it
        return False


def remove_folder(path: str | Path) -> None:
    """Remove a folder, also where a job has made folders in it unreadable or unwritable.

    May take long. A job may have put a file or a link in its place.
    """
    if os.path.islink(path) or os.path.isfile(path):
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
