"""Process trees as the kernel shows them: who is whose child, who carries which mark, and signals.

Looks and signals, decides nothing. The standard library alone, because the reaper uses it too.
"""

import ctypes
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, NamedTuple

COOKIE: Final = "JOB_COOKIE"
"""The variable that marks every process of a job, but those that clear their environment."""
SCRATCH: Final = "JOB_SCRATCH"
"""The variable that says where a job may write."""
_PR_SET_CHILD_SUBREAPER: Final = 36
_READ: Final = 64 * 1024
_PART: Final = 2 * 1024
"""Bytes of /proc: the kernel gives a page at a time, so that less than half of one is the end."""


class Facts(NamedTuple):
    """What the kernel says of a living process."""

    parent: int
    session: int
    start: int
    """When it began, in ticks since the machine did: with its number, it names one process."""


def mark(cookie: str) -> bytes:
    """The cookie as it stands in an environment, with its end: one may begin like another."""
    return f"{COOKIE}={cookie}\0".encode()


def scratch_mark(root: str) -> bytes:
    """What stands in the environment of every job whose scratch directory is below `root`."""
    return f"{SCRATCH}=".encode() + os.fsencode(root) + b"/"


def become_subreaper() -> None:
    """Inherit orphaned descendants, instead of losing them to init."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def signal_group(pid: int, number: int) -> None:
    """Signal the process group of a job's main process; a group that is gone is fine."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def signal_process(pid: int, number: int) -> None:
    """Signal a process; one that is gone, or not ours to signal, is fine."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def kill_descendants(pid: int) -> None:
    """SIGKILL a process and everything below it."""
    found = [pid]
    for current in found:
        with suppress(OSError):
            for thread in os.listdir(f"/proc/{current}/task"):
                found += _children(current, int(thread))
        signal_process(current, signal.SIGKILL)


def kill_marked(marks: set[bytes], above: int = 0) -> bool:
    """SIGKILL every process on the machine that carries one of these marks; True if any did.

    It reads the environment of every process whose number is higher than `above`.
    """
    found = False
    for pid in _all_processes():
        if pid > above and is_marked(pid, marks):
            found = True
            signal_process(pid, signal.SIGKILL)
    return found


def is_marked(pid: int, marks: set[bytes]) -> bool:
    """Whether a process carries one of these marks in its environment."""
    content = environment(pid)
    return bool(content) and any(mark in content for mark in marks)


def living() -> dict[int, Facts]:
    """Every process on the machine but this one."""
    return {pid: facts for pid in _all_processes() if (facts := look_at(pid)) is not None}


def look_at(pid: int) -> Facts | None:
    """The facts of a process; None if there is no such process, or it is dead."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            words = file.readall().rpartition(b")")[2].split()
    except OSError:
        return None
    # The first thread of a process may be dead, while others live on.
    is_dead = words[0] in (b"Z", b"X") and int(words[17]) <= 1
    return None if is_dead else Facts(int(words[1]), int(words[3]), int(words[19]))


def _all_processes() -> Iterator[int]:
    own = os.getpid()
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != own:
            yield int(entry)


def newest_process() -> int:
    """The last process number that was given away; 0 where the kernel does not tell it."""
    # Not /proc/loadavg, which a container may get from its host.
    with suppress(OSError), open("/proc/sys/kernel/ns_last_pid", "rb") as file:
        return int(file.read())
    return 0


@contextmanager
def own_children() -> Iterator[Callable[[], list[int]]]:
    """A look at the children that this process's main thread has started, and all that it has
    inherited.

    The kernel's list of them stays open while entered: it must be seen, too, where no descriptor is
    free.
    """
    file = None
    with suppress(OSError):  # not every kernel has it
        path = f"/proc/self/task/{threading.main_thread().native_id}/children"
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def look() -> list[int]:
        content = b""
        while file is not None:
            more = os.pread(file, _READ, len(content))
            content += more
            if len(more) < _PART:
                break
        return [int(child) for child in content.split()]

    try:
        yield look
    finally:
        if file is not None:
            os.close(file)


def _children(pid: int, thread: int | None) -> list[int]:
    try:
        with open(f"/proc/{pid}/task/{thread}/children", "rb", buffering=0) as file:
            return [int(child) for child in file.readall().split()]
    except OSError:
        return []


def environment(pid: int) -> bytes:
    """The environment that a process began with; empty if it is dead, or not ours to see."""
    with suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
        return file.read()
    return b""


def command_line(pid: int) -> list[bytes]:
    """The arguments of a process; empty if it is dead."""
    with suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read().split(b"\0")
    return []


def session(pid: int) -> int:
    """The session of a process; 0 if there is no such process."""
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return 0
