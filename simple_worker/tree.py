"""Process trees: which processes belong to a job, and how all of them are ended.

A job is its own session; what left that session is known by the cookie in its environment. As
subreaper the worker inherits whatever outlived its parent, so one read of its own children after
a job's end tells whether anything is left: there is no scan of /proc on the hot path.
"""

import ctypes
import os
import signal
import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

COOKIE: Final = "JOB_COOKIE"
_PR_SET_CHILD_SUBREAPER: Final = 36


def become_subreaper() -> None:
    """Inherit orphaned descendants, instead of losing them to init."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def signal_group(pid: int, number: int) -> None:
    """Signal the process group of a job's main process; a group that is gone is fine."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def own_children() -> list[int]:
    """The children of this thread's process, inherited ones included."""
    path = f"/proc/self/task/{threading.main_thread().native_id}/children"
    with open(path, "rb") as file:
        return [int(pid) for pid in file.read().split()]


def _environment_has(pid: int, cookie: bytes) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return cookie in file.read()
    except OSError:
        return False


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return 0


def _descendants(pid: int) -> list[int]:
    found = [pid]
    for current in found:
        with suppress(OSError), open(f"/proc/{current}/task/{current}/children", "rb") as file:
            found += [int(child) for child in file.read().split()]
    return found


def sweep(session: int, cookie: str, live: Iterable[int]) -> bool:
    """Kill and reap what an ended job left among our children; True if anything was there.

    `live` are main processes that run now: never touched. Children of other jobs carry another
    cookie and another session, and are left to their own job's end.
    """
    spared = set(live)
    wanted = f"{COOKIE}={cookie}".encode()
    found = False
    for pid in own_children():
        if pid in spared:
            continue
        if _session(pid) == session or _environment_has(pid, wanted):
            found = True
            for member in _descendants(pid):
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(member, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)  # ours only if it is dead already: a zombie nobody wants
    return found


def kill_marked(cookies: set[bytes]) -> bool:
    """Kill every process on the machine that carries one of these cookies; True if there was one.

    A scan of /proc, for the reaper only: it runs when the worker is already dead.
    """
    found = False
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            with open(f"/proc/{entry}/environ", "rb") as file:
                environment = file.read()
        except OSError:
            continue
        if environment and any(cookie in environment for cookie in cookies):
            found = True
            with suppress(ProcessLookupError, PermissionError):
                os.kill(int(entry), signal.SIGKILL)
    return found
