"""A mark that every process of a job bears, whatever it sheds: a limit that limits nothing.

The kernel hands resource limits on through every fork and exec; a new session, an empty environment
and another user leave them alone. The soft limit of realtime processes, in microseconds of their
CPU time without a pause, is far beyond their lives at every value used here: 146,000 years. The
standard library alone, because the reaper uses it too.
"""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

NONE: Final = 0
"""No herd, no brand: no process bears it."""
_BITS: Final = 24
"""What a brand has for the number of a job; above these are the bits of its herd."""
_FIRST_HERD: Final = 1 << 38
"""So that brands are above 2^62, and below 2^63, the largest limit that Python can set."""
_NAME: Final = b"Max realtime timeout"


class Brands:
    """The brands of the jobs of this process, which is branded itself as each of them begins.

    Args:
        herd: what the brands of all its jobs have in common; NONE: it can brand nothing.
    """

    def __init__(self, herd: int) -> None:
        self.herd = herd
        self._given = 0

    def give(self) -> int:
        """Brand all that is started from now on, with a brand that nothing has yet."""
        if self.herd == NONE:
            return NONE
        self._given = (self._given + 1) % (1 << _BITS)
        brand = self.herd << _BITS | self._given
        resource.setrlimit(resource.RLIMIT_RTTIME, (brand, resource.RLIM_INFINITY))
        return brand


@contextmanager
def branding() -> Iterator[Brands]:
    """The means to brand what this process starts while entered.

    It brands nothing where somebody has limited realtime processes in earnest, or the kernel has no
    such limit.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_RTTIME)
    brands = Brands(NONE)
    if hard == resource.RLIM_INFINITY and (soft == hard or soft >= _FIRST_HERD << _BITS):
        herd = _FIRST_HERD + (int.from_bytes(os.urandom(5), "big") >> 3)
        with suppress(OSError, ValueError):
            Brands(herd).give()
            brands = Brands(herd)
    try:
        yield brands
    finally:
        if brands.herd != NONE:
            resource.setrlimit(resource.RLIMIT_RTTIME, (soft, hard))


def brand_of(pid: int) -> int:
    """What stands where a process has its brand, whoever has given it; NONE if nothing does."""
    with suppress(OSError):
        soft, _ = resource.prlimit(pid, resource.RLIMIT_RTTIME)
        return NONE if soft == resource.RLIM_INFINITY else soft
    # That of another user is not to be asked for, but to be read.
    with suppress(OSError), open(f"/proc/{pid}/limits", "rb", buffering=0) as file:
        for line in file.readall().splitlines():
            if line.startswith(_NAME):
                value = line.removeprefix(_NAME).split()[0]
                return int(value) if value.isdigit() else NONE
    return NONE


def is_of(herd: int, brand: int) -> bool:
    """Whether this is the brand of a job of that herd."""
    return herd != NONE and brand >> _BITS == herd
