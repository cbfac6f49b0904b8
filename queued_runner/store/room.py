"""The free slots of some offers while a claim fills them. Pure; any engine uses it."""

from collections import deque
from collections.abc import Iterable

from queued_runner.store.needs import Seek, satisfied_needs
from remote_runner.types import CAN_MASK, Offer, Slot


class Room:
    """Who may take which slot.

    Args:
        offers: the slots there are.
        seek: finds the needs that jobs have (see `needs.Seek`).
    """

    def __init__(self, offers: Iterable[Offer], seek: Seek) -> None:
        self._places: dict[str, list[deque[Slot]]] = {}
        # The place with the most labels comes first in a list, so it is the last to be taken:
        # scarce labels are kept free for those who need them.
        for offer in sorted(offers, key=lambda offer: -len(offer.labels.keys() - {CAN_MASK})):
            if offer.slots:
                place = deque(offer.slots)
                for needs in satisfied_needs(offer.labels, seek):
                    self._places.setdefault(needs, []).append(place)

    def sizes(self) -> list[tuple[str, int]]:
        """Each text of needs that some offer satisfies, and how many jobs with it fit at most."""
        return [(needs, sum(map(len, places))) for needs, places in self._places.items()]

    def take(self, needs: str) -> Slot | None:
        """Take a slot for a job with these needs; None if all of them are taken."""
        places = self._places[needs]
        while places:
            if places[-1]:
                return places[-1].popleft()
            places.pop()
        return None
