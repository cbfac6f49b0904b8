"""What every benchmark needs: the real server and workers as processes, and the limits program.

It owns how they are started, asked and ended; what is measured of them is each benchmark's own.
"""

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import apsw
import httpx2

from queued_runner.datadir import DATABASE

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent


class Skipped(Exception):
    """This machine lacks what the benchmark needs; the message says what."""


def percentile(values: Sequence[float], percent: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def limits_program(folder: Path) -> str:
    """The compiled `limits.c`.

    Raises:
        Skipped: there is no C compiler.
    """
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        raise Skipped("no C compiler: the limit of the machine is measured by a C program")
    program = folder / "limits"
    if not program.exists():
        subprocess.run([compiler, "-O2", "-o", program, HERE / "limits.c"], check=True)
    return str(program)


def memory(pid: int, what: str = "VmRSS") -> int:
    """Bytes of resident memory of a process; `VmHWM` for its peak."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1]) * 1024
    return 0


def cpu_seconds(pid: int) -> float:
    """Seconds of CPU that a process has taken so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def open_files(pid: int) -> int:
    """How many files, connections among them, a process has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def allow_many_files(count: int) -> None:
    """Let this process, and those it starts, have as many files open as the system allows.

    Raises:
        Skipped: that is less than `count`.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < count:
        raise Skipped(f"{count} open files are needed, and `ulimit -Hn` is {hard}")


@contextlib.contextmanager
def process(log: Path, *argv: str) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m argv` while the block runs, its messages in `log`."""
    with log.open("wb") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", *argv], cwd=ROOT, stdin=subprocess.DEVNULL,
            stdout=output, stderr=output, env={**os.environ},
        )  # fmt: skip
    try:
        yield child
    finally:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
            if child.poll() is None:
                child.send_signal(number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(timeout=5)


class Service:
    """A running server with an HTTP client for it, and its workers."""

    def __init__(
        self,
        folder: Path,
        name: str,
        server: subprocess.Popen[bytes],
        info: dict[str, Any],
        token: str,
    ) -> None:
        self.folder = folder
        self.name = name
        self.server = server
        self.info = info
        self.client = httpx2.Client(
            base_url=info["url"], headers={"Authorization": f"Bearer {token}"}, timeout=120
        )

    @contextlib.contextmanager
    def worker(self, slots: int, name: str = "bench") -> Iterator[subprocess.Popen[bytes]]:
        with process(
            self.folder / f"{name}.log", "simple_worker", "--server",
            f"127.0.0.1:{self.info['port']}", "--slots", str(slots), "--name", name,
            "--state-dir", str(self.folder / name),
        ) as child:  # fmt: skip
            self.wait_for(lambda: name in self.worker_names(), 20, "the worker")
            yield child

    def rows(self, path: str, **params: Any) -> list[dict[str, Any]]:
        answer = self.client.get(path, params=params)
        answer.raise_for_status()
        return list(answer.json())

    def worker_names(self) -> set[str]:
        return {worker["name"] for worker in self.rows("/api/v1/workers")}

    def wait_for(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Look ten times a second: more often would take from the server what is measured."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline or self.server.poll() is not None:
                logs = "\n".join(f.read_text()[-2000:] for f in self.folder.glob("*.log"))
                raise RuntimeError(f"waited {seconds} s for {what}\n{logs}")
            time.sleep(0.1)

    def submit(self, jobs: list[dict[str, Any]]) -> list[int]:
        answer = self.client.post("/api/v1/jobs", json=jobs)
        answer.raise_for_status()
        return list(answer.json()["ids"])

    def fill(self, count: int, **job: Any) -> None:
        """Submit `count` of the same job in the largest lists that are taken."""
        for first in range(0, count, 10_000):
            self.submit([job] * min(10_000, count - first))

    def counts(self, group: str) -> dict[str, int]:
        """How many jobs of the group are in each state; it costs the server a look at an index."""
        answer = self.client.get(f"/api/v1/groups/{group}")
        answer.raise_for_status()
        return dict(answer.json()["counts"])

    def is_done(self, group: str) -> bool:
        """Whether no job of the group is left to run."""
        counts = self.counts(group)
        return counts["queued"] == counts["running"] == 0

    def span(self, group: str) -> float:
        """Seconds from the first start to the last end of a group, as the database has them."""
        path = self.folder / self.name / DATABASE
        reader = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        ((first, last),) = reader.execute(
            "SELECT min(started_at), max(finished_at) FROM jobs WHERE grp = ?", (group,)
        ).fetchall()
        reader.close()
        return float(last - first)


@contextlib.contextmanager
def service(folder: Path, name: str = "server", options: Sequence[str] = ()) -> Iterator[Service]:
    """`python -m remote_runner` on free ports, else with its defaults: full durability.

    With the name of one that has ended it is started again on what that left.
    """
    data = folder / name
    (data / "server.json").unlink(missing_ok=True)
    with process(
        folder / f"{name}.log", "remote_runner", "--port", "0", "--http-port", "0",
        "--data-dir", str(data), *options,
    ) as server:  # fmt: skip
        deadline = time.monotonic() + 20
        while not (data / "server.json").exists():
            if time.monotonic() > deadline or server.poll() is not None:
                raise RuntimeError(
                    f"the server did not start\n{(folder / f'{name}.log').read_text()}"
                )
            time.sleep(0.01)
        info = json.loads((data / "server.json").read_bytes())
        running = Service(folder, name, server, info, Path(info["token_file"]).read_text().strip())
        try:
            yield running
        finally:
            running.client.close()
