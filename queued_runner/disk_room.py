"""The room on the disks of the queue: what may be refused is, before what may not be has none left.

Owns the mark below which jobs and output are not taken. Measures, and never reserves: a file kept
as a reserve would be anybody's as soon as it is let go.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, Protocol

import structlog

from queued_runner.store.base import NoRoom

RESERVE: Final = 64 * 1024 * 1024
"""Bytes that are left to the states of jobs, and to their small output."""
LEAST_SHARE: Final = 20
"""On a disk of less than this many reserves, the reserve is that part of it."""

log = structlog.get_logger("queued_runner")


class Room(Protocol):
    """What `statvfs` says of a disk."""

    @property
    def f_frsize(self) -> int: ...
    @property
    def f_blocks(self) -> int: ...
    @property
    def f_bavail(self) -> int: ...


class DiskRoom:
    """The room below each of some folders. Used by several threads: each asks, none waits.

    Args:
        folders: where the queue lies, and its output.
        measure: tells the room; `os.statvfs`.
    """

    def __init__(
        self, folders: Iterable[Path], measure: Callable[[Path], Room] = os.statvfs
    ) -> None:
        self._is_short = dict.fromkeys(folders, False)
        self._measure = measure

    def require(self) -> None:
        """Go on only if there is more than the reserve everywhere.

        Raises:
            NoRoom: there is not, or nobody can tell.
        """
        for folder in self._is_short:
            self._require(folder)

    def _require(self, folder: Path) -> None:
        try:
            room = self._measure(folder)
        except OSError as error:
            raise NoRoom(
                f"the disk of the server cannot be looked at ({error.strerror or error}); see to"
                f" {folder}, then send it again"
            ) from error
        free = room.f_bavail * room.f_frsize
        reserve = min(RESERVE, room.f_blocks * room.f_frsize // LEAST_SHARE)
        is_short = free < reserve
        if is_short is not self._is_short[folder]:
            self._is_short[folder] = is_short
            if is_short:
                log.warning(
                    "disk nearly full: no jobs and no output are taken",
                    folder=str(folder), free=free, reserve=reserve,
                )  # fmt: skip
            else:
                log.info("disk has room again", folder=str(folder), free=free)
        if is_short:
            raise NoRoom(
                f"the disk of the server is nearly full: {_mib(free)} are free at {folder},"
                f" and it keeps {_mib(reserve)} for the jobs it has; free some space, then send it"
                " again"
            )


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"
