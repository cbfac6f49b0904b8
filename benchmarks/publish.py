"""From the records to the documentation: the plots, and the tables of figures in it.

    python -m benchmarks.publish

A whole run does this at its end. Nothing is measured here; without matplotlib there are no plots.
"""

import json
import re
import statistics
import sys
from itertools import groupby
from typing import Any

from benchmarks.harness import HERE, ROOT
from benchmarks.rows import Curve, Row, figure, spread

RECORD = HERE / "results" / "latest.json"
CURVES = HERE / "results" / "curves.json"
DOCUMENT = ROOT / "docs" / "performance.md"
PLOTS = ROOT / "docs" / "performance"


def publish() -> None:
    """Draw and write what the two records say."""
    measured, scale = json.loads(RECORD.read_bytes()), json.loads(CURVES.read_bytes())
    rows = [Row.from_json(told) for told in measured["rows"]]
    curves = [Curve.from_json(told) for told in scale["curves"]]
    text = DOCUMENT.read_text()
    text = _fill(text, "figures", _machine(measured["machine"]) + _table(rows))
    text = _fill(text, "scale", _machine(scale["machine"]) + _points(curves))
    DOCUMENT.write_text(text)
    _draw(rows, curves)


def _draw(rows: list[Row], curves: list[Curve]) -> None:
    try:
        from benchmarks import plots
    except ImportError:
        print("no plots: matplotlib is not installed (the extra `bench`)", file=sys.stderr)
        return
    PLOTS.mkdir(exist_ok=True)
    for name, members in groupby(rows, lambda row: row.name.partition(" ")[0].lower()):
        plots.draw_rows(list(members), PLOTS / f"{name}.png")
    for curve in curves:
        plots.draw_curve(curve, PLOTS / f"{curve.name}.png")


def _fill(text: str, place: str, content: str) -> str:
    """Put it between the two marks of that place."""
    marks = re.compile(rf"(<!-- {place} -->\n).*?(<!-- end -->)", re.DOTALL)
    return marks.sub(lambda found: f"{found[1]}\n{content}\n{found[2]}", text)


def _machine(told: dict[str, Any]) -> str:
    said = ", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in told.items())
    return f"Measured on — {said}.\n\n"


def _table(rows: list[Row]) -> str:
    lines = ["| measured | median | spread | beside it | ratio | goal | |", "|---" * 7 + "|"]
    for row in rows:
        reached = {True: "reached", False: "**missed**", None: ""}[row.reached]
        beside = f"{figure(row.limit)} ({row.limit_name})" if row.limits else ""
        cells = [row.name, f"{figure(row.median)} {row.unit}", spread(row.values), beside,
                 figure(row.ratio), str(row.goal or ""), reached]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _points(curves: list[Curve]) -> str:
    lines = ["| curve | |", "|---|---|"]
    for curve in curves:
        points = ", ".join(
            f"{x:,.10g}: {figure(statistics.median(values))}" for x, values in curve.points.items()
        )
        lines.append(f"| {curve.title} ({curve.x_name}: {curve.unit}) | {points} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    publish()
