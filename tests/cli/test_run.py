"""`run` and `logs -f`: output as it comes, attempts and restarts in between, Ctrl-C, a closed pipe.

What the worker does is scripted; the verbs run for real, most of them in this process.
"""

import os
import pty
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from queued_runner.cli import status_line
from queued_runner.client.api import Chunk, Client
from queued_runner.client.errors import Unreachable
from queued_runner.client.locate import find_server
from queued_runner.jobs import JobState
from queued_runner.queue import Record
from tests.cli.conftest import StartVerb, Verb, jobs
from tests.cli.service_thread import PATIENCE, ServiceThread


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that waits a while, where the server could tell it, fails."""

    def pause(seconds: float) -> None:
        pytest.fail("the client paused")

    monkeypatch.setattr(time, "sleep", pause)


async def one_attempt(service: ServiceThread) -> None:
    queue = service.queue
    await queue.until(lambda: queue.jobs)
    queue.start(1)
    for stream, data in (("stdout", b"out\xff"), ("stderr", b"err\n"), ("stdout", b"\x00end")):
        queue.write(1, stream, data)
    queue.finish(1, 7)


async def two_attempts(service: ServiceThread) -> None:
    queue = service.queue
    await queue.until(lambda: queue.jobs)
    queue.start(1)
    queue.write(1, "stdout", b"first\n")
    queue.finish(1, 1, retry=True)
    queue.start(1)
    queue.write(1, "stdout", b"second\n")
    queue.finish(1, 0)


def test_the_output_and_the_status_come_back(
    service: ServiceThread, verb: Verb, no_pause: None
) -> None:
    service.play(one_attempt)
    done = verb("run", "make")
    assert (done.exit_code, done.stdout_bytes, done.stderr_bytes) == (
        7, b"out\xff\x00end", b"err\n",
    )  # fmt: skip


def test_the_next_attempt_is_followed_without_a_pause(
    service: ServiceThread, verb: Verb, no_pause: None
) -> None:
    service.play(two_attempts)
    done = verb("run", "--retries", 1, "make")
    assert (done.exit_code, done.stdout) == (0, "first\nsecond\n")
    words = "attempt 2 of job 1 begins, after what another one printed"
    assert done.stderr == f"queued-runner: {words}\n"
    assert verb("logs", "-f", 1, "--attempt", 1).stdout == "first\n"


def test_a_job_that_is_cancelled_between_its_attempts_ends_the_run(
    service: ServiceThread, verb: Verb, no_pause: None
) -> None:
    async def worker(service: ServiceThread) -> None:
        queue = service.queue
        await queue.until(lambda: queue.followers == 1)
        queue.start(1)
        queue.finish(1, 1, retry=True)
        await queue.until(lambda: queue.followers == 2)
        await queue.cancel(1)

    service.play(worker)
    done = verb("run", "make")
    assert (done.exit_code, done.stdout) == (130, "")
    assert done.stderr == "queued-runner: job 1 cancelled\n"


def test_a_job_that_no_worker_takes_is_told_once(
    service: ServiceThread, start_verb: StartVerb
) -> None:
    service.queue.has_worker = False
    client = start_verb("run", "make")
    assert client.stderr is not None
    told = client.stderr.readline()
    assert told == b"queued-runner: job 1 waits for a worker; start one with: simple-worker\n"
    service.do(service.queue.start, 1)
    service.do(service.queue.finish, 1, 0)
    stdout, stderr = client.communicate(timeout=PATIENCE)
    assert (client.returncode, stdout, stderr) == (0, b"", b"")


def test_a_job_that_waits_for_others_is_not_told(
    service: ServiceThread, verb: Verb, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def looked_at(service: ServiceThread) -> None:
        queue = service.queue
        await queue.until(lambda: queue.looks >= 3)
        queue.start(1)
        queue.finish(1, 0)

    monkeypatch.setattr(status_line, "PERIOD", 0.01)
    service.play(looked_at)
    done = verb("run", "make")
    assert (done.exit_code, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("end", "status", "words"),
    [
        ({"exit_code": None, "reason": "timeout", "signal": "SIGTERM"}, 124, "failed (timeout)"),
        ({"exit_code": None, "reason": "signal", "signal": "SIGKILL"}, 137, "failed (SIGKILL)"),
        ({"exit_code": None, "reason": "worker-lost"}, 123, "failed (worker-lost)"),
        ({"exit_code": 127, "reason": "spawn-error"}, 127, ""),
    ],
)
def test_an_end_that_is_no_exit_is_told(
    service: ServiceThread, verb: Verb, end: dict, status: int, words: str
) -> None:
    async def worker(service: ServiceThread) -> None:
        await service.queue.until(lambda: service.queue.jobs)
        service.queue.start(1)
        service.queue.finish(1, **end)

    service.play(worker)
    done = verb("run", "make")
    assert done.exit_code == status
    assert done.stderr == (f"queued-runner: job 1 {words}\n" if words else "")


async def restarted_half_way(service: ServiceThread) -> None:
    queue = service.queue
    await queue.until(lambda: queue.followers)
    queue.start(1)
    queue.write(1, "stdout", b"one ")
    await service.restart()
    queue.write(1, "stdout", b"two")
    queue.finish(1, 5)


def test_what_was_received_before_a_restart_is_not_asked_for_again(service: ServiceThread) -> None:
    service.do(service.queue.add, *jobs(1))
    service.do(service.queue.start, 1)
    service.do(service.queue.write, 1, "stdout", b"one ")
    with Client(find_server(), relocate=find_server) as client:
        items = client.follow(1)
        received = [next(items)]
        service.stop()
        service.start()
        service.do(service.queue.write, 1, "stdout", b"two")
        service.do(service.queue.finish, 1)
        received += items
    assert [item.data for item in received if isinstance(item, Chunk)] == [b"one ", b"two"]


def test_a_restart_loses_and_doubles_nothing(service: ServiceThread, verb: Verb) -> None:
    service.play(restarted_half_way)
    done = verb("run", "make")
    assert (done.exit_code, done.stdout) == (5, "one two")
    assert done.stderr.splitlines() == [
        "queued-runner: the server is away; going on when it is back (giving up after 120 seconds)",
        "queued-runner: the server is back",
    ]


def test_logs_survive_a_restart(service: ServiceThread, verb: Verb) -> None:
    service.do(service.queue.add, *jobs(1))
    service.play(restarted_half_way)
    done = verb("logs", "-f", 1)
    assert (done.exit_code, done.stdout) == (0, "one two")


def test_a_server_that_stays_away_is_given_up(service: ServiceThread) -> None:
    service.do(service.queue.add, *jobs(1))
    service.do(service.queue.start, 1)
    service.do(service.queue.write, 1, "stdout", b"x")
    notices: list[str] = []
    with Client(find_server(), on_notice=notices.append, detach=0.3) as client:
        items = client.follow(1)
        first = next(items)
        assert isinstance(first, Chunk)
        assert first.data == b"x"
        service.stop()
        with pytest.raises(Unreachable, match="start it with") as caught:
            next(items)
    assert caught.value.exit_code == 125
    assert len(notices) == 1


def test_a_server_that_ends_every_stream_is_given_up(service: ServiceThread) -> None:
    async def records(*arguments: object, **options: object) -> AsyncIterator[Record]:
        for record in ():
            yield record

    service.queue.records = records
    service.do(service.queue.add, *jobs(1))
    service.do(service.queue.start, 1)
    with (
        Client(find_server(), detach=0.3) as client,
        pytest.raises(Unreachable, match="ended the output too early"),
    ):
        next(client.follow(1))


def test_a_job_that_is_tried_again_as_its_stream_ends_is_followed_on(
    service: ServiceThread, no_pause: None
) -> None:
    """Who follows the next attempt of a job that has ended may come at that moment."""
    follow = service.queue.records
    calls = 0

    async def records(*arguments: Any, **options: Any) -> AsyncIterator[Record]:
        nonlocal calls
        calls += 1
        if calls > 1:
            await one_attempt(service)
            async for record in follow(*arguments, **options):
                yield record

    service.queue.records = records
    service.do(service.queue.add, *jobs(1))
    notices: list[str] = []
    with Client(find_server(), on_notice=notices.append) as client:
        *chunks, job = client.follow(1)
    assert (
        b"".join(each.data for each in chunks if isinstance(each, Chunk)) == b"out\xfferr\n\x00end"
    )
    assert not isinstance(job, Chunk)
    assert job["exit_code"] == 7
    assert (calls, notices) == (2, [])


def test_ctrl_c_cancels_and_waits_for_the_end(
    service: ServiceThread, start_verb: StartVerb
) -> None:
    client = start_verb("run", "make")
    service.wait_until(lambda: service.queue.jobs)
    client.send_signal(signal.SIGINT)
    stdout, stderr = client.communicate(timeout=PATIENCE)
    assert (client.returncode, stdout) == (130, b"")
    assert b"cancelling" in stderr
    assert service.queue.cancels == [(1, None, None)]


def test_a_second_ctrl_c_leaves_at_once(service: ServiceThread, start_verb: StartVerb) -> None:
    service.queue.obeys = False
    client = start_verb("run", "make")
    service.wait_until(lambda: service.queue.followers)
    client.send_signal(signal.SIGINT)
    service.wait_until(lambda: service.queue.cancels)
    client.send_signal(signal.SIGINT)
    _, stderr = client.communicate(timeout=PATIENCE)
    assert client.returncode == 130
    first, second = stderr.splitlines()
    assert first.startswith(b"queued-runner: cancelling job 1, until its processes are gone;")
    assert second == b"queued-runner: left; job 1 may still be ending: queued-runner wait 1"
    assert service.queue.jobs[1].state is JobState.QUEUED


def test_ctrl_c_while_the_server_is_away_cancels_when_it_is_back(
    service: ServiceThread, start_verb: StartVerb
) -> None:
    client = start_verb("run", "make")
    service.wait_until(lambda: service.queue.followers)
    service.stop()
    client.send_signal(signal.SIGINT)
    assert client.stderr is not None
    while b"job 1 is cancelled as soon as the server is back" not in client.stderr.readline():
        pass
    service.start()
    client.communicate(timeout=PATIENCE)
    assert client.returncode == 130
    assert service.queue.cancels == [(1, None, None)]


def test_a_second_ctrl_c_leaves_while_the_server_is_away(
    service: ServiceThread, start_verb: StartVerb
) -> None:
    client = start_verb("run", "make")
    service.wait_until(lambda: service.queue.followers)
    service.stop()
    client.send_signal(signal.SIGINT)
    assert client.stderr is not None
    while b"as soon as the server is back" not in client.stderr.readline():
        pass
    client.send_signal(signal.SIGINT)
    _, stderr = client.communicate(timeout=PATIENCE)
    assert client.returncode == 130
    assert b"left; job 1 was not cancelled and goes on: queued-runner cancel 1" in stderr


def test_ctrl_c_leaves_where_the_job_cannot_be_cancelled(
    service: ServiceThread, start_verb: StartVerb, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = start_verb("run", "make")
    service.wait_until(lambda: service.queue.followers)
    (service.data_dir / "token").write_text("another\n")
    client.send_signal(signal.SIGINT)
    stdout, stderr = client.communicate(timeout=PATIENCE)
    assert (client.returncode, stdout) == (125, b"")
    (line,) = [line for line in stderr.splitlines() if b"could not be cancelled" in line]
    assert b"did not accept the token" in line
    assert line.endswith(b"it may go on; cancel it later with: queued-runner cancel 1")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_what_would_end_a_command_here_cancels_the_job_once(
    service: ServiceThread, start_verb: StartVerb, number: int
) -> None:
    service.queue.obeys = False
    client = start_verb("run", "make")
    service.wait_until(lambda: service.queue.jobs)
    for _ in range(2):  # `timeout`, a shell and the kernel may all send it
        client.send_signal(number)
        service.wait_until(lambda: service.queue.cancels)
    service.do(service.queue.start, 1)
    service.do(service.queue.finish, 1, None, reason="killed", state=JobState.CANCELLED)
    _, stderr = client.communicate(timeout=PATIENCE)
    assert client.returncode == 130
    assert stderr.count(b"cancelling") == 1
    assert service.queue.cancels == [(1, None, None)]


def test_a_hangup_that_is_ignored_cancels_nothing(
    service: ServiceThread, start_verb: StartVerb
) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as `nohup` does
    try:
        client = start_verb("run", "make")
    finally:
        signal.signal(signal.SIGHUP, before)
    service.wait_until(lambda: service.queue.followers)
    client.send_signal(signal.SIGHUP)
    service.do(service.queue.start, 1)
    service.do(service.queue.finish, 1, 0)
    assert client.wait(PATIENCE) == 0
    assert not service.queue.cancels


def test_a_terminal_that_goes_away_cancels_the_job(
    service: ServiceThread, start_verb: StartVerb
) -> None:
    ours, theirs = pty.openpty()
    client = start_verb("run", "yes", stdout=theirs, stderr=theirs)
    service.wait_until(lambda: service.queue.followers)
    os.close(theirs)
    os.close(ours)
    service.do(service.queue.start, 1)
    service.do(service.queue.write, 1, "stdout", b"y\n")
    assert client.wait(PATIENCE) != 0
    assert service.queue.cancels == [(1, None, None)]


def test_a_reader_that_leaves_cancels_the_job(
    service: ServiceThread, start_verb: StartVerb
) -> None:
    reading, writing = os.pipe()
    client = start_verb("run", "yes", stdout=writing)
    os.close(writing)
    os.close(reading)
    service.wait_until(lambda: service.queue.jobs)
    service.do(service.queue.start, 1)
    service.do(service.queue.write, 1, "stdout", b"y\n")
    _, stderr = client.communicate(timeout=PATIENCE)
    assert (client.returncode, stderr) == (141, b"")
    assert service.queue.cancels == [(1, None, None)]


@pytest.mark.parametrize("verb", [("logs", 1), ("ps",)])
def test_output_that_cannot_be_written_is_told(
    service: ServiceThread, start_verb: StartVerb, verb: tuple[object, ...]
) -> None:
    service.do(service.queue.add, *jobs(1))
    service.do(service.queue.start, 1)
    service.do(service.queue.write, 1, "stdout", b"y\n")
    service.do(service.queue.finish, 1)
    with open("/dev/full", "wb") as full:
        client = start_verb(*verb, stdout=full)
    _, stderr = client.communicate(timeout=PATIENCE)
    assert client.returncode == 74
    sentence = b"queued-runner: the output cannot be written: No space left on device\n"
    assert stderr == sentence


def test_a_reader_of_logs_that_leaves_cancels_nothing(
    service: ServiceThread, start_verb: StartVerb
) -> None:
    service.do(service.queue.add, *jobs(1))
    service.do(service.queue.start, 1)
    service.do(service.queue.write, 1, "stdout", b"y\n")
    reading, writing = os.pipe()
    os.close(reading)
    client = start_verb("logs", "-f", 1, stdout=writing)
    os.close(writing)
    _, stderr = client.communicate(timeout=PATIENCE)
    assert (client.returncode, stderr) == (141, b"")
    assert not service.queue.cancels
