"""Verbs in this process, or in one of their own, against a server in a thread."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from queued_runner.cli.group import cli
from queued_runner.jobs import JobSpec
from tests.cli.service_thread import PATIENCE, ServiceThread

ROOT = Path(__file__).resolve().parents[2]

Verb = Callable[..., Result]
StartVerb = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data directory, which is that of the environment."""
    monkeypatch.setenv("DUPLEX_RUNNER_DATA_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def service(data_dir: Path) -> Iterator[ServiceThread]:
    with ServiceThread(data_dir) as service:
        yield service


@pytest.fixture
def verb(data_dir: Path) -> Verb:
    """Run a verb in this process, to its end."""

    def run(*arguments: object, **options: Any) -> Result:
        result = CliRunner().invoke(
            cli, [str(item) for item in arguments], prog_name="queued-runner", **options
        )
        assert result.exception is None or isinstance(result.exception, SystemExit), result
        return result

    return run


@pytest.fixture
def start_verb(data_dir: Path) -> Iterator[StartVerb]:
    """Start a verb as a process, which ends with the test at the latest."""
    started: list[subprocess.Popen[bytes]] = []
    # Whatever runs the tests in the background may ignore Ctrl-C, which children would inherit.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def start(*arguments: object, **options: Any) -> subprocess.Popen[bytes]:
        pipes: dict[str, Any] = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
        pipes["stdin"] = subprocess.DEVNULL
        # Not what C libraries put into the environment behind our back: readline does, COLUMNS.
        pipes["env"] = dict(os.environ)
        process = subprocess.Popen(
            [sys.executable, "-m", "queued_runner", *(str(item) for item in arguments)],
            cwd=ROOT,
            **{**pipes, **options},
        )
        started.append(process)
        return process

    yield start
    signal.signal(signal.SIGINT, before)
    for process in started:
        process.kill()
        process.communicate(timeout=PATIENCE)


def jobs(count: int, **fields: Any) -> list[JobSpec]:
    """Specs of jobs that nobody runs."""
    return [JobSpec(command="true", **fields) for _ in range(count)]
