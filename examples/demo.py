"""The whole thing in one look: a server and two workers run this project's own fast tests.

Run it as `scripts/demo`. Everything happens in a temporary folder; one job is one test file.
Exits 0 if every job succeeded, and leaves no process and no file behind.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests" / "pure"
JOBS = 20
"""Files that are taken: the demo is to end within 20 seconds."""
PYTEST = (
    "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "pytest_trio.plugin",
    "-p", "pytest_timeout",
)  # fmt: skip
WORKERS = ("w1", "w2")
STYLES = {"succeeded": "green", "failed": "red", "cancelled": "yellow", "running": "cyan"}
console = Console()


class Stop:
    """Remembers the signal that ends the demo until a moment when nothing is half started."""

    def __init__(self) -> None:
        self.number = 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._remember)

    def _remember(self, number: int, _: object) -> None:
        self.number = number

    def pause(self, seconds: float) -> None:
        """Sleep; leave with the usual exit code once a signal has come."""
        time.sleep(seconds)
        if self.number:
            sys.exit(128 + self.number)


@contextlib.contextmanager
def process(folder: Path, name: str, *argv: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command of this project while the block runs; all that it writes goes to `folder`."""
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    environment = {
        **os.environ,
        "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": str(temporary),
    }
    with open(folder / f"{name}.log", "wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", *argv], cwd=ROOT, stdin=subprocess.DEVNULL,
            stdout=log, stderr=log, env=environment, start_new_session=True,
        )  # fmt: skip
    try:
        yield child
    finally:
        # A worker that is busy needs a second SIGTERM to give its jobs up.
        for number, patience in ((signal.SIGTERM, 1), (signal.SIGTERM, 10), (signal.SIGKILL, 10)):
            if child.poll() is None:
                child.send_signal(number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(timeout=patience)


def wait_for_server(folder: Path, server: subprocess.Popen[bytes], stop: Stop) -> dict[str, Any]:
    """What the server says about itself once it accepts work."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(OSError, ValueError):
            return dict(json.loads((folder / "state" / "server.json").read_bytes()))
        stop.pause(0.02)
    raise SystemExit(f"the server did not start:\n{(folder / 'server.log').read_text()}")


def wait_for_workers(folder: Path, client: httpx2.Client, stop: Stop) -> None:
    deadline = time.monotonic() + 15
    while len(client.get("/api/v1/workers").raise_for_status().json()) < len(WORKERS):
        if time.monotonic() > deadline:
            logs = "".join((folder / f"{name}.log").read_text() for name in WORKERS)
            raise SystemExit(f"the workers did not connect:\n{logs}")
        stop.pause(0.02)


def test_files() -> list[str]:
    return sorted(str(file.relative_to(ROOT)) for file in TESTS.rglob("test_*.py"))[:JOBS]


def specs(folder: Path) -> list[dict[str, Any]]:
    """One job a test file. What pytest and hypothesis like to keep goes to the temporary folder."""
    return [
        {
            "command": sys.executable,
            "args": [*PYTEST, file],
            "name": file,
            "group": "demo",
            "cwd": str(ROOT),
            "timeout": 60,
            "env": {
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # the two above: half of a start is plugins
                "HYPOTHESIS_PROFILE": "quick",
                "HYPOTHESIS_STORAGE_DIRECTORY": str(folder / "hypothesis"),
            },
        }
        for file in test_files()
    ]


def table(jobs: list[dict[str, Any]]) -> Table:
    result = Table("id", "job", "state", "worker", "seconds", "exit", title=None)
    for job in sorted(jobs, key=lambda job: int(job["id"])):
        seconds, code = job.get("duration"), job.get("exit_code")
        style = STYLES.get(job["state"], "dim")
        result.add_row(
            str(job["id"]), job["name"], f"[{style}]{job['state']}[/]", job.get("worker") or "",
            "" if seconds is None else f"{seconds:.2f}", "" if code is None else str(code),
        )  # fmt: skip
    return result


def follow(client: httpx2.Client, total: int, stop: Stop) -> list[dict[str, Any]]:
    """Shows the jobs until all have ended; on a terminal live, else one line a finished job."""
    progress = Progress(BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console)
    task = progress.add_task("jobs", total=total)
    told: set[int] = set()
    with Live(console=console, transient=True, auto_refresh=False) as live:
        while True:
            answer = client.get("/api/v1/jobs", params={"group": "demo", "limit": 1000})
            jobs = list(answer.raise_for_status().json())
            done = [job for job in jobs if job["finished_at"] is not None]
            progress.update(task, completed=len(done))
            live.update(Group(table(jobs), progress), refresh=console.is_terminal)
            if not console.is_terminal:
                for job in done:
                    if job["id"] not in told:
                        told.add(job["id"])
                        print(f"[{len(told)}/{total}] {job['name']} {job['state']}", flush=True)
            if len(done) == total:
                return jobs
            stop.pause(0.1)


def run(folder: Path, stack: contextlib.ExitStack, stop: Stop) -> int:
    started = time.monotonic()
    state = folder / "state"
    server = stack.enter_context(
        process(
            folder, "server", "remote_runner", "--port", "0", "--http-port", "0",
            "--data-dir", str(state),
        )
    )  # fmt: skip
    info = wait_for_server(folder, server, stop)
    for name in WORKERS:
        stack.enter_context(
            process(
                folder, name, "simple_worker", "--server", f"127.0.0.1:{info['port']}",
                "--slots", "2", "--name", name, "--state-dir", str(folder / name),
            )
        )  # fmt: skip
    console.print(f"server on port {info['port']}, API at {info['url']}, 2 workers")

    token = Path(info["token_file"]).read_text().strip()
    headers = {"Authorization": f"Bearer {token}"}
    with httpx2.Client(base_url=info["url"], headers=headers, timeout=30) as client:
        wait_for_workers(folder, client, stop)
        wanted = specs(folder)
        client.post("/api/v1/jobs", json=wanted).raise_for_status()
        jobs = follow(client, len(wanted), stop)
        for job in jobs:
            if job["state"] != "succeeded":
                console.rule(f"{job['name']}: {job['state']} ({job['reason']})")
                print(client.get(f"/api/v1/jobs/{job['id']}/logs").text)
    console.print(table(jobs))
    good = sum(job["state"] == "succeeded" for job in jobs)
    seconds = time.monotonic() - started
    console.print(f"{good} of {len(jobs)} jobs succeeded, {seconds:.1f} s in all")
    return 0 if jobs and good == len(jobs) else 1


def main() -> int:
    if not test_files():
        raise SystemExit("no test files found: run this from a checkout of the project")
    stop = Stop()
    with (
        tempfile.TemporaryDirectory(prefix="duplex-runner-demo-") as name,
        contextlib.ExitStack() as stack,
    ):
        return run(Path(name), stack, stop)


if __name__ == "__main__":
    sys.exit(main())
