"""A measured figure and what it was to reach. Pure: the table, the record and the plots read these.

What a figure is compared with was measured in the same run, in turn with it: a round of both sees
the same machine, so the ratio is the median of the ratios of the rounds.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

BESIDE: Final = ", beside "
"""In the name of a row: the same figure as another one's, compared with a peer."""


@dataclass(frozen=True)
class Goal:
    """At least `value`, or at most: of the figure, or of its ratio to the limit.

    `each`: every round has to reach it, not their median.
    """

    value: float
    is_at_most: bool = False
    is_ratio: bool = False
    each: bool = False

    def __str__(self) -> str:
        return (
            f"{'<=' if self.is_at_most else '>='} {self.value:,.10g}{' x' if self.is_ratio else ''}"
        )

    def admits(self, figure: float) -> bool:
        return figure <= self.value if self.is_at_most else figure >= self.value


@dataclass(frozen=True)
class Row:
    """One figure, a value a round. `limits` are what it is compared with, from the same rounds."""

    name: str
    unit: str
    values: Sequence[float]
    limit_name: str = ""
    limits: Sequence[float] = ()
    goal: Goal | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def limit(self) -> float | None:
        return statistics.median(self.limits) if self.limits else None

    @property
    def ratios(self) -> list[float]:
        if len(self.limits) == len(self.values):
            pairs = zip(self.values, self.limits, strict=True)
            return [ours / limit for ours, limit in pairs]
        return [self.median / statistics.median(self.limits)] if self.limits else []

    @property
    def ratio(self) -> float | None:
        return statistics.median(self.ratios) if self.limits else None

    @property
    def reached(self) -> bool | None:
        """None: it has no goal."""
        if self.goal is None:
            return None
        figures = self.ratios if self.goal.is_ratio else self.values
        if self.goal.each:
            return all(map(self.goal.admits, figures))
        return self.goal.admits(statistics.median(figures))

    def as_json(self) -> dict[str, Any]:
        """What people and `from_json` read; the medians and ratios are for people."""
        return {
            "name": self.name,
            "unit": self.unit,
            "median": self.median,
            "values": list(self.values),
            "limit_name": self.limit_name,
            "limits": list(self.limits),
            "ratio": self.ratio,
            "goal": None if self.goal is None else vars(self.goal),
            "reached": self.reached,
        }

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Self:
        goal = None if told["goal"] is None else Goal(**told["goal"])
        return cls(
            told["name"], told["unit"], told["values"], told["limit_name"], told["limits"], goal
        )


@dataclass(frozen=True)
class Curve:
    """How a figure changes with `x`: the values of the rounds at each point, by their `x`."""

    name: str
    title: str
    x_name: str
    unit: str
    points: Mapping[float, Sequence[float]]
    is_logarithmic: bool = True
    """Whether `x` grows by factors."""

    def rows(self) -> list[Row]:
        """A row for each point."""
        return [
            Row(f"{self.title}: {x:,.10g}", self.unit, values) for x, values in self.points.items()
        ]

    def as_json(self) -> dict[str, Any]:
        return {**vars(self), "points": list(self.points.items())}

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Self:
        return cls(**{**told, "points": dict(told["points"])})


def figure(value: float | None) -> str:
    """A number as people read it: three digits, no more decimals than they tell."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def spread(values: Sequence[float]) -> str:
    if len(values) == 1:
        return ""
    return f"{figure(min(values))}–{figure(max(values))}"  # noqa: RUF001
