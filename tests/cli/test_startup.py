"""What a client verb costs before it does anything: at most 0.3 s of a processor.

Processor time, the best of a few: a machine that is busy makes every clock slow, and no verb.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from queued_runner.cli.verbs import VERBS
from tests.cli.conftest import ROOT, jobs
from tests.cli.service_thread import ServiceThread

LIMIT = 0.3
TRIES = 5


def processor_seconds(*arguments: str) -> float:
    """Of one run of a verb, its start and its end included."""
    process = subprocess.Popen(
        [sys.executable, "-m", "queued_runner", *arguments],
        cwd=ROOT, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_utime + usage.ru_stime


def is_quick(*arguments: str) -> bool:
    return any(processor_seconds(*arguments) <= LIMIT for _ in range(TRIES))


@pytest.mark.parametrize("name", [*VERBS, None])
def test_help_is_there_at_once(name: str | None, data_dir: Path) -> None:
    assert is_quick(*([name] if name else []), "--help")


@pytest.mark.parametrize(
    "arguments",
    [["ps"], ["ps", "--json"], ["show", "1"], ["workers"], ["submit", "true"], ["cancel", "1"]],
)
def test_a_verb_is_there_at_once(service: ServiceThread, arguments: list[str]) -> None:
    service.do(service.queue.add, *jobs(20))
    assert is_quick(*arguments)


def test_a_verb_loads_no_event_loop(service: ServiceThread) -> None:
    code = (
        "import sys; from queued_runner.cli.group import cli\n"
        "cli(['ps'], standalone_mode=False)\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    modules = set(done.stderr.split())
    assert "httpcore2" in modules
    assert not modules & {"trio", "anyio", "asyncio"}
