"""The real commands as processes, on free ports in one folder: server, workers, client verbs.

Owns every process it starts, and ends it by its id. Never looks into a process but through what a
user has: its port, its exit code, its output.
"""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

PATIENCE: Final = 30.0
"""Seconds: much more than anything here takes, because the machine may be busy with other work."""


class RunningService:
    """A server, its workers and its clients, as processes; leaving it ends them all.

    Args:
        folder: for all that they write; `state` in it is the data directory.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data_dir = folder / "state"
        self.temporary = folder / "tmp"
        self.temporary.mkdir(parents=True)
        self.cwd: Path | None = None
        """Where processes are started; None: where this one is."""
        self._processes: list[subprocess.Popen[bytes]] = []
        self.env = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "LANG": "C.UTF-8",
            "HOME": str(folder),
            "TMPDIR": str(self.temporary),
            "DUPLEX_RUNNER_DATA_DIR": str(self.data_dir),
            "DUPLEX_RUNNER_PORT": "0",
            "DUPLEX_RUNNER_HTTP_PORT": "0",
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for process in reversed(self._processes):
            process.kill()
            process.communicate()

    # --- processes ---

    def start(self, name: str, *argv: object, **options: Any) -> subprocess.Popen[bytes]:
        """Any command; what it prints goes to the log of this name."""
        with (self.folder / f"{name}.log").open("ab") as log:
            return self._popen(argv, stdout=log, stderr=log, **options)

    def _popen(self, argv: tuple[object, ...], **options: Any) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [str(argument) for argument in argv],
            **{"env": self.env, "cwd": self.cwd, "stdin": subprocess.DEVNULL, **options},
        )
        self._processes.append(process)
        return process

    def start_server(self, *options: object) -> subprocess.Popen[bytes]:
        """`python -m remote_runner`, once it accepts work."""
        (self.data_dir / "server.json").unlink(missing_ok=True)  # a killed server leaves it
        server = self.start("server", sys.executable, "-m", "remote_runner", *options)
        self.wait_until_ready(server)
        return server

    def wait_until_ready(self, server: subprocess.Popen[bytes]) -> None:
        """Until the server has said where it is."""
        file = self.data_dir / "server.json"
        self.wait_for(lambda: file.exists() or server.poll() is not None, "the server")
        _require(server.poll() is None, f"the server has ended\n{self.logs()}")

    @property
    def facts(self) -> dict[str, Any]:
        """What the server says about itself."""
        return dict(json.loads((self.data_dir / "server.json").read_bytes()))

    def start_worker(
        self, name: str = "w1", slots: int = 2, *options: object,
        module: str = "simple_worker", **more: Any,
    ) -> subprocess.Popen[bytes]:  # fmt: skip
        """`python -m simple_worker`, or a `module` like it, which connects when it can."""
        if "--server" not in options:  # a second one would be another server of the same queue
            options = ("--server", f"127.0.0.1:{self.facts['port']}", *options)
        return self.start(
            name, sys.executable, "-m", module, "--name", name, "--slots", slots,
            "--state-dir", self.folder / name, *options, **more,
        )  # fmt: skip

    # --- clients ---

    def verb(self, *arguments: object, **options: Any) -> subprocess.CompletedProcess[bytes]:
        """A client verb, run to its end."""
        process = self.start_verb(*arguments, **options)
        stdout, stderr = process.communicate(timeout=2 * PATIENCE)
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def start_verb(self, *arguments: object, **options: Any) -> subprocess.Popen[bytes]:
        """A client verb that is looked at, or signalled, while it runs."""
        argv = (sys.executable, "-m", "queued_runner", *arguments)
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return self._popen(argv, **{**pipes, **options})

    def json(self, *arguments: object) -> Any:
        """What a client verb prints with `--json`."""
        done = self.verb(*arguments, "--json")
        _require(done.returncode == 0, done.stderr.decode(errors="replace"))
        return json.loads(done.stdout)

    def submit(self, command: str, *args: str, **fields: Any) -> int:
        """One job over HTTP."""
        return self.submit_many([{"command": command, "args": args, **fields}])[0]

    def submit_many(self, bodies: list[dict[str, Any]]) -> list[int]:
        """Jobs over HTTP, in one request."""
        return list(json.loads(self.request("/api/v1/jobs", bodies))["ids"])

    def job(self, job_id: int) -> dict[str, Any]:
        """A job, as the API shows it."""
        return dict(json.loads(self.request(f"/api/v1/jobs/{job_id}")))

    def jobs(self) -> list[dict[str, Any]]:
        """The newest thousand jobs, as the API shows them."""
        return list(json.loads(self.request("/api/v1/jobs?limit=1000")))

    def cancel(self, job_id: int) -> None:
        """Cancel a job over HTTP."""
        self.request(f"/api/v1/jobs/{job_id}/cancel", {})

    def output(self, job_id: int) -> bytes:
        """What a job has printed so far, both streams."""
        return self.request(f"/api/v1/jobs/{job_id}/logs")

    def run(self, command: str, *args: str, **fields: Any) -> tuple[dict[str, Any], bytes]:
        """One job over HTTP, to its end: the job and its whole output."""
        job_id = self.submit(command, *args, **fields)
        self.wait_for(lambda: self.job(job_id)["finished_at"], f"the end of {command}")
        return self.job(job_id), self.output(job_id)

    def request(self, path: str, body: Any = None, *, by_port: int | None = None) -> bytes:
        """The body of an answer of the API; `body` is sent as JSON.

        `by_port`: of something between us and the server, instead of the server's own.
        """
        facts = self.facts
        token = Path(facts["token_file"]).read_text().strip()
        host = facts["url"].removeprefix("http://")
        way = host if by_port is None else f"127.0.0.1:{by_port}"
        request = urllib.request.Request(
            f"http://{way}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Host": host,
                "Authorization": f"Bearer {token}",
                "Content-Type": "application/json",
            },
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return bytes(answer.read())

    # --- waiting ---

    def wait_for(self, condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> None:
        """Until the condition holds; fails, with every log, when that takes too long."""
        deadline = time.monotonic() + seconds
        while not condition():
            late = time.monotonic() >= deadline
            _require(not late, f"waited {seconds} s for {what}\n{self.logs()}")
            time.sleep(0.02)

    def logs(self) -> str:
        """What every process has printed."""
        return "\n".join(
            f"{file.name}:\n{file.read_text(errors='replace')}"
            for file in sorted(self.folder.glob("*.log"))
        )


def _require(holds: bool, words: str) -> None:
    if not holds:
        raise AssertionError(words)


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
