"""A queue moves from one store to another with the real commands, and its jobs with it."""

import os
import signal

import pytest

from tests.commands import Service, kill


@pytest.fixture
def store(postgres):
    """The address of an empty queue in PostgreSQL."""
    yield postgres.new_queue()
    postgres.drop_queues()


def exported(service, *options):
    done = service.verb("export", *options)
    assert done.returncode == 0, done.stderr
    return done.stdout


ROOM = 32 << 20
"""Bytes that much output may cost."""
FACTS = ("id", "state", "reason", "exit_code", "attempt", "after", "name", "group")
LEAVES = 'mkdir -p "$JOB_SCRATCH/results" && seq {} > "$JOB_SCRATCH/results/numbers"'


def facts_of(service):
    return [{key: job[key] for key in FACTS} for job in service.jobs()]


def is_queued_again(job):
    return (job["state"], job["attempt"]) == ("queued", 1)


def result(service, job_id):
    return service.request(f"/api/v1/jobs/{job_id}/results/numbers")


def test_a_queue_moves_while_a_job_runs(service: Service, store: str, tmp_path) -> None:
    go_on = tmp_path / "go on"
    service.start_server()
    ports = service.facts
    service.start_worker("w1", 3)
    small, _ = service.run("sh", "-c", f"echo small; {LEAVES.format(9)}")
    large, output = service.run("sh", "-c", f"seq 300000; {LEAVES.format(50000)}")
    failed, _ = service.run("false", group="g", name="\N{PARTY POPPER} \\u0000")
    service.run("sh", "-c", 'echo "$S"', env={"S": "a secret of mine"}, mask=["a secret of mine"])
    again = service.submit("false", retries=5, backoff=3000.0)
    stranded = service.submit("true", after=[failed["id"]])
    running = service.submit(
        "sh", "-c", f"seq 100000; while ! [ -e '{go_on}' ]; do sleep 0.05; done; seq 9; echo end"
    )
    waiting = service.submit("echo", "late", after=[running])
    service.submit("true", delay=5000.0)
    service.submit("true", needs={"gpu": "1"}, key="k")
    cancelled = service.submit("true", delay=5000.0)
    service.cancel(cancelled)
    service.wait_for(lambda: is_queued_again(service.job(again)), "the first failure")
    service.wait_for(lambda: service.job(stranded)["state"] == "failed", "the dependency")
    service.wait_for(lambda: len(service.output(running)) == 588895, "its output")
    refused = service.verb("export")
    assert (refused.returncode, refused.stdout) == (125, b"")
    assert b"is in use by the server" in refused.stderr
    before = facts_of(service)
    results = [result(service, job["id"]) for job in (small, large)]
    (server,) = [process for process in service._processes if "remote_runner" in process.args]
    assert kill(server, signal.SIGTERM) == 0

    data = exported(service)
    file = tmp_path / "queue.jsonl"
    done = service.verb("export", "-o", file)
    assert (done.returncode, done.stdout, file.read_bytes()) == (0, b"", data)
    assert file.stat().st_mode & 0o777 == 0o600
    assert b"a secret of mine" in data

    # There, and back again: the same.
    there = ("--data-dir", tmp_path / "there", "--store", store)
    done = service.verb("import", file, *there)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(b"queued-runner: imported 11 jobs into postgresql://")
    assert exported(service, *there) == data
    done = service.verb("import", file, *there)
    assert (done.returncode, b"is not empty" in done.stderr) == (125, True)
    with file.open("rb") as stdin:
        done = service.verb("import", "-", "--data-dir", tmp_path / "back", stdin=stdin)
    assert done.returncode == 0, done.stderr
    assert exported(service, "--data-dir", tmp_path / "back") == data
    done = service.verb("import", "/dev/null", "--data-dir", tmp_path / "torn")
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
    assert b"line 1: " in done.stderr

    # The worker finds its queue at the other store, and the same attempt goes on.
    service.data_dir = tmp_path / "there"
    service.env["DUPLEX_RUNNER_DATA_DIR"] = str(service.data_dir)
    service.start_server("--store", store, "--port", ports["port"])
    assert facts_of(service) == before
    assert [result(service, job["id"]) for job in (small, large)] == results
    assert service.output(large["id"]) == output
    refused = service.verb("export", *there)
    assert (refused.returncode, b"a server runs on the queue" in refused.stderr) == (125, True)
    go_on.touch()
    service.wait_for(lambda: service.job(waiting)["state"] == "succeeded", "who came after it")
    job = service.job(running)
    assert (job["state"], job["attempt"]) == ("succeeded", 1)
    whole = b"".join(b"%d\n" % n for last in (100000, 9) for n in range(1, last + 1)) + b"end\n"
    assert service.output(running) == whole
    assert service.submit("true", needs={"gpu": "1"}, key="k") == 10
    assert service.submit("true") > 11


def test_migrate_says_what_it_did(service: Service, postgres) -> None:
    database = postgres.new_database()
    for options, newest in (((), 8), (("--store", postgres.address(database)), 3)):
        first, second = (service.verb("migrate", *options) for _ in range(2))
        assert (first.returncode, second.returncode) == (0, 0), first.stderr
        assert first.stderr.endswith(b"went from step 0 to step %d\n" % newest)
        assert second.stderr.endswith(b"is at step %d, the newest: nothing to do\n" % newest)
    service.start_server()
    done = service.verb("migrate")
    assert (done.returncode, b"is in use by the server" in done.stderr) == (125, True)


def peak_of(service, *arguments):
    """The most memory that a verb ever had."""
    with open(service.folder / "verbs.log", "ab") as log:
        process = service.start_verb(*arguments, stdout=log, stderr=log)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, service.logs()
    return usage.ru_maxrss * 1024


def test_memory_does_not_grow_with_the_output(service: Service, store: str, tmp_path) -> None:
    peaks = []
    for size in (1, 200_000_000):
        server = service.start_server("--local-slots", 1)
        # Its output is not looked at: a process that is started has once been as large as this one.
        job = service.submit("sh", "-c", f"head -c {size} /dev/zero | tr '\\0' x")
        service.wait_for(lambda job=job: service.job(job)["finished_at"], "the output")
        assert kill(server, signal.SIGTERM) == 0
        file = tmp_path / "queue.jsonl"
        exporting = peak_of(service, "export", "-o", file)
        assert file.stat().st_size > size
        importing = peak_of(service, "import", file, "--data-dir", tmp_path / f"{size}")
        peaks.append((exporting, importing))
    there = ("--data-dir", tmp_path / "there", "--store", store)
    (exporting, importing), large = peaks
    assert large[0] < exporting + ROOM
    assert large[1] < importing + ROOM
    assert peak_of(service, "import", file, *there) < importing + ROOM


def test_stdout_that_takes_no_more_is_said(service: Service) -> None:
    service.verb("migrate")
    with open("/dev/full", "wb") as full:
        done = service.verb("export", stdout=full)
    assert done.returncode == 74
    assert done.stderr == b"queued-runner: the output cannot be written: No space left on device\n"
