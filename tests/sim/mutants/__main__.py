"""Looks for all planted bugs, or for some, and prints what finds which."""

import argparse
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from tests.sim.mutants.registry import MUTANTS
from tests.sim.mutants.search import find


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.sim.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="WORD", help="only bugs whose name has it")
    parser.add_argument("--seeds", type=int, default=2000, help="how many are tried at most")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes at once")
    options = parser.parse_args()
    names = [n for n in MUTANTS if not options.names or any(word in n for word in options.names)]
    missed = []
    with ProcessPoolExecutor(options.jobs) as pool:
        for found in pool.map(partial(find, seeds=range(options.seeds)), names):
            seed = "none" if found.seed is None else str(found.seed)
            text = f"the patch is stale: {found.text}" if found.is_stale else found.text
            print(f"{found.name:<88} {seed:>5}  {found.code:<4} {text}", flush=True)
            if not found.is_found:
                missed.append(found.name)
    print(f"{len(names) - len(missed)} of {len(names)} bugs found")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
