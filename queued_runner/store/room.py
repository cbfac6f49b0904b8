"""The free slots of some offers while a claim fills them. Pure; any engine uses it."""

from collections.abc import Iterable
from dataclasses import dataclass

from queued_runner.store.needs import Seek, satisfied_needs
from remote_runner.types import Offer


@dataclass(slots=True)
class _Place:
    free: int


class Room:
    """Who may take which slot.

    Args:
        offers: the slots there are.
        seek: finds the needs that jobs have (see `needs.Seek`).
    """

    def __init__(self, offers: Iterable[Offer], seek: Seek) -> None:
        self._places: dict[str, list[_Place]] = {}
        # The place with the most labels comes first in a list, so it is the last to be taken:
        # scarce labels are kept free for those who need them.
        for offer in sorted(offers, key=lambda offer: -len(offer.labels)):
            if offer.free > 0:
                place = _Place(offer.free)
                for needs in satisfied_needs(offer.labels, seek):
                    self._places.setdefault(needs, []).append(place)

    def sizes(self) -> list[tuple[str, int]]:
        """Each text of needs that some offer satisfies, and how many jobs with it fit at most."""
        return [(needs, sum(p.free for p in places)) for needs, places in self._places.items()]

    def take(self, needs: str) -> bool:
        """Take one slot for a job with these needs; False if all of them are taken."""
        places = self._places[needs]
        while places and not places[-1].free:
            places.pop()
        if not places:
            return False
        places[-1].free -= 1
        return True
