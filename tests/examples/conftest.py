"""The real commands for the tests of the examples: a server on free ports in a temporary folder."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

ROOT = Path(__file__).resolve().parents[2]


class Service:
    """A running `python -m remote_runner` and what was started beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data_dir = folder / "state"
        self._stack = contextlib.ExitStack()
        self.info: dict[str, Any] = {}

    def start(self, *argv: str, cwd: Path = ROOT) -> subprocess.Popen[bytes]:
        """A child that ends with the test; what it prints goes to a file in the folder."""
        log = self.folder / f"process-{len(list(self.folder.glob('process-*')))}.log"
        with log.open("wb") as output:
            child = subprocess.Popen(
                argv, cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        self._stack.callback(self._stop, child)
        return child

    def _stop(self, child: subprocess.Popen[bytes]) -> None:
        child.terminate()
        try:
            child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()

    def logs(self) -> str:
        return "\n".join(
            f"{log.name}:\n{log.read_text(errors='replace')}"
            for log in sorted(self.folder.glob("process-*"))
        )

    def start_server(self, *options: str) -> None:
        server = self.start(
            sys.executable, "-m", "remote_runner", "--port", "0", "--http-port", "0",
            "--data-dir", str(self.data_dir), *options,
        )  # fmt: skip
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and server.poll() is None:
            with contextlib.suppress(OSError, ValueError):
                self.info = json.loads((self.data_dir / "server.json").read_bytes())
                return
            time.sleep(0.02)
        pytest.fail(f"the server did not start\n{self.logs()}")

    def start_worker(self, *options: str) -> None:
        self.start(
            sys.executable, "-m", "simple_worker", "--server", f"127.0.0.1:{self.info['port']}",
            "--state-dir", str(self.folder / "worker"), *options,
        )  # fmt: skip

    @contextlib.contextmanager
    def client(self) -> Iterator[httpx2.Client]:
        token = Path(self.info["token_file"]).read_text().strip()
        headers = {"Authorization": f"Bearer {token}"}
        with httpx2.Client(base_url=self.info["url"], headers=headers, timeout=20) as client:
            yield client

    def run_job(self, command: str, *args: str) -> tuple[dict[str, Any], bytes]:
        """The finished job and its whole output."""
        with self.client() as client:
            body = {"command": command, "args": list(args)}
            answer = client.post("/api/v1/jobs", json=body)
            assert answer.status_code == 201, answer.text
            url = f"/api/v1/jobs/{answer.json()['id']}"
            deadline = time.monotonic() + 20
            while (job := client.get(url).json())["finished_at"] is None:
                assert time.monotonic() < deadline, f"{job}\n{self.logs()}"
                time.sleep(0.05)
            return job, client.get(f"{url}/logs").content

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path)
    try:
        yield service
    finally:
        service.close()


@pytest.fixture
def run_python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a Python file with this interpreter, bounded in time."""

    def run(*argv: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *map(str, argv)], cwd=cwd, capture_output=True, text=True,
            timeout=50, check=False, stdin=subprocess.DEVNULL, env={**os.environ},
        )  # fmt: skip

    return run
