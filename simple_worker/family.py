"""Which processes belong to the jobs of a dead worker, and their end.

Knows them by whose children they are, by session, by cookie and by brand. The standard library
alone, because the reaper uses it.
"""

import signal
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from typing import Final

from simple_worker.brand import brand_of
from simple_worker.tree import Facts, is_marked, living, newest_process, signal_process

ROUNDS: Final = 80
CHASE: Final = 5
"""Rounds after which a family is no longer waited for, but met as it begins again."""
PAUSE: Final = 0.02
"""Seconds between two looks; long enough for a signal to have done its work."""


def relatives(processes: Mapping[int, Facts], founders: Collection[int]) -> set[int]:
    """Those of `processes` that are founders, below one, or in the session of one. Pure.

    A founder may be dead: its session goes on.
    """
    below: defaultdict[int, list[int]] = defaultdict(list)
    for pid, facts in processes.items():
        below[facts.parent].append(pid)
        below[facts.session].append(pid)
    found = set(founders)
    queue = list(found)
    for current in queue:
        for pid in below[current]:
            if pid not in found:
                found.add(pid)
                queue.append(pid)
    return processes.keys() & found


def end_family(
    founders: dict[int, int | None],
    marks: set[bytes],
    is_branded: Callable[[int], bool],
    spared: int,
) -> None:
    """SIGKILL the relatives of the founders, and of all that bear a mark or a brand, until none is
    left.

    They are stopped first, and killed when a look finds no new one: what is killed leaves its
    children to init, and one that it has just started would be found by nobody. A family that
    grows faster than it can be stopped is killed all the same. One whose every process has a child
    and ends, sooner than a look at all processes takes, is met where it begins again: nothing of it
    is left when none that is new is one of it. Gives up, after `ROUNDS`, on what SIGKILL does not
    end.

    Args:
        founders: when each began, as in `Facts`; None: it leads a session. A process with the
            number of a founder that is not the founder is a stranger.
        marks: as `tree.mark` makes them.
        is_branded: whether this is the brand of one that must go, too.
        spared: a living worker, which bears the brand of the job that it has started last.
    """
    known = dict(founders)
    stopped: set[int] = set()

    def is_known_by_itself(pid: int) -> bool:
        return pid != spared and (is_branded(brand_of(pid)) or is_marked(pid, marks))

    for rounds in range(ROUNDS):
        newest = newest_process()
        processes = living()
        known = {pid: start for pid, start in known.items() if not _is_other(pid, start, processes)}
        marked = {pid for pid in processes if pid not in known and is_known_by_itself(pid)}
        family = relatives(processes, known.keys() | marked)
        if not family and (newest_process() == newest or not _kill_newest(is_known_by_itself)):
            return
        known |= {pid: processes[pid].start for pid in family}
        is_whole = family <= stopped or rounds > ROUNDS // 4
        for pid in family:
            signal_process(pid, signal.SIGKILL if is_whole else signal.SIGSTOP)
        stopped |= family
        if rounds < CHASE:
            time.sleep(PAUSE)
        else:
            _kill_newest(is_known_by_itself)


def _kill_newest(is_wanted: Callable[[int], bool]) -> bool:
    """SIGKILL, for a `PAUSE`, each process that is new and wanted, before it has a child. Whether
    there was one."""
    due, seen, found = time.monotonic() + PAUSE, 0, False
    while time.monotonic() < due:
        pid = newest_process()
        if pid != seen and is_wanted(pid):
            signal_process(pid, signal.SIGKILL)
            found = True
        seen = pid
    return found


def _is_other(pid: int, start: int | None, processes: Mapping[int, Facts]) -> bool:
    """Whether this number has been given to another process."""
    facts = processes.get(pid)
    if facts is None:
        return False
    return facts.session != pid if start is None else facts.start != start
