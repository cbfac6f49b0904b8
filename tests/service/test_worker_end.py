"""A worker is killed or stopped: its process trees are gone, its jobs end well all the same."""

import fcntl
import os
import signal
import sys
from pathlib import Path

import pytest

from simple_worker.tree import look_at
from tests.commands import PATIENCE, is_alive, kill


def test_the_reaper_ends_every_tree_when_the_worker_is_killed(service, tmp_path):
    file = tmp_path / "pids"
    service.start_server()
    worker = service.start_worker()
    service.submit("sh", "-c", f"setsid sleep 1000 & echo $! $$ > {file}; sleep 1000")
    pids = service.read_pids(file, 2)
    kill(worker)
    service.wait_for(lambda: not any(is_alive(pid) for pid in pids), "the reaper", 2)


def reaper_of(worker):
    """The number of its reaper, which is a child of the worker as its jobs are."""
    children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
    (reaper,) = [
        int(pid)
        for pid in children
        if b"simple_worker.reaper" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    return reaper


def test_a_worker_that_was_killed_with_its_reaper_ends_what_they_left(service, tmp_path):
    """Before it takes a job, so that the next attempt of none meets the last one."""
    file = tmp_path / "pids"
    service.start_server()
    worker = service.start_worker()
    first = f"(env -i setsid sleep 1000 >/dev/null 2>&1 & echo $! $$ > {file}); sleep 1000"
    second = f"for pid in $(cat {file}); do ! grep 'State:.[RST]' /proc/$pid/status || exit 1; done"
    job = service.submit("sh", "-c", f"if [ $JOB_ATTEMPT = 1 ]; then {first}; else {second}; fi")
    pids = service.read_pids(file, 2)
    for number in (signal.SIGSTOP, signal.SIGKILL):  # neither sees the other die
        for pid in (reaper_of(worker), worker.pid):
            os.kill(pid, number)
    worker.wait(PATIENCE)
    assert all(is_alive(pid) for pid in pids)
    assert list(service.temporary.iterdir())
    worker = service.start_worker()
    assert service.verb("wait", job).returncode == 0
    assert "last life have left running" in service.logs()
    assert kill(worker, signal.SIGTERM) == 0
    assert list(service.temporary.iterdir()) == []
    left = sorted(path.name for path in (service.folder / "w1").iterdir())
    assert left == ["name", "worker-id"]


CHAIN = """
import fcntl, os, sys, time
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
while True:
    if os.fork():
        os._exit(0)
    os.setsid()
    time.sleep(0.001)
"""
"""Each process has one child, and ends before anybody has looked at all processes."""


def is_locked(file):
    """Whether any process of the chain is alive: they share the lock."""
    with file.open("w") as own:
        try:
            fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@pytest.mark.parametrize("which", ["the worker", "its job"])
def test_a_chain_of_short_lives_ends(service, tmp_path, which):
    file = tmp_path / "file"
    service.start_server()
    worker = service.start_worker()
    job = service.submit(sys.executable, "-c", CHAIN, str(file))
    service.wait_for(lambda: file.exists() and is_locked(file), "the chain")
    if which == "the worker":
        kill(worker)
    else:
        service.verb("cancel", job)
    service.wait_for(lambda: not is_locked(file), "its end")


def test_the_reaper_ends_what_jobs_have_orphaned_and_nothing_marks(service, tmp_path):
    file = tmp_path / "pids"
    service.start_server()
    worker = service.start_worker()
    daemon = f"setsid sleep 1000 & echo $! $$ >> {file}; wait"
    script = f'(env -i setsid sh -c "$0" >/dev/null 2>&1 &); echo $$ >> {file}; sleep 1000'
    service.submit("sh", "-c", script, daemon)
    pids = service.read_pids(file, 3)
    service.run("true")  # at the end of a job its worker looks for orphans
    kill(worker)
    service.wait_for(lambda: not any(is_alive(pid) for pid in pids), "the reaper", 2)


def test_orphans_are_looked_for_each_second_too(service, tmp_path):
    file, go = tmp_path / "pids", tmp_path / "go"
    service.start_server()
    worker = service.start_worker()
    script = (
        f"(env -i setsid sleep 1000 >/dev/null 2>&1 & echo $! >> {file});"
        f"(sh -c 'while [ ! -e {go} ]; do sleep 0.02; done' & echo $! >> {file});"
        f"echo $$ >> {file}; sleep 1000"
    )
    service.submit("sh", "-c", script)
    pids = service.read_pids(file, 3)
    service.wait_for(lambda: {look_at(pid).parent for pid in pids} == {worker.pid}, "the orphans")
    go.touch()  # one ends, and its worker comes round to bury it: it meets the other then
    service.wait_for(lambda: not os.path.exists(f"/proc/{pids[1]}"), "the burial")
    kill(worker)
    service.wait_for(lambda: not any(is_alive(pid) for pid in pids), "the reaper", 2)


def test_what_a_job_has_left_ends_with_it_whatever_it_has_shed_and_whoever_runs(service, tmp_path):
    file = tmp_path / "pids"
    service.start_server()
    service.start_worker()
    other = service.submit("sh", "-c", "echo here; sleep 1000")
    service.wait_for(lambda: service.output(other), "the other job")
    daemon = "env -i setsid sh -c 'env -i setsid sleep 1000 & echo $! $$ >> $0; wait' $0"
    service.run(
        "sh", "-c", f"({daemon} >/dev/null 2>&1 &); while ! [ -s $0 ]; do :; done", str(file)
    )
    assert not any(is_alive(pid) for pid in service.read_pids(file, 2))
    assert service.job(other)["state"] == "running"


@pytest.mark.parametrize(
    ("options", "successor"),
    [
        pytest.param([], "w1", id="it-comes-back"),
        pytest.param(["--detach", "2s", "--heartbeat", "500ms"], "w2", id="it-stays-away"),
    ],
)
def test_the_job_of_a_killed_worker_is_tried_again(service, tmp_path, options, successor):
    file = tmp_path / "pids"
    service.start_server(*options)
    worker = service.start_worker("w1")
    script = (
        f"echo $JOB_ATTEMPT $JOB_WORKER; [ $JOB_ATTEMPT = 2 ] && exit;"
        f" setsid sleep 1000 & echo $! $$ > {file}; sleep 1000"
    )
    job = service.submit("sh", "-c", script)
    pids = service.read_pids(file, 2)
    kill(worker)
    service.start_worker(successor)
    assert service.verb("wait", job).returncode == 0
    assert not any(is_alive(pid) for pid in pids)
    assert service.json("show", job)["attempt"] == 2
    assert service.verb("logs", job).stdout.decode() == f"2 {successor}\n"


def test_a_worker_drains_on_sigterm(service, tmp_path):
    go = tmp_path / "go"
    service.start_server()
    worker = service.start_worker()
    job = service.submit("sh", "-c", f"echo; while [ ! -e {go} ]; do sleep 0.05; done; exit 4")
    service.wait_for(lambda: service.output(job) == b"\n", "the job")
    worker.send_signal(signal.SIGTERM)
    service.wait_for(
        lambda: service.json("workers")[0]["state"] == "draining", "the worker to drain"
    )
    go.touch()
    assert worker.wait(20) == 0
    assert service.job(job)["exit_code"] == 4


@pytest.mark.parametrize(("on_lost", "state"), [("retry", "queued"), ("fail", "failed")])
def test_a_second_sigterm_gives_the_jobs_back_at_once(service, on_lost, state):
    service.start_server()
    worker = service.start_worker()
    job = service.submit("sh", "-c", "trap '' TERM; echo here; sleep 1000 & wait", on_lost=on_lost)
    service.wait_for(lambda: service.output(job) == b"here\n", "the job")
    worker.send_signal(signal.SIGTERM)
    service.wait_for(lambda: "waiting for 1 running job\n" in service.logs(), "the drain")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE) == 0
    # No wait here: the worker has left when the server has written what became of its jobs.
    assert service.job(job)["state"] == state


def test_a_second_sigterm_without_a_server_ends_the_worker_all_the_same(service, tmp_path):
    file = tmp_path / "pids"
    server = service.start_server()
    worker = service.start_worker()
    service.submit("sh", "-c", f"trap '' TERM; echo $$ > {file}; while :; do sleep 1; done")
    pids = service.read_pids(file, 1)
    kill(server)
    worker.send_signal(signal.SIGTERM)
    service.wait_for(lambda: "waiting for 1 running job\n" in service.logs(), "the drain")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE) == 0
    assert not any(is_alive(pid) for pid in pids)
