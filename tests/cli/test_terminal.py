"""What there is on a terminal only: the status line, the bar, colour."""

import os
import pty
import select
from collections.abc import Iterator

import pytest

from queued_runner.cli.output import is_coloured
from queued_runner.cli.status_line import describe
from tests.cli.conftest import StartVerb, jobs
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

    def close(self) -> None:
        os.close(self._ours)
        os.close(self.theirs)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
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


def test_wait_shows_how_far_it_is(
    service: ServiceThread, start_verb: StartVerb, terminal: Terminal
) -> None:
    service.do(service.queue.add, *jobs(2))
    client = start_verb("wait", "1-2", stderr=terminal.theirs)
    terminal.read_until(b"0/2")
    for job_id, words in ((2, b"1/2"), (1, b"2/2")):
        service.do(service.queue.start, job_id)
        service.do(service.queue.finish, job_id)
        if job_id == 2:
            terminal.read_until(words)
    stdout, _ = client.communicate(timeout=PATIENCE)
    assert (client.returncode, stdout) == (0, b"")


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
