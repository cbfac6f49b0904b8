"""Programs that somebody started with closed standard streams: no socket gets their numbers."""

import subprocess
import sys

import pytest

from tests.cli.conftest import jobs
from tests.cli.service_thread import PATIENCE, ServiceThread


def call(service: ServiceThread, arguments: str) -> "subprocess.CompletedProcess[bytes]":
    verb, _, rest = arguments.partition(" ")
    program = f"{sys.executable} -m queued_runner {verb} --data-dir {service.data_dir}"
    command = ["sh", "-c", f"exec {program} {rest}"]
    return subprocess.run(command, capture_output=True, timeout=PATIENCE)


@pytest.mark.parametrize("verb", ["ps", "run true", "submit true", "logs 1", "show 1", "workers"])
def test_a_closed_stdout_is_said_before_anything_is_asked_for(
    service: ServiceThread, verb: str
) -> None:
    service.do(service.queue.add, *jobs(1))
    done = call(service, f"{verb} >&-")
    assert done.returncode == 74
    assert done.stderr == b"queued-runner: the output cannot be written: stdout is closed\n"
    assert len(service.queue.jobs) == 1


@pytest.mark.parametrize("closing", ["2>&-", "<&-", "<&- 2>&-"])
def test_the_others_are_not_needed(service: ServiceThread, closing: str) -> None:
    service.do(service.queue.add, *jobs(1))
    done = call(service, f"ps --json {closing}")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"[")
