"""Short turns on the CPU for a worker among its jobs, and not for these.

All that a worker does is short, and jobs, the heartbeat and cancellations wait for it; its jobs may
keep every CPU busy. Asked for short turns, Linux 6.12 and newer lets it have its next one before a
job has come to the end of its own, for the same share of the CPU in all. `sched_setattr(2)`.
"""

import ctypes
import os
import sys
from typing import Final

TURN: Final = 400_000
"""Nanoseconds: long enough to start some processes in one. That of others is about 3 ms."""
_CALLS: Final = {"x86_64": 314, "aarch64": 274, "riscv64": 274}
"""The number of the system call, for which the C library has no name before glibc 2.41."""
_RESET_ON_FORK: Final = 1
"""What is started from here has turns as others have."""


class _Attributes(ctypes.Structure):
    """`struct sched_attr`, as it was at first."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("runtime", ctypes.c_uint64),
        ("deadline", ctypes.c_uint64),
        ("period", ctypes.c_uint64),
    )


def ask_for_short_turns() -> None:
    """Ask for them for this thread. Elsewhere, on older kernels, and where somebody has chosen a
    policy or a higher priority for this process, which its jobs inherit, nothing changes."""
    call = _CALLS.get(os.uname().machine)
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    if call is None or sys.maxsize < 1 << 32 or nice < 0:
        return
    if os.sched_getscheduler(0) != os.SCHED_OTHER:
        return
    size = ctypes.sizeof(_Attributes)
    wanted = _Attributes(size, os.SCHED_OTHER, _RESET_ON_FORK, nice, 0, TURN, 0, 0)
    ctypes.CDLL(None).syscall(call, 0, ctypes.byref(wanted), 0)
