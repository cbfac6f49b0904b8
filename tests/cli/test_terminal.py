"""What there is on a terminal only: the status line, the bar, colour."""

import os
import pty
import re
import select
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.cells import cell_len

from queued_runner.cli.output import is_coloured
from queued_runner.cli.status_line import describe
from queued_runner.jobs import JobSpec, JobState
from tests.cli.conftest import ROOT, StartVerb, Verb, jobs
from tests.cli.service_thread import PATIENCE, ServiceThread


class Terminal:
    """What a person sees: everything that a verb writes to its end of a terminal."""

    def __init__(self) -> None:
        self._ours, self.theirs = pty.openpty()
        self.text = b""

    def read_until(self, words: bytes) -> None:
        while words not in self.text:
            assert self._read(PATIENCE), self.text

    def read_rest(self) -> bytes:
        """What is left once the verb has ended."""
        while self._read(0):
            pass
        return self.text

    def _read(self, seconds: float) -> bool:
        if not select.select([self._ours], [], [], seconds)[0]:
            return False
        self.text += os.read(self._ours, 65_536)
        return True

    def type(self, keys: bytes) -> None:
        """What a person presses: the terminal makes signals of some."""
        os.write(self._ours, keys)

    def resize(self, columns: int, lines: int) -> None:
        termios.tcsetwinsize(self.theirs, (lines, columns))

    def close(self) -> None:
        os.close(self._ours)
        os.close(self.theirs)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("COLUMNS", "LINES", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    terminal = Terminal()
    yield terminal
    terminal.close()


def test_run_says_how_the_job_stands_until_its_output_begins(
    service: ServiceThread, start_verb: StartVerb, terminal: Terminal
) -> None:
    client = start_verb("run", "make", stderr=terminal.theirs)
    terminal.read_until(b"\r\x1b[Kjob 1 queued: no worker is connected")
    service.do(service.queue.start, 1)
    terminal.read_until(b"\r\x1b[Kjob 1 running on w1")
    service.do(service.queue.write, 1, "stdout", b"out")
    terminal.read_until(b"w1\r\x1b[K")
    service.do(service.queue.write, 1, "stderr", b"err")
    service.do(service.queue.finish, 1)
    stdout, _ = client.communicate(timeout=PATIENCE)
    assert (client.returncode, stdout) == (0, b"out")
    assert terminal.read_rest().endswith(b"w1\r\x1b[Kerr")


CTRL_C = b"\x03"

IN_A_SESSION = (
    "import fcntl, os, signal, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    "signal.signal(signal.SIGINT, signal.SIG_DFL);"  # what runs the tests may ignore it
    "os.execv(sys.executable, [sys.executable, '-m', 'queued_runner', *sys.argv[1:]])"
)
"""Makes its input the terminal of a session of its own, as a login does, and becomes the verb."""


@pytest.fixture
def on_terminal(data_dir: Path, terminal: Terminal) -> Iterator[Callable[..., subprocess.Popen]]:
    """Start a verb as from a shell on the terminal."""
    started = []

    def start(*arguments: object) -> subprocess.Popen:
        ends = {"stdin": terminal.theirs, "stdout": terminal.theirs, "stderr": terminal.theirs}
        process = subprocess.Popen(
            [sys.executable, "-c", IN_A_SESSION, *map(str, arguments)],
            cwd=ROOT, env=dict(os.environ), **ends,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait(PATIENCE)


def test_ctrl_c_on_a_terminal_cancels_and_waits(
    service: ServiceThread, terminal: Terminal, on_terminal: Callable[..., subprocess.Popen]
) -> None:
    service.queue.obeys = False
    client = on_terminal("run", "make")
    terminal.read_until(b"job 1 queued")
    service.do(service.queue.start, 1)
    service.do(service.queue.write, 1, "stdout", b"begun\n")
    terminal.read_until(b"begun")
    terminal.type(CTRL_C)
    service.wait_until(lambda: service.queue.cancels)
    terminal.read_until(b"cancelling job 1, until its processes are gone")
    assert client.poll() is None
    service.do(service.queue.write, 1, "stdout", b"cleaned up\n")
    terminal.read_until(b"cleaned up")
    cancelled = JobState.CANCELLED
    service.do(service.queue.finish, 1, None, reason="killed", signal="SIGTERM", state=cancelled)
    assert client.wait(PATIENCE) == 130
    assert terminal.read_rest().endswith(b"job 1 cancelled\r\n")


def test_a_second_ctrl_c_on_a_terminal_leaves(
    service: ServiceThread, terminal: Terminal, on_terminal: Callable[..., subprocess.Popen]
) -> None:
    service.queue.obeys = False
    client = on_terminal("run", "make")
    terminal.read_until(b"job 1 queued")
    terminal.type(CTRL_C)
    terminal.read_until(b"Ctrl-C again leaves at once")
    terminal.type(CTRL_C)
    assert client.wait(PATIENCE) == 130
    terminal.read_until(b"left; job 1 may still be ending: queued-runner wait 1\r\n")


def test_watch_shows_what_changes_across_a_restart_until_ctrl_c(
    service: ServiceThread, terminal: Terminal, on_terminal: Callable[..., subprocess.Popen]
) -> None:
    terminal.resize(100, 12)
    service.do(service.queue.add, *jobs(30))
    client = on_terminal("ps", "--watch")
    terminal.read_until(b"30  ")
    terminal.read_until(b"22  ")
    service.do(service.queue.start, 30, "elsewhere")
    terminal.read_until(b"elsewhere")
    assert b"21  " not in terminal.text  # the newest that fit
    service.stop()
    terminal.read_until(b"the server is away")
    service.start()
    terminal.read_until(b"the server is back")
    service.do(service.queue.start, 29, "back again")
    terminal.read_until(b"back again")
    terminal.type(CTRL_C)
    assert client.wait(PATIENCE) == 0
    assert b"Traceback" not in terminal.read_rest()


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_watch_is_for_a_terminal(service: ServiceThread, verb: Verb, more: list[str]) -> None:
    done = verb("ps", "--watch", *more)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "--watch is for a terminal" in done.stderr


@pytest.mark.parametrize("columns", [30, 60, 100, 200])
def test_no_line_is_wider_than_the_terminal(
    service: ServiceThread, start_verb: StartVerb, terminal: Terminal, columns: int
) -> None:
    terminal.resize(columns, 24)
    long = JobSpec(command="make", args=("x" * 300, "日本語" * 50), group="g" * 50)
    service.do(service.queue.add, long, *jobs(3))
    service.do(service.queue.start, 1, "w" * 60)
    assert start_verb("ps", stdout=terminal.theirs).wait(PATIENCE) == 0
    lines = re.sub(r"\x1b\[[0-9;]*m", "", terminal.read_rest().decode()).splitlines()
    assert len(lines) == 5
    assert max(map(cell_len, lines)) <= columns, lines
    assert all("ID" in lines[0] and "STATE" in lines[0] and line for line in lines)
    assert "running" in lines[4]


def test_wait_shows_how_far_it_is(
    service: ServiceThread, start_verb: StartVerb, terminal: Terminal
) -> None:
    service.do(service.queue.add, *jobs(2))
    service.do(service.queue.start, 1)
    client = start_verb("wait", "1-2", stderr=terminal.theirs)
    terminal.read_until(b"0/2")
    terminal.read_until(b"1 running")
    for job_id, words in ((2, b"1/2"), (1, b"2/2")):
        service.do(service.queue.finish, job_id, job_id - 1)
        if job_id == 2:
            terminal.read_until(words)
            terminal.read_until(b"1 failed")
            terminal.read_until(b" left")
    stdout, _ = client.communicate(timeout=PATIENCE)
    assert (client.returncode, stdout) == (1, b"")


@pytest.mark.parametrize("no_colour", [False, True])
def test_states_are_coloured_on_a_terminal_unless_it_is_unwanted(
    service: ServiceThread, start_verb: StartVerb, terminal: Terminal, no_colour: bool
) -> None:
    service.do(service.queue.add, *jobs(1))
    environment = {**os.environ, "NO_COLOR": "1" if no_colour else ""}
    client = start_verb("ps", stdout=terminal.theirs, env=environment)
    assert client.wait(PATIENCE) == 0
    assert (b"\x1b[36mqueued" in terminal.read_rest()) is not no_colour


def test_a_file_is_never_coloured() -> None:
    with open(os.devnull, "w") as file:
        assert not is_coloured(file)


@pytest.mark.parametrize(
    ("job", "words"),
    [
        ({"state": "queued", "pending_reason": "it is delayed"}, "job 3 queued: it is delayed"),
        ({"state": "queued", "pending_reason": None}, "job 3 queued"),
        ({"state": "running", "worker": "w\x1b", "attempt": 1}, "job 3 running on w\\x1b"),
        ({"state": "running", "worker": None, "attempt": 2}, "job 3 running, attempt 2"),
        ({"state": "failed"}, "job 3 failed"),
    ],
)
def test_the_words_of_the_status_line(job: dict, words: str) -> None:
    assert describe({"id": 3, **job}) == words
