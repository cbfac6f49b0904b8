"""HyperShell 2.8.2: a shell command distributor in Python, with its queue in SQLite.

Run as: `hs cluster` on this machine with one client of 8 threads, reading commands from its
standard input, output captured into two files for each (`--capture`).
Fair because: the cluster is up and 100 commands are through before the clock starts; commands go in
bundles of 100, without TLS on loopback and with its log at warnings, all faster than its defaults
(a bundle of one: 100 commands a second). The end is when the last command ended by its own record
in the database, not when that was written or the cluster had stopped seconds later, in its favour.
It does not: write an end down before the client goes on (ends are gathered into bundles as well; a
crash runs such commands again), or carry output: the command itself writes into a file on the
client's disk.
"""

import datetime
import sqlite3
import subprocess
import time
from pathlib import Path

from benchmarks.peers import environment

NAME = "HyperShell"
BUNDLE = 100  # a bundle is sent when it is full, so the warm-up is a whole one


def prepare(folder: Path) -> None:
    environment.install_python(folder, "hypershell")


def true_rate(folder: Path, total: int) -> float:
    return total / _seconds(folder, ["/bin/true"] * total)


def output_rate(folder: Path, size: int) -> float:
    return size / 1e6 / _seconds(folder, [f"head -c {size} /dev/zero"])


def _seconds(folder: Path, commands: list[str]) -> float:
    with environment.workplace(folder) as here:
        settings = {
            "HYPERSHELL_SITE": str(here / "site"),
            "HYPERSHELL_DATABASE_FILE": str(here / "queue.db"),
            "HYPERSHELL_LOGGING_LEVEL": "warning",
        }
        argv = [
            environment.program(folder, "hypershell", "hs"), "cluster", "--initdb", "--capture",
            "--num-threads", "8", "--bundlesize", str(BUNDLE), "--bundlewait", "1", "--no-tls",
            "--port", str(environment.free_port()),
        ]  # fmt: skip
        with environment.running(argv, here, settings, stdin=subprocess.PIPE) as cluster:
            assert cluster.stdin is not None
            cluster.stdin.write(b"/bin/true\n" * BUNDLE)
            cluster.stdin.flush()
            environment.wait_for(lambda: _ended(here)[0] == BUNDLE, here, 60, "the warm-up")
            begin = time.time()  # not the monotonic clock: it is compared with times it wrote
            cluster.stdin.write("".join(f"{command}\n" for command in commands).encode())
            cluster.stdin.close()
            environment.finish(cluster, here, 300)
        count, end = _ended(here)
        assert count == BUNDLE + len(commands), f"{count} of all commands succeeded"
        return end - begin


def _ended(here: Path) -> tuple[int, float]:
    """How many commands have succeeded, and when the last one did."""
    if not (here / "queue.db").exists():
        return 0, 0
    database = sqlite3.connect(f"file:{here / 'queue.db'}?mode=ro", uri=True)
    try:
        count, last = database.execute(
            "select count(*), max(completion_time) from task where exit_status = 0"
        ).fetchone()
    except sqlite3.OperationalError:  # no table yet, or it is being written
        return 0, 0
    finally:
        database.close()
    if last is None:
        return 0, 0
    return count, datetime.datetime.fromisoformat(last).replace(tzinfo=datetime.UTC).timestamp()
