"""The registry of connected workers: who is here, who has room, who gets the next run. Pure.

Workers with the same labels share a group, and inside it a bucket for each number of free slots,
so that placing a run costs the same with ten workers and with ten thousand.

When no worker at all has a free slot, those whose runs end quickly take some ahead of one: they
begin the next without a word, and what makes it durable went on before. See `docs/decisions/0044`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from remote_runner.protocol.messages import AHEAD_PER_SLOT
from remote_runner.types import CAN_MASK, Offer, Slot, WorkerInfo, satisfies

QUICK: Final = 0.25
"""Seconds. A longer run says nothing of when those that began with it will end."""
RECENT: Final = 0.05
"""Seconds. What ends in such a time is what a worker may have ahead, so that the last one of these
waits for about as long, which is longer than a commit takes."""


@dataclass(eq=False, slots=True)
class PooledWorker:
    """One accepted connection of a worker. `session` is unique, and identifies it here.

    `labels` are what runs may need: `own_labels`, which people gave it, and what it can do.
    `connection` is its number among those of that process; 0: it does not count them.
    """

    session: int
    id: str
    name: str
    labels: Mapping[str, str]
    slots: int
    own_labels: Mapping[str, str] = field(default_factory=dict)
    boot: str = ""
    connection: int = 0
    version: str = ""
    address: str = ""
    is_baseline: bool = False
    takes_ahead: bool = False
    """It takes runs ahead of its slots, and gives back those that have not begun."""
    is_ready: bool = False
    is_draining: bool = False
    """It leaves by itself."""
    is_drained: bool = False
    """The server places nothing new there."""
    runs: set[str] = field(default_factory=set)
    wide: dict[str, int] = field(default_factory=dict)
    """Those of them that take several slots, and how many."""
    ahead: dict[str, float] = field(default_factory=dict)
    """Those of them that were placed ahead of a slot, and have not begun as far as is known; since
    when. Infinity: it was asked to give them back."""
    ends: list[float] = field(default_factory=list)
    """When quick runs have ended here lately. No deque: an empty one takes 0.7 KiB."""
    echo: float = 0.0
    """Seconds from a spawn into a free slot until its worker said that it had begun, last time."""

    def add(self, run_id: str, slots: int) -> None:
        """A run is here now, and takes so many slots."""
        self.runs.add(run_id)
        if slots > 1:
            self.wide[run_id] = slots

    def remove(self, run_id: str) -> None:
        """It is not here any more; one that never was is fine."""
        self.runs.discard(run_id)
        self.ahead.pop(run_id, None)
        self.wide.pop(run_id, None)

    def clear(self) -> None:
        """Nothing is here any more."""
        for runs in (self.runs, self.ahead, self.wide):
            runs.clear()

    @property
    def free(self) -> int:
        """Slots that may be taken here now."""
        if not self.is_ready or self.is_draining or self.is_drained:
            return 0
        return max(0, self.slots - self.taken)

    @property
    def taken(self) -> int:
        """Slots that all its runs take, those ahead too."""
        return len(self.runs) + sum(self.wide.values()) - len(self.wide)

    @property
    def spare(self) -> int:
        """Runs that may be placed here ahead of a free slot. None where one takes several: the
        worker, which knows nothing of that, would begin them at once."""
        is_open = self.takes_ahead and self.is_ready and not (self.is_draining or self.is_drained)
        if not is_open or self.wide or len(self.runs) < self.slots:
            return 0
        most = self.slots + min(len(self.ends), AHEAD_PER_SLOT * self.slots)
        return max(0, most - len(self.runs))

    def see_end(self, duration: float | None, now: float) -> None:
        """A run of this many seconds has ended here; None: it never began, or nobody knows."""
        if duration is None:
            self.ends.clear()
        elif duration < QUICK:
            self.ends.append(now)
        recent = (n for n, end in enumerate(self.ends) if end > now - RECENT)
        del self.ends[: next(recent, len(self.ends))]

    @property
    def state(self) -> str:
        """What people see; see `WorkerInfo`."""
        if self.is_draining or (self.is_drained and self.runs):
            return "draining"
        if self.is_drained:
            return "drained"
        return "ready" if self.is_ready else "greeting"

    @property
    def info(self) -> WorkerInfo:
        """What people see of it."""
        return WorkerInfo(
            id=self.id,
            name=self.name,
            state=self.state,
            slots=self.slots,
            free=self.free,
            labels=self.own_labels,
            version=self.version,
            address=self.address,
            running=tuple(sorted(self.runs - self.ahead.keys())),
            is_baseline=self.is_baseline,
            is_leaving=self.is_draining,
            can_mask=CAN_MASK in self.labels,
            taken=self.taken - len(self.ahead),
        )


class _Group:
    """Workers with equal labels, in buckets by their free slots."""

    __slots__ = ("buckets", "labels")

    def __init__(self, labels: Mapping[str, str]) -> None:
        self.labels = labels
        self.buckets: dict[int, dict[int, PooledWorker]] = {}

    def slots(self, limit: int) -> tuple[Slot, ...]:
        """Always one of the least loaded worker, of equals of the one that came first."""
        taken: list[PooledWorker] = []
        level: list[PooledWorker] = []
        for free in range(max(self.buckets), 0, -1):
            if bucket := self.buckets.get(free):
                level = [*islice(bucket.values(), limit), *level]
            taken += level
            if len(taken) >= limit:
                break
        return _slots(taken[:limit])


def _slots(workers: list[PooledWorker]) -> tuple[Slot, ...]:
    return tuple(
        Slot(worker.name, worker.id, worker.boot, worker.slots, worker.free) for worker in workers
    )


GroupKey = tuple[tuple[str, str], ...]


class Pool:
    """All connected workers; a worker has one connection at a time.

    Call `update` after each change of a worker's slots, runs, flags, or of what it has ahead.
    """

    def __init__(self) -> None:
        self._workers: dict[int, PooledWorker] = {}
        self._keys: dict[int, GroupKey] = {}
        self._by_id: dict[str, PooledWorker] = {}
        self._groups: dict[GroupKey, _Group] = {}
        self._placed: dict[int, tuple[GroupKey, int]] = {}
        self._spare: dict[int, PooledWorker] = {}

    def __iter__(self) -> Iterator[PooledWorker]:
        return iter(self._workers.values())

    def __len__(self) -> int:
        return len(self._workers)

    def add(self, worker: PooledWorker) -> None:
        """A worker has connected."""
        self._workers[worker.session] = worker
        self._keys[worker.session] = tuple(sorted(worker.labels.items()))
        self._by_id[worker.id] = worker
        self.update(worker)

    def remove(self, worker: PooledWorker) -> None:
        """A worker's connection has ended."""
        self._take_out(worker)
        self._spare.pop(worker.session, None)
        self._workers.pop(worker.session, None)
        self._keys.pop(worker.session, None)
        if self._by_id.get(worker.id) is worker:
            del self._by_id[worker.id]

    def find(self, worker_id: str) -> PooledWorker | None:
        """The connection of this worker, if it has one."""
        return self._by_id.get(worker_id)

    def update(self, worker: PooledWorker) -> None:
        """Put a worker where its free slots say."""
        if worker.session not in self._workers:
            return
        free = worker.free
        if not free and worker.spare:
            self._spare[worker.session] = worker
        else:
            self._spare.pop(worker.session, None)
        before = self._placed.get(worker.session)
        if before is not None and before[1] == free:
            return  # it keeps its turn
        self._take_out(worker)
        if free == 0:
            return
        key = self._keys[worker.session]
        group = self._groups.setdefault(key, _Group(worker.labels))
        group.buckets.setdefault(free, {})[worker.session] = worker
        self._placed[worker.session] = (key, free)

    def _take_out(self, worker: PooledWorker) -> None:
        place = self._placed.pop(worker.session, None)
        if place is None:
            return
        key, free = place
        group = self._groups[key]
        bucket = group.buckets[free]
        del bucket[worker.session]
        if not bucket:
            del group.buckets[free]
        if not group.buckets:
            del self._groups[key]

    def offers(self, limit: int) -> list[Offer]:
        """The room there is, one offer a set of labels: its first `limit` slots, in their order.

        They are in the order in which `choose` would take them. Where there are none: room ahead.
        """
        if self._groups:
            return [Offer(group.labels, group.slots(limit)) for group in self._groups.values()]
        ahead: dict[GroupKey, list[PooledWorker]] = {}
        for worker in islice(self._spare.values(), limit):
            places = ahead.setdefault(self._keys[worker.session], [])
            places += [worker] * min(worker.spare, limit - len(places))
        return [Offer(dict(key), _slots(places)) for key, places in ahead.items()]

    def choose(self, needs: Mapping[str, str], slots: int = 1) -> PooledWorker | None:
        """The worker with the most free slots, so many at least, that satisfies `needs`.

        Of those that are equal in their labels too: the one that has waited longest.
        """
        best: PooledWorker | None = None
        best_free = slots - 1
        for group in self._groups.values():
            if satisfies(group.labels, needs):
                free = max(group.buckets)
                if free > best_free:
                    best_free = free
                    best = next(iter(group.buckets[free].values()))
        return best
