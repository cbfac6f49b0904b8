"""The free slots of some offers while a claim fills them. Pure; any engine uses it."""

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence

from queued_runner.store.needs import Seek, satisfied_needs, slots_of
from remote_runner.types import CAN_MASK, Offer, Slot


class Room:
    """Who may take which slot.

    Args:
        offers: the slots there are.
        seek: finds the needs that jobs have (see `needs.Seek`).
    """

    def __init__(self, offers: Iterable[Offer], seek: Seek) -> None:
        self._places: dict[str, list[deque[Slot]]] = {}
        self._left: Counter[Slot] = Counter()
        """How many slots each worker has left. An offer need not name all that are free, and names
        more where runs wait there for a free one."""
        workers: dict[int, list[Slot]] = {}
        self.kept: dict[str, int] = {}
        """For which job the free slots of which worker, by its id, are kept."""
        # The place with the most labels comes first in a list, so it is the last to be taken:
        # scarce labels are kept free for those who need them.
        for offer in sorted(offers, key=lambda offer: -len(offer.labels.keys() - {CAN_MASK})):
            if offer.slots:
                place = deque(offer.slots)
                self._left.update(place)
                workers[id(place)] = [*dict.fromkeys(place)]
                most = max(slot.of for slot in place)
                for needs in satisfied_needs(offer.labels, seek, most):
                    self._places.setdefault(needs, []).append(place)
        for slot in self._left:
            self._left[slot] = max(self._left[slot], slot.free)
        self._wide = {
            needs: _Wide(slots, [workers[id(place)] for place in reversed(places)])
            for needs, places in self._places.items()
            if (slots := slots_of(needs)) > 1
        }

    def sizes(self) -> list[tuple[str, int]]:
        """Each text of needs that some offer satisfies, and how many jobs with it fit at most."""
        return [(needs, sum(map(len, places))) for needs, places in self._places.items()]

    def take(self, needs: str, job_id: int) -> Slot | None:
        """Take room at a worker for a job with these needs; None if there is none.

        Whoever comes first in the queue comes first. So for a job of several slots that has to wait
        for them, what is free of one worker is kept: else those of one slot would always be sooner.
        It is the one with the most, of those with the fewest labels.
        """
        wide = self._wide.get(needs)
        if wide is not None:
            slot = wide.find(self._left)
            if slot is not None:
                self._left[slot] -= wide.slots
                return slot
            nearest = wide.nearest(self._left)
            if nearest is not None:
                self._left[nearest] = 0
                self.kept[nearest.worker_id] = job_id
            return None
        places = self._places[needs]
        while places:
            while places[-1]:
                slot = places[-1].popleft()
                if self._left[slot]:
                    self._left[slot] -= 1
                    return slot
            places.pop()
        return None


class _Wide:
    """Where jobs of so many slots may go: the workers of each place, who comes first in front.

    What is left only becomes less: who has too little is not looked at again.
    """

    def __init__(self, slots: int, places: Sequence[Iterable[Slot]]) -> None:
        self.slots = slots
        self._places = [[slot for slot in place if slot.of >= slots] for place in places]
        self._to_take = deque(slot for place in self._places for slot in place if slot.free)
        self._to_keep: deque[Slot] | None = None

    def find(self, left: Mapping[Slot, int]) -> Slot | None:
        """A worker that has enough left."""
        while self._to_take and left[self._to_take[0]] < self.slots:
            self._to_take.popleft()
        return self._to_take[0] if self._to_take else None

    def nearest(self, left: Mapping[Slot, int]) -> Slot | None:
        """The one that lacks the fewest, where nobody has enough."""
        if self._to_keep is None:
            self._to_keep = deque(
                slot
                for place in self._places
                for slot in sorted(place, key=left.__getitem__, reverse=True)
            )
        while self._to_keep and not left[self._to_keep[0]]:
            self._to_keep.popleft()
        return self._to_keep.popleft() if self._to_keep else None
