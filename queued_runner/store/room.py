"""The free slots of some offers while a claim fills them. Pure; any engine uses it."""

from collections import Counter, deque
from collections.abc import Iterable

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
        # The place with the most labels comes first in a list, so it is the last to be taken:
        # scarce labels are kept free for those who need them.
        for offer in sorted(offers, key=lambda offer: -len(offer.labels.keys() - {CAN_MASK})):
            if offer.slots:
                place = deque(offer.slots)
                self._left.update(place)
                most = max(slot.of for slot in place)
                for needs in satisfied_needs(offer.labels, seek, most):
                    self._places.setdefault(needs, []).append(place)
        for slot in self._left:
            self._left[slot] = max(self._left[slot], slot.free)
        self._wide = {needs: slots for needs in self._places if (slots := slots_of(needs)) > 1}

    def sizes(self) -> list[tuple[str, int]]:
        """Each text of needs that some offer satisfies, and how many jobs with it fit at most."""
        return [(needs, sum(map(len, places))) for needs, places in self._places.items()]

    def take(self, needs: str) -> Slot | None:
        """Take room at a worker for a job with these needs; None if there is none.

        Whoever comes first in the queue comes first. So for a job of several slots that has to wait
        for them, what is free of one worker is kept: else those of one slot would always be sooner.
        It is the one with the most, of those with the fewest labels.
        """
        slots = self._wide.get(needs)
        if slots is not None:
            return self._take_several(self._places[needs], slots)
        places = self._places[needs]
        while places:
            while places[-1]:
                slot = places[-1].popleft()
                if self._left[slot]:
                    self._left[slot] -= 1
                    return slot
            places.pop()
        return None

    def _take_several(self, places: list[deque[Slot]], slots: int) -> Slot | None:
        nearest: Slot | None = None
        for place in reversed(places):
            wide = [slot for slot in dict.fromkeys(place) if slot.of >= slots and self._left[slot]]
            for slot in wide:
                if slot.free and self._left[slot] >= slots:
                    self._left[slot] -= slots
                    return slot
            nearest = nearest or max(wide, key=self._left.__getitem__, default=None)
        if nearest is None:
            places.clear()  # nor is there anything for the next one
        else:
            self._left[nearest] = 0
        return None
