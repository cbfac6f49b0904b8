"""Puts the parts together that run real processes: scratch folder, reaper, who ends leftovers.

Owns their order: the reaper outlives the jobs, the folder outlives the reaper.
"""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import IO, Final

import trio

from simple_worker.brand import branding
from simple_worker.leftovers import AdoptedLeftovers, MarkedLeftovers
from simple_worker.process import ProcessHost
from simple_worker.reaper_link import Say, log, opened_reaper
from simple_worker.scratch import scratch_root
from simple_worker.silence import Silences
from simple_worker.tree import become_subreaper, own_children
from simple_worker.turns import ask_for_short_turns

REAP_INTERVAL: Final = 1.0
Life = Callable[[int, Path], AbstractContextManager[object]]


def _unknown(herd: int, scratch: Path) -> AbstractContextManager[object]:
    """Nobody asks for a life that was killed."""
    return nullcontext()


@asynccontextmanager
async def opened_machine(work_dir: Path | None = None) -> AsyncIterator[ProcessHost]:
    """For a program with children of its own. All jobs must have ended when this is left.

    Args:
        work_dir: where scratch directories are made; None: in the TMPDIR.

    Raises:
        OSError: there is no room for them, or the reaper cannot be started.
    """
    with scratch_root(work_dir) as scratch, _opened_nothing() as nothing:
        async with opened_reaper(scratch.path) as reaper, _opened_silences() as silences:
            yield ProcessHost(scratch, reaper, MarkedLeftovers(), nothing, silences)


@asynccontextmanager
async def opened_own_machine(
    work_dir: Path | None = None, say: Say = log.warning, life: Life = _unknown
) -> AsyncIterator[ProcessHost]:
    """For a process that does nothing but run jobs: it becomes a subreaper, and has short turns on
    the CPU. Else as above.

    Args:
        work_dir: see there.
        say: takes a line when the reaper has died, or has ended jobs.
        life: entered while jobs may run, with their herd and the folder of scratch directories.
    """
    become_subreaper()
    ask_for_short_turns()
    with scratch_root(work_dir) as scratch, _opened_nothing() as nothing, branding() as brands:
        with life(brands.herd, scratch.path), own_children() as look:
            async with opened_reaper(scratch.path, say, brands.herd) as reaper:
                leftovers = AdoptedLeftovers(reaper, brands, look)
                async with trio.open_nursery() as nursery, _opened_silences() as silences:
                    nursery.start_soon(leftovers.reap, REAP_INTERVAL)
                    yield ProcessHost(scratch, reaper, leftovers, nothing, silences, say=say)
                    nursery.cancel_scope.cancel()


@asynccontextmanager
async def _opened_silences() -> AsyncIterator[Silences]:
    with Silences() as silences:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(silences.run)
            yield silences
            nursery.cancel_scope.cancel()


def _opened_nothing() -> IO[bytes]:
    """The input of jobs that have none, opened once for all of them."""
    return open(os.devnull, "rb", buffering=0)
