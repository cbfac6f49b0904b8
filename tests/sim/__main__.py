"""`python -m tests.sim --seeds A:B`: runs seeds; says what is violated, and how to see it again."""

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from tests.sim.invariants import MEANING
from tests.sim.taps import installed
from tests.sim.world import run

BATCH = 25


def run_batch(seeds, servers):
    """The failures of some seeds, as (seed, code, text); how many events, hours and seconds of
    processor time all of them took."""
    begin = time.process_time()
    with installed():
        verdicts = [run(seed, servers) for seed in seeds]
    failed = [(v.seed, v.code, v.text) for v in verdicts if v.code]
    events = sum(len(verdict.history) for verdict in verdicts)
    hours = sum(verdict.virtual_seconds for verdict in verdicts) / 3600
    return failed, (events, hours, time.process_time() - begin)


def run_many(seeds, jobs, servers=None):
    """The failures of all seeds, and a line about the run."""
    begin = time.perf_counter()
    batches = [seeds[at : at + BATCH] for at in range(0, len(seeds), BATCH)]
    failed, costs = [], []
    with ProcessPoolExecutor(jobs) as pool:
        for some_failed, cost in pool.map(partial(run_batch, servers=servers), batches):
            failed += some_failed
            costs.append(cost)
    events, hours, busy = map(sum, zip(*costs, strict=True))
    line = (
        f"{len(seeds)} seeds in {time.perf_counter() - begin:.1f} s on {jobs} processes,"
        f" {len(seeds) / busy:.1f} a second of processor time; {events / len(seeds):.0f} events a"
        f" seed, {hours:.1f} virtual hours; {len(failed)} violations"
    )
    return failed, line


def digest(seed, servers=None):
    with installed():
        return run(int(seed), servers).history.digest()


def differing(seeds, servers=None):
    """Those whose history differs in another process with another hash seed."""
    script = (
        "import sys; from tests.sim.__main__ import digest;"
        f" print(*[digest(seed, {servers!r}) for seed in sys.argv[1:]])"
    )
    outputs = []
    for hash_seed in ("0", "1"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-c", script, *map(str, seeds)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        outputs.append(done.stdout.split())
    return [seed for seed, one, other in zip(seeds, *outputs, strict=True) if one != other]


def show(seed, is_long, servers=None):
    """Tell a seed's history: all of it, or the end."""
    with installed():
        verdict = run(seed, servers)
    lines = list(verdict.history.lines())
    if not is_long:
        lines = lines[-60:]
    print("\n".join(lines))
    return verdict


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seeds", default="0:500", metavar="A:B", help="from A up to B")
    parser.add_argument(
        "--servers", type=int, choices=(1, 2), help="so many, whatever the seed says"
    )
    parser.add_argument("--trace", action="store_true", help="tell all that happens")
    parser.add_argument("--check-determinism", type=int, default=0, metavar="N")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes at once")
    options = parser.parse_args()
    first, _, last = options.seeds.partition(":")
    seeds = range(int(first), int(last or int(first) + 1))
    if options.trace:
        codes = [show(seed, True, options.servers).code for seed in seeds]
        return int(any(codes))
    if options.check_determinism:
        some = seeds[: options.check_determinism]
        wrong = differing(some, options.servers)
        print(f"{len(some) - len(wrong)}/{len(some)} seeds have the same history in two processes")
        return int(bool(wrong))
    failed, line = run_many(seeds, options.jobs, options.servers)
    for seed, code, text in failed[:10]:
        print(f"seed {seed} violates {code} ({MEANING[code]}): {text}")
    if failed:
        print(f"\nthe end of seed {failed[0][0]}:")
        show(failed[0][0], False, options.servers)
        forced = f" --servers {options.servers}" if options.servers else ""
        print(f"\nall of it: python -m tests.sim --seeds {failed[0][0]}{forced} --trace\n")
    print(line)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
