"""Break the real commands at random moments; a table, and exit status 1 at any violation."""

import argparse
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.postgres import find_binaries
from tests.torture.campaign import Scale
from tests.torture.disk import PRIVATELY, can_mount
from tests.torture.runs import COLUMNS, KINDS, torture
from tests.torture.shared import SharedCampaign

SHOWN: Final = 20
"""Violations that are printed; all of them stand in the history."""


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--cycles", type=int, help="how often something is broken")
    parser.add_argument("--jobs", type=int, help="jobs that each cycle adds; of `nasty` all")
    parser.add_argument(
        "--seconds", type=float, help="how long the job of `follow` takes, or the database is away"
    )
    parser.add_argument("--seed", help="of all chance; default: a new one")
    parser.add_argument("--privately", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.kind == "disk" and not options.privately:
        if not can_mount():
            parser.error("`disk` needs a file system of its own, and this user may mount none")
        again = (sys.executable, "-m", "tests.torture", *sys.argv[1:], "--privately")
        os.execvp(PRIVATELY[0], (*PRIVATELY, *again))
    if KINDS[options.kind].campaign is SharedCampaign and find_binaries() is None:
        parser.error(f"`{options.kind}` needs PostgreSQL, which is not installed here")
    given = {name: getattr(options, name) for name in Scale._fields}
    scale = KINDS[options.kind].scale._replace(
        **{name: value for name, value in given.items() if value is not None}
    )
    seed = options.seed or str(random.randrange(10**6))
    folder = Path(tempfile.mkdtemp(prefix=f"torture-{options.kind}-"))
    print(f"seed {seed}, in {folder}", file=sys.stderr)
    row, violations = torture(options.kind, folder, seed, scale)
    for line in (COLUMNS, row):
        print("  ".join(text.rjust(8) for text in line))
    if not violations:
        shutil.rmtree(folder, ignore_errors=True)  # a mount point goes with this process
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
