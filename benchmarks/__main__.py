"""Runs the benchmarks and prints the table.

python -m benchmarks [--quick] [p1 p2 ...]

A whole run is the record, `results/latest.json`; one that is quick, or of some only, is not.
"""

import argparse
import importlib
import json
import os
import platform
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.harness import HERE, Row, Skipped

NAMES = (
    "p1_throughput",
    "p2_output",
    "p3_submit",
    "p6_latency",
    "p7_servers",
    "p9_agent_logs",
    "p10_start",
)
RECORD = HERE / "results" / "latest.json"


def figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(rows: list[Row]) -> Table:
    result = Table("measured", "median", "spread", "limit", "ratio", "goal", "")
    for row in rows:
        spread = f"{figure(min(row.values))}–{figure(max(row.values))}"  # noqa: RUF001
        mark = {True: "[green]reached[/]", False: "[red]missed[/]", None: ""}[row.reached]
        limit = f"{figure(row.limit)} {row.limit_name}" if row.limits else ""
        result.add_row(
            row.name, f"{figure(row.median)} {row.unit}", spread if len(row.values) > 1 else "",
            limit, figure(row.ratio), row.goal, mark,
        )  # fmt: skip
    return result


def report(rows: list[Row]) -> dict[str, Any]:
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "cpus": os.cpu_count(),
        "rows": [row.as_json() for row in rows],
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "--quick", action="store_true", help="short rounds: only shows that it works"
    )
    parser.add_argument("names", nargs="*", help="p1 p2 p3 p6 p7 p9 p10; all without a name")
    args = parser.parse_args()
    chosen = [n for n in NAMES if not args.names or n.split("_")[0] in args.names]
    if not chosen:
        parser.error(f"nothing is called {' '.join(args.names)}")

    console = Console(width=None if sys.stdout.isatty() else 140)
    rows: list[Row] = []
    failed = []
    for name in chosen:
        print(f"{name} ...", file=sys.stderr, flush=True)
        module = importlib.import_module(f"benchmarks.{name}")
        with tempfile.TemporaryDirectory(prefix="duplex-runner-bench-") as folder:
            try:
                rows += module.run(Path(folder), args.quick)
            except Skipped as reason:
                print(f"{name} skipped: {reason}", file=sys.stderr)
            except Exception:
                failed.append(name)
                print(f"{name} failed:\n{traceback.format_exc()}", file=sys.stderr)
    console.print(table(rows))
    if not args.quick and not args.names and not failed:
        RECORD.write_text(json.dumps(report(rows), indent=2) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
