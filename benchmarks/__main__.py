"""Runs the benchmarks and prints the table.

    python -m benchmarks [--quick] [--peers] [p1 p2 ... curves]

A whole run with the peers is the record, `results/latest.json`, and so are all curves,
`results/curves.json`; what is quick, or some of them only, is not. `--peers` installs the programs
that others would use for the same work, each in an environment of its own, and measures them in the
same rounds.
"""

import argparse
import importlib
import json
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.beside import Beside, Peers
from benchmarks.curves import CURVES
from benchmarks.harness import Skipped
from benchmarks.publish import CURVES as CURVES_RECORD
from benchmarks.publish import RECORD, publish
from benchmarks.rows import Curve, Row, figure, spread

NAMES = (
    "p1_throughput",
    "p2_output",
    "p3_submit",
    "p4_idle_workers",
    "p5_queue_depth",
    "p6_latency",
    "p7_servers",
    "p8_restart",
    "p9_agent_logs",
    "p10_start",
)

ENDS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def table(rows: Sequence[Row]) -> Table:
    result = Table("measured", "median", "spread", "beside it", "ratio", "goal", "")
    for row in rows:
        mark = {True: "[green]reached[/]", False: "[red]missed[/]", None: ""}[row.reached]
        limit = f"{figure(row.limit)} {row.limit_name}" if row.limits else ""
        result.add_row(
            row.name, f"{figure(row.median)} {row.unit}", spread(row.values), limit,
            figure(row.ratio), str(row.goal or ""), mark,
        )  # fmt: skip
    return result


def record(path: Path, what: str, measured: Sequence[Row | Curve], here: dict[str, Any]) -> None:
    content = {"machine": here, what: [item.as_json() for item in measured]}
    new = path.with_suffix(".new")
    new.write_text(json.dumps(content, indent=2) + "\n")
    new.replace(path)  # the last record is only given up for a whole one
    publish()


class Run:
    """What is measured, one thing after the other; one that fails does not keep the others."""

    def __init__(self, folder: Path, quick: bool, peers: Peers | None) -> None:
        self._folder = folder
        self._quick = quick
        self._peers = peers
        self.failed = False
        self.is_whole = True

    def row(self, name: str) -> list[Row]:
        module = importlib.import_module(f"benchmarks.{name}")
        return self._measure(name, module.run, *self._beside(module))

    def curve(self, name: str) -> list[Curve]:
        return self._measure(name, CURVES[name])

    def _beside(self, module: ModuleType) -> list[Beside]:
        if not hasattr(module, "MEASURE"):
            return []
        if self._peers is None:
            return [Beside()]
        return [self._peers.able(module.MEASURE, getattr(module, "SCALE", 1))]

    def _measure(self, name: str, run: Callable[..., list[Any]], *more: Any) -> list[Any]:
        print(f"{name} ...", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=self._folder) as folder:
            try:
                return run(Path(folder), self._quick, *more)
            except Skipped as reason:
                self.is_whole = False
                print(f"{name} skipped: {reason}", file=sys.stderr)
            except Exception:
                self.failed, self.is_whole = True, False
                print(f"{name} failed:\n{traceback.format_exc()}", file=sys.stderr)
        return []


def _described(name: str) -> str:
    """`p1 (throughput)`"""
    number, _, what = name.partition("_")
    return f"{number} ({what.replace('_', ' ')})"


def _end(number: int, _: FrameType | None) -> None:
    """What was started is ended on the way out, and no second signal is to cut that short."""
    for each in ENDS:
        signal.signal(each, signal.SIG_IGN)
    sys.exit(128 + number)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "--quick", action="store_true", help="short rounds: only shows that it works"
    )
    parser.add_argument("--peers", action="store_true", help="also measure the peers")
    parser.add_argument(
        "names", nargs="*",
        help=f"{', '.join(map(_described, NAMES))} (all of them without a name: with the peers a"
        f" quarter of an hour); curves: all curves; {', '.join(CURVES)}: one",
    )  # fmt: skip
    args = parser.parse_args()
    asked = [name.lower().partition("_")[0] for name in args.names]
    known = {*(name.partition("_")[0] for name in NAMES), *CURVES, "curves"}
    if unknown := sorted(set(asked) - known):
        parser.error(f"nothing is called {' '.join(unknown)}; see --help for what there is")
    rows = [n for n in NAMES if not asked or n.partition("_")[0] in asked]
    curves = [n for n in CURVES if n in asked or "curves" in asked]
    is_record = not args.quick and args.peers and not asked
    are_curves = not args.quick and "curves" in asked
    if (is_record or are_curves) and not os.access(RECORD.parent, os.W_OK):
        parser.error(f"the figures could not be written to {RECORD.parent}")
    for number in ENDS:
        signal.signal(number, _end)

    with tempfile.TemporaryDirectory(prefix="duplex-runner-bench-") as name:
        folder = Path(name)
        here = machine.describe(folder)
        run = Run(folder, args.quick, Peers(folder) if args.peers else None)
        measured = [row for name in rows for row in run.row(name)]
        drawn = [curve for name in curves for curve in run.curve(name)]
    if run.is_whole:  # first: a terminal that is gone by now does not take the figures along
        if is_record:
            record(RECORD, "rows", measured, here)
        if are_curves:
            record(CURVES_RECORD, "curves", drawn, here)
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(*(f"{name}: {value}" for name, value in here.items()), sep="\n")
    console.print(table([*measured, *(row for curve in drawn for row in curve.rows())]))
    return 1 if run.failed else 0


if __name__ == "__main__":
    sys.exit(main())
