"""The peers, measured in turn with ours on the same work. What each is stands in its own module.

It owns that each is installed once a run, that one which cannot run here is named and left out, and
that a slow one does not hold up the others: it gets as much of the work as it does in `SECONDS`.
"""

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType

from benchmarks.rows import BESIDE, Goal, Row

Measure = Callable[[Path, int], float]

SECONDS = 10.0
FIRST_TRY = 1 / 50
"""Of the work: it tells how fast a peer is, and warms it up."""

TRIES = 3
"""Of a round, before a peer is left out: some lose work now and then."""


class Beside:
    """Peers that can do one kind of work: `measure` is the name of their function for it.

    That takes a peer's folder and how much work there is, and gives the units of it that were done
    in a second; `scale` is how many such units are one of a second's rate (bytes in a megabyte).
    """

    def __init__(
        self, peers: Iterable[tuple[ModuleType, Path]] = (), measure: str = "", scale: int = 1
    ) -> None:
        self._peers = {m.NAME: (getattr(m, measure), folder) for m, folder in peers}
        self._share: dict[str, int] = {}
        self._scale = scale
        self._rates: dict[str, list[float]] = {name: [] for name in self._peers}

    def round(self, work: int) -> None:
        """Each does the work once, one after the other."""
        for name, (measure, folder) in list(self._peers.items()):
            try:
                if name not in self._share:
                    speed = _rate(measure, folder, max(1, int(work * FIRST_TRY))) * self._scale
                    self._share[name] = max(1, min(work, int(speed * SECONDS)))
                self._rates[name].append(_rate(measure, folder, self._share[name]))
            except Exception as error:
                leave_out(name, error)
                del self._peers[name], self._rates[name]

    def rows(self, ours: Row, goals: Mapping[str, float]) -> list[Row]:
        """Ours against each of them; `goals` are the ratios to reach, by the peer's name."""
        rows = []
        for name, rates in self._rates.items():
            goal = Goal(goals[name], is_ratio=True) if name in goals else None
            title = f"{ours.name}{BESIDE}{name}"
            rows.append(Row(title, ours.unit, ours.values, name, rates, goal))
        return rows


def _rate(measure: Measure, folder: Path, work: int) -> float:
    for _ in range(TRIES - 1):
        try:
            return measure(folder, work)
        except Exception as error:
            print(f"once more: {error}", file=sys.stderr, flush=True)
    return measure(folder, work)


class Peers:
    """All peers, each made ready when the first work for it comes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ready: dict[ModuleType, Path | None] = {}

    def able(self, measure: str, scale: int = 1) -> Beside:
        """Those that have a function of that name and can be installed here."""
        from benchmarks import peers

        modules = dict.fromkeys((*peers.TRUE, *peers.OUTPUT))
        able = [module for module in modules if hasattr(module, measure)]
        ready = [(module, place) for module in able if (place := self._prepare(module))]
        return Beside(ready, measure, scale)

    def _prepare(self, module: ModuleType) -> Path | None:
        if module not in self._ready:
            print(f"preparing {module.NAME} ...", file=sys.stderr, flush=True)
            place = self._folder / module.__name__.rpartition(".")[2]
            place.mkdir()
            try:
                module.prepare(place)
                self._ready[module] = place
            except Exception as error:  # `Skipped`, or an index that cannot be reached
                leave_out(module.NAME, error)
                self._ready[module] = None
        return self._ready[module]


def leave_out(name: str, error: Exception) -> None:
    print(f"{name} is left out: {error or type(error).__name__}", file=sys.stderr, flush=True)
