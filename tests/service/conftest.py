"""The real commands: a server and workers as processes, on free ports, in a temporary directory."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


class Service:
    """A server, its workers and its client verbs."""

    def __init__(self, folder):
        self.folder = folder
        self.data_dir = folder / "state"
        self.server = None
        self.workers = []
        self.env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "error",
            "DUPLEX_RUNNER_DATA_DIR": str(self.data_dir),
        }

    def _start(self, name, *arguments):
        with open(self.folder / f"{name}.log", "ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", *map(str, arguments)], env=self.env, stderr=log, cwd=ROOT
            )

    def start_server(self, *options):
        (self.data_dir / "server.json").unlink(missing_ok=True)
        self.server = self._start(
            "server", "remote_runner", "--port", 0, "--http-port", 0, "--json-port", 0,
            "--data-dir", self.data_dir, *options,
        )  # fmt: skip
        self.wait_for(lambda: (self.data_dir / "server.json").exists(), "the server to be ready")
        return self.server

    @property
    def facts(self):
        return json.loads((self.data_dir / "server.json").read_text())

    def start_worker(self, name="w1", slots=2, *options, port=None):
        worker = self._start(
            name, "simple_worker", "--server", f"127.0.0.1:{port or self.facts['port']}",
            "--name", name, "--slots", slots, "--state-dir", self.folder / name, *options,
        )  # fmt: skip
        self.workers.append(worker)
        return worker

    def wait_for(self, condition, what, seconds=20):
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"waited {seconds} s for {what}\n{self.logs()}"
            time.sleep(0.02)

    def logs(self):
        return "\n".join(f"{p.name}:\n{p.read_text()}" for p in self.folder.glob("*.log"))

    def verb(self, *arguments, **options):
        """Run a client verb to its end."""
        return subprocess.run(
            [sys.executable, "-m", "queued_runner", *map(str, arguments)],
            env=self.env, cwd=ROOT, capture_output=True, timeout=50, check=False, **options,
        )  # fmt: skip

    def start_verb(self, *arguments, **options):
        return subprocess.Popen(
            [sys.executable, "-m", "queued_runner", *map(str, arguments)],
            env=self.env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
        )  # fmt: skip

    def json(self, *arguments):
        done = self.verb(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def close(self):
        for process in [*self.workers, self.server]:
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGKILL)
            if process is not None:
                process.wait()


@contextmanager
def opened(folder):
    service = Service(folder)
    try:
        yield service
    finally:
        service.close()


@pytest.fixture
def service(tmp_path):
    with opened(tmp_path) as service:
        yield service


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A server with one worker of four slots, shared by the tests of a file."""
    with opened(tmp_path_factory.mktemp("service")) as service:
        service.start_server()
        service.start_worker(slots=4)
        yield service


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
