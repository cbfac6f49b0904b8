"""The demo shows what it promises, and leaves no process and no file, however it ends."""

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import PATIENCE, ROOT, Service

pytestmark = pytest.mark.timeout(180)
DEMO = (sys.executable, ROOT / "examples/demo.py")


def processes(service: Service) -> list[bytes]:
    """The environment of every process of the demo: all are given its temporary directory."""
    mark = f"TMPDIR={service.temporary}".encode()
    found = []
    for file in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # not ours, or ended while we looked
            found.append(file.read_bytes())
    return [environment for environment in found if mark in environment]


@pytest.fixture(autouse=True)
def nothing_stays(service: Service) -> Iterator[None]:
    yield
    assert list(service.temporary.iterdir()) == []
    assert processes(service) == []


def read_terminal(terminal: int) -> bytes:
    """All that is printed, until nobody holds the other end."""
    printed = b""
    try:
        while data := os.read(terminal, 65536):
            printed += data
    except OSError:
        pass
    return printed


def test_on_a_terminal_it_is_live_and_ends_with_a_table(service: Service) -> None:
    terminal, its_end = pty.openpty()
    with os.fdopen(terminal, "rb", buffering=0):
        demo = subprocess.Popen(DEMO, stdin=its_end, stdout=its_end, stderr=its_end,
            env={**service.env, "TERM": "xterm", "COLUMNS": "120"})  # fmt: skip
        os.close(its_end)
        printed = re.sub(r"\x1b\[[\d;]*m", "", read_terminal(terminal).decode())
    assert demo.wait(PATIENCE) == 0, printed
    live, _, end = printed.rpartition("\x1b[2K")
    assert re.search("running +│ w[12]", live)
    rows = re.findall(r"│ (\d+) +│ (tests/\S+) +│ (\w+) +│ (w[12]) +│ +([\d.]+) +│ (\d+) ", end)
    assert {row[2] for row in rows} == {"succeeded"}
    assert {row[3] for row in rows} == {"w1", "w2"}
    assert f"{len(rows)} of {len(rows)} jobs succeeded" in end


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_the_middle_of_a_job(service: Service, number: int) -> None:
    demo = service.start("demo", *DEMO)
    service.wait_for(lambda: any(b"JOB_ID=" in each for each in processes(service)), "a job")
    demo.send_signal(number)
    assert demo.wait(PATIENCE) == 128 + number, service.logs()
