"""`python -m tests.torture KIND`: a table, and exit status 1 at any violation."""

import argparse
import random
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.torture.runs import COLUMNS, KINDS, torture

SHOWN: Final = 20
"""Violations that are printed; all of them stand in the history."""


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--cycles", type=int, default=5, help="how often something is broken")
    parser.add_argument("--jobs", type=int, default=10, help="jobs that each cycle adds")
    parser.add_argument("--seed", default=None, help="of all chance; default: a new one")
    options = parser.parse_args()
    seed = options.seed or str(random.randrange(10**6))
    folder = Path(tempfile.mkdtemp(prefix=f"torture-{options.kind}-"))
    print(f"seed {seed}, in {folder}", file=sys.stderr)
    row, violations = torture(options.kind, folder, seed, options.cycles, options.jobs)
    for line in (COLUMNS, row):
        print("  ".join(text.rjust(8) for text in line))
    if not violations:
        shutil.rmtree(folder)
        return 0
    for violation in violations[:SHOWN]:
        print(f"{violation.sort}: {violation.text}")
    if len(violations) > SHOWN:
        print(f"and {len(violations) - SHOWN} more")
    print(
        f"look at {folder}/history (what was done when), witness, *.log and state/;"
        f" the same chance again: --seed {seed}"
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
