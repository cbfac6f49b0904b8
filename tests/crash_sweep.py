"""`python -m tests.crash_sweep`: a crash of the server at every sync and every write of 20 jobs.

First on a simulated disk, which loses what was not synced; then the same with `synchronous=NORMAL`,
which must lose something; then the real server, killed by strace. Exit status 1 if anything that
was acknowledged is lost, or if the sweep shows nothing where it must.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.crash.killed import SYNCS, WRITES, kill_once
from tests.crash.script import crash_once
from tests.crash.strace import why_not
from tests.simdisk import SimDisk


def simulated(synchronous: str, step: int) -> int:
    """How many crashes lost something."""
    begin = time.monotonic()
    runs = losses = 0
    for keeps in (0.0, 0.5):
        for kind in ("sync", "write"):
            number = 1
            while True:
                disk = SimDisk(number, keeps=keeps)
                report = crash_once(disk, (kind, number), synchronous)
                if (report.syncs if kind == "sync" else report.writes) < number:
                    break
                runs += 1
                losses += bool(report.violations)
                if report.violations and synchronous == "FULL":
                    print(f"  {kind} {number}, keeps {keeps}: {report.violations}")
                number += step
    seconds = time.monotonic() - begin
    print(f"simulated disk, {synchronous:<6} {runs:4} crashes, {losses:4} lost something"
          f" ({seconds:.0f} s)", flush=True)  # fmt: skip
    return losses


def killed(name: str, calls: str, step: int, most: int) -> int:
    """How many kills lost something."""
    begin = time.monotonic()
    runs = losses = 0
    for number in range(1, most + 1, step):
        with tempfile.TemporaryDirectory(prefix="killed-") as folder:
            was_killed, wrong = kill_once(Path(folder), calls, number)
        if not was_killed:
            break
        runs += 1
        losses += bool(wrong)
        if wrong:
            print(f"  {name} {number}: {wrong}")
    seconds = time.monotonic() - begin
    print(f"real server, {name:<9} {runs:4} kills,   {losses:4} lost something ({seconds:.0f} s)",
          flush=True)  # fmt: skip
    return losses


parser = argparse.ArgumentParser(prog="python -m tests.crash_sweep")
parser.add_argument("--step", type=int, default=1, help="crash at every so many operations")
parser.add_argument("--most", type=int, default=1000, help="kills of the real server, of each kind")
options = parser.parse_args()
lost = simulated("FULL", options.step)
shown = simulated("NORMAL", options.step)
reason = why_not()
if reason is None:
    lost += killed("syncs", SYNCS, options.step, options.most)
    lost += killed("writes", WRITES, options.step, options.most)
else:
    print(f"real server: skipped, {reason}")
sys.exit(bool(lost) or not shown)
