"""A worker stands still (SIGSTOP, a hang): its jobs end before others take their place."""

import os
import signal
import sys

from tests.commands import is_alive, kill

TIMERS = ("--detach", "2s", "--heartbeat", "500ms")
WITNESS = """
import os, sys, time
witness = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
while os.environ["JOB_ATTEMPT"] == "1" or not os.path.exists(sys.argv[2]):
    line = f"{os.environ['JOB_ATTEMPT']} {time.monotonic()} {os.getpid()}\\n"
    os.write(witness, line.encode())
    time.sleep(0.01)
"""


def lines_of(witness, attempt):
    """When an attempt wrote a line, and its process."""
    lines = [line.split() for line in witness.read_text().splitlines()]
    return [(float(when), int(pid)) for number, when, pid in lines if number == str(attempt)]


def test_two_attempts_never_overlap_though_a_worker_stands_still(service, tmp_path):
    witness, go = tmp_path / "witness", tmp_path / "go"
    witness.touch()
    service.start_server(*TIMERS)
    first = service.start_worker("w1")
    job = service.submit(sys.executable, "-c", WITNESS, str(witness), str(go))
    service.wait_for(lambda: lines_of(witness, 1), "the first attempt")
    second = service.start_worker("w2")
    first.send_signal(signal.SIGSTOP)
    try:
        service.wait_for(lambda: lines_of(witness, 2), "the second attempt")
        assert not is_alive(lines_of(witness, 1)[0][1])
    finally:
        first.send_signal(signal.SIGCONT)
    service.wait_for(
        lambda: "stood still for too long: " in service.logs(), "the worker to wake up"
    )
    go.touch()
    service.wait_for(lambda: service.job(job)["state"] == "succeeded", "the end")
    assert lines_of(witness, 1)[-1][0] < lines_of(witness, 2)[0][0]
    assert [attempt["reason"] for attempt in service.json("show", job)["attempts"]] == [
        "worker-lost",
        "exit",
    ]
    kill(second)
    ended, output = service.run("sh", "-c", "echo $JOB_WORKER")
    assert (ended["state"], output) == ("succeeded", b"w1\n")


def test_an_attempt_that_the_reaper_has_ended_is_abandoned_and_tried_again(service, tmp_path):
    witness, go = tmp_path / "witness", tmp_path / "go"
    witness.touch()
    go.touch()
    service.start_server("--detach", "2s", "--heartbeat", "600ms")
    worker = service.start_worker("w1")
    job = service.submit(sys.executable, "-c", WITNESS, str(witness), str(go))
    service.wait_for(lambda: lines_of(witness, 1), "the first attempt")
    [pid] = {pid for _, pid in lines_of(witness, 1)}
    worker.send_signal(signal.SIGSTOP)
    try:
        service.wait_for(lambda: not is_alive(pid), "the reaper")
        assert os.path.exists(f"/proc/{pid}"), "nobody but its worker can see its end"
    finally:
        worker.send_signal(signal.SIGCONT)
    service.wait_for(lambda: service.job(job)["state"] == "succeeded", "the second attempt")
    assert [attempt["reason"] for attempt in service.json("show", job)["attempts"]] == [
        "abandoned",
        "exit",
    ]


def test_what_came_while_a_worker_stood_still_is_not_begun_beside_its_next_attempt(
    service, tmp_path
):
    """The server dies meanwhile. The worker finds the spawn before the end of its connection."""
    witness, go = tmp_path / "witness", tmp_path / "go"
    witness.touch()
    server = service.start_server()
    first = service.start_worker("w1")
    service.wait_for(lambda: service.json("workers"), "the worker")
    first.send_signal(signal.SIGSTOP)
    try:
        job = service.submit(sys.executable, "-c", WITNESS, str(witness), str(go), detach=2)
        service.wait_for(lambda: service.job(job)["state"] == "running", "the spawn")
        kill(server)
        service.start_server()
        service.start_worker("w2")
        service.wait_for(lambda: lines_of(witness, 2), "the second attempt")
    finally:
        first.send_signal(signal.SIGCONT)
    service.wait_for(lambda: "next try in" in service.logs(), "the worker to wake up")
    go.touch()
    service.wait_for(lambda: service.job(job)["state"] == "succeeded", "the end")
    assert lines_of(witness, 1) == []
