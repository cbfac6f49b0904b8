"""P10: how long a client verb needs from its start to its end.

Measures: `python -m queued_runner ps` against a running, idle server, as a shell sees it. Fair
because: it is the whole process, its imports and one request included; the limit is the same
interpreter doing nothing, in turn.
"""

import subprocess
import sys
import time
from pathlib import Path

from benchmarks.harness import ROOT, service
from benchmarks.rows import Goal, Row


def run(folder: Path, quick: bool) -> list[Row]:
    rounds = 3 if quick else 20
    ours, limits = [], []
    with service(folder) as server:
        environment = {
            "PATH": "/usr/bin:/bin",
            "DUPLEX_RUNNER_URL": server.info["url"],
            "DUPLEX_RUNNER_TOKEN": Path(server.info["token_file"]).read_text().strip(),
        }
        for number in range(rounds + 1):
            begin = time.perf_counter()
            subprocess.run([sys.executable, "-c", "pass"], check=True, cwd=ROOT)
            nothing = time.perf_counter() - begin
            begin = time.perf_counter()
            subprocess.run(
                [sys.executable, "-m", "queued_runner", "ps"],
                check=True, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL,
            )  # fmt: skip
            if number:  # the first one compiles
                ours.append(time.perf_counter() - begin)
                limits.append(nothing)
    goal = Goal(0.3, is_at_most=True)
    return [Row("P10 a client verb", "s", ours, "python -c pass", limits, goal)]
