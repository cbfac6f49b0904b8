"""`events`: what the server tells, as lines of JSON, also through a restart of it."""

import json

from queued_runner.events import Events
from queued_runner.jobs import JobSpec
from tests.cli.conftest import StartVerb, Verb
from tests.cli.service_thread import PATIENCE, ServiceThread


def lines(text: str | bytes) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_what_there_is(service: ServiceThread, verb: Verb) -> None:
    assert (verb("events").exit_code, verb("events").stdout) == (0, "")
    for job_id in (1, 2):
        service.do(service.queue.events.tell_new, job_id, "n", "g" if job_id == 1 else None)
    found = lines(verb("events").stdout)
    assert [(item["id"], item["event"], item["job"]) for item in found] == [
        ("b-1", "job.new", 1), ("b-2", "job.new", 2),
    ]  # fmt: skip
    assert [item["job"] for item in lines(verb("events", "--group", "g").stdout)] == [1]
    assert [item["job"] for item in lines(verb("events", "--job", 2).stdout)] == [2]
    service.do(service.queue.add, JobSpec(command="true"))
    assert [item["job"] for item in lines(verb("events", "-j", "last").stdout)] == [1]


def test_following_goes_on_after_a_restart(service: ServiceThread, start_verb: StartVerb) -> None:
    tell = service.queue.events.tell_new
    service.do(tell, 1, None, None)
    process = start_verb("events", "-f")
    assert process.stdout is not None
    assert lines(process.stdout.readline())[0]["id"] == "b-1"
    service.stop()
    service.do(tell, 2, None, None)
    service.start()
    assert lines(process.stdout.readline())[0]["id"] == "b-2"
    service.do(tell, 3, None, None)
    assert lines(process.stdout.readline())[0]["id"] == "b-3"
    process.terminate()
    _, stderr = process.communicate(timeout=PATIENCE)
    assert stderr.splitlines() == [
        b"queued-runner: the server is away; going on when it is back"
        b" (giving up after 120 seconds)",
        b"queued-runner: the server is back",
    ]


def test_another_life_of_the_server_begins_with_a_gap(
    service: ServiceThread, start_verb: StartVerb
) -> None:
    service.do(service.queue.events.tell_new, 1, None, None)
    process = start_verb("events", "-f")
    assert process.stdout is not None
    process.stdout.readline()
    service.stop()
    service.do(setattr, service.queue, "events", Events("c", lambda: 0.0))
    service.do(service.queue.events.tell_new, 2, None, None)
    service.start()
    gap, new = (lines(process.stdout.readline())[0] for _ in range(2))
    assert (gap["event"], gap["missed"], gap["id"]) == ("gap", None, "c-0")
    assert (new["event"], new["id"]) == ("job.new", "c-1")


def test_a_reader_that_leaves_ends_it(service: ServiceThread, start_verb: StartVerb) -> None:
    process = start_verb("events", "-f")
    assert process.stdout is not None
    process.stdout.close()
    service.wait_until(lambda: True)
    service.do(service.queue.events.tell_new, 1, None, None)
    assert process.wait(PATIENCE) == 141


def test_no_server(data_dir: object, verb: Verb) -> None:
    done = verb("events", "-f")
    assert done.exit_code == 125
    assert "server" in done.stderr
