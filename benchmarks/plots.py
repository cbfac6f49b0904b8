"""Pictures of rows and curves, by matplotlib. Knows nothing of how the figures came about.

Bars are medians, with the value of each round as a dot on it; ours are blue, the peers brown, the
limits of the machine grey. A goal is a red line across the bar that is to reach it.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.rows import BESIDE, Curve, Row, figure

OURS, PEER, LIMIT, GOAL = "#2f6db5", "#b58a5a", "#a8a8a8", "#c03028"
WIDTH = 8.0

matplotlib.use("Agg")
matplotlib.rcParams.update({
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False,
    "axes.titlesize": 10, "axes.titleweight": "bold", "axes.titlelocation": "left",
})  # fmt: skip


def draw_rows(rows: Sequence[Row], path: Path) -> None:
    """One benchmark: a panel for each unit, with what its figures are compared with."""
    units = dict.fromkeys(row.unit for row in rows)
    panels = [_bars([row for row in rows if row.unit == unit]) for unit in units]
    heights = [len(bars) for bars in panels]
    drawn = Figure((WIDTH, 0.34 * sum(heights) + 0.75 * len(heights)), layout="constrained")
    all_axes = drawn.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, unit, bars in zip(all_axes, units, panels, strict=True):
        _draw_panel(axes, unit, bars)
    drawn.savefig(path, dpi=110)


@dataclass(frozen=True)
class _Bar:
    label: str
    values: Sequence[float]
    color: str
    said: str = ""
    goal: float | None = None


def _bars(rows: Sequence[Row]) -> list[_Bar]:
    bars = []
    for row in rows:
        goal = None if row.goal is None else row.goal.value
        said = "" if row.goal is None else f"goal {row.goal}"
        if BESIDE in row.name:
            bars.append(
                _Bar(row.limit_name, row.limits, PEER, f"ours {figure(row.ratio)} x  {said}")
            )
            continue
        if goal is not None and row.goal is not None and row.goal.is_ratio:
            goal *= row.limit or 0.0
            said = f"{figure(row.ratio)} x  {said}"
        bars.append(_Bar(row.name, row.values, OURS, said, goal))
        if row.limits:
            bars.append(_Bar(row.limit_name, row.limits, LIMIT))
    return bars


def _draw_panel(axes: Axes, unit: str, bars: Sequence[_Bar]) -> None:
    for place, bar in enumerate(bars):
        median = statistics.median(bar.values)
        axes.barh(place, median, 0.66, color=bar.color, zorder=2)
        if len(bar.values) > 1:
            places = [place] * len(bar.values)
            axes.plot(bar.values, places, "o", color="black", markersize=2.5, alpha=0.6, zorder=3)
        if bar.goal is not None:
            axes.vlines(bar.goal, place - 0.45, place + 0.45, color=GOAL, linewidth=2, zorder=4)
        beside = axes.get_yaxis_transform()
        axes.text(1.02, place, f"{figure(median)}  {bar.said}", va="center", transform=beside)
    axes.set_yticks(range(len(bars)), [bar.label for bar in bars])
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel(unit)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axes.grid(axis="x", color="#e4e4e4", zorder=0)


def draw_curve(curve: Curve, path: Path) -> None:
    """Medians as a line, from the least to the most of the rounds as a band."""
    drawn = Figure((WIDTH, 3.2), layout="constrained")
    axes = drawn.subplots()
    places = list(curve.points)
    axes.fill_between(
        places, [min(v) for v in curve.points.values()], [max(v) for v in curve.points.values()],
        color=OURS, alpha=0.2, linewidth=0,
    )  # fmt: skip
    medians = [row.median for row in curve.rows()]
    axes.plot(places, medians, "o-", color=OURS, markersize=4)
    for place, median in zip(places, medians, strict=True):
        axes.annotate(
            figure(median), (place, median), xytext=(0, 7), textcoords="offset points", ha="center"
        )
    if curve.is_logarithmic:
        axes.set_xscale("log")
    axes.set_xticks(places, [f"{place:,.10g}" for place in places])
    axes.set_xticks([], minor=True)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axes.set_ylim(0, max(max(values) for values in curve.points.values()) * 1.2)
    axes.set_title(curve.title)
    axes.set_xlabel(curve.x_name)
    axes.set_ylabel(curve.unit)
    axes.grid(color="#e4e4e4")
    drawn.savefig(path, dpi=110)
