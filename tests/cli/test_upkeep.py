"""`--after`, `retry`, `explain` and `prune`: what they ask of the server, and what they print."""

import json
from dataclasses import replace

import pytest

from queued_runner.jobs import JobSpec, JobState
from tests.cli.conftest import Verb, jobs
from tests.cli.service_thread import ServiceThread


def end(service: ServiceThread, job_id: int, exit_code: int) -> None:
    service.do(service.queue.start, job_id)
    service.do(service.queue.finish, job_id, exit_code)


@pytest.mark.parametrize("name", ["submit", "run"])
@pytest.mark.parametrize(
    ("options", "after"),
    [
        (["--after", "1"], (1,)),
        (["--after", "1,2-3", "--after", "build it"], (1, 2, 3, "build it")),
        (["--after", "last"], (4,)),
        (["--after", "all"], (2, 3, 4)),
    ],
)
def test_a_job_comes_after_what_is_named(
    service: ServiceThread, verb: Verb, name: str, options: list[str], after: tuple[int | str, ...]
) -> None:
    service.do(service.queue.add, *jobs(3), JobSpec(command="x", key="build it"))
    end(service, 1, 0)

    async def worker(service: ServiceThread) -> None:
        await service.queue.until(lambda: 5 in service.queue.jobs)
        service.queue.start(5)
        service.queue.finish(5)

    service.play(worker)
    assert verb(name, *options, "true").exit_code == 0
    assert service.queue.jobs[5].spec.after == after


def test_a_job_that_comes_after_none_is_refused(service: ServiceThread, verb: Verb) -> None:
    done = verb("submit", "--after", 9, "true")
    assert (done.exit_code, done.stdout) == (125, "")
    assert "after[0]: there is no job 9" in done.stderr


def test_what_a_job_comes_after_is_shown(service: ServiceThread, verb: Verb) -> None:
    service.do(service.queue.add, *jobs(2), JobSpec(command="x", after=(1, 2)))
    assert "\n  after    1 2\n" in verb("show", 3).stdout
    assert "after" not in verb("show", 1).stdout
    assert json.loads(verb("ps", "--json").stdout)[0]["after"] == [1, 2]


class TestRetry:
    def test_what_has_ended_is_queued_again(self, service: ServiceThread, verb: Verb) -> None:
        service.do(service.queue.add, *jobs(4))
        end(service, 1, 0)
        end(service, 2, 3)
        done = verb("retry", "1-2", "3", "9")
        assert (done.exit_code, done.stdout) == (125, "")
        assert done.stderr.splitlines() == [
            "queued-runner: There is no job 9; 'queued-runner ps' lists what there is.",
            "queued-runner: Job 3 is queued and has not ended; wait for its end, or cancel it"
            " first.",
        ]
        assert service.queue.retries == [1, 2]

    def test_of_a_group_those_that_did_not_succeed(
        self, service: ServiceThread, verb: Verb
    ) -> None:
        service.do(service.queue.add, *jobs(5, group="g"), *jobs(1))
        for job_id, exit_code in ((1, 0), (2, 3), (4, 1), (6, 1)):
            end(service, job_id, exit_code)
        service.do(service.queue.finish, 3, None, state=JobState.CANCELLED)
        first = verb("retry", "--group", "g", "--failed", "--json")
        assert [job["id"] for job in json.loads(first.stdout)] == [2, 4]
        assert verb("retry", "-g", "g").exit_code == 0
        assert service.queue.retries == [2, 4, 3]
        done = verb("retry", "-g", "g")
        assert (done.exit_code, "no job to retry in the group 'g'" in done.stderr) == (0, True)

    def test_only_the_failed_of_those_named(self, service: ServiceThread, verb: Verb) -> None:
        service.do(service.queue.add, *jobs(3))
        end(service, 1, 0)
        end(service, 2, 3)
        assert verb("retry", "1-3", "--failed").exit_code == 0
        assert service.queue.retries == [2]
        end(service, 2, 3)
        assert verb("retry", "all").exit_code == 0
        assert service.queue.retries == [2, 2]

    def test_those_before_others_that_come_after_them(
        self, service: ServiceThread, verb: Verb
    ) -> None:
        service.do(service.queue.add, *jobs(1, group="g"))
        service.do(service.queue.add, JobSpec(command="x", group="g", after=(1,)))
        service.do(service.queue.add, *jobs(2, group="g"))
        for job_id in range(1, 5):
            end(service, job_id, 1)
        # A list may name what stands behind in it.
        service.queue.jobs[1] = replace(service.queue.jobs[1], after=(4,))
        verb("retry", "-g", "g")
        assert service.queue.retries == [3, 4, 1, 2]

    def test_what_fails_again_at_once_is_told(
        self, service: ServiceThread, verb: Verb, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        service.do(service.queue.add, *jobs(1))
        end(service, 1, 1)

        async def stays_failed(job_id: int) -> object:
            return service.queue.jobs[job_id]

        monkeypatch.setattr(service.queue, "retry", stays_failed)
        done = verb("retry", 1)
        assert (done.exit_code, "job 1 failed again" in done.stderr) == (0, True)


def test_explain_says_it_in_a_sentence_and_by_worker(service: ServiceThread, verb: Verb) -> None:
    service.do(service.queue.add, JobSpec(command="x", needs={"gpu": "2"}))
    service.do(service.queue.add, *jobs(1))
    assert verb("explain", 1).stdout.splitlines() == [
        "job 1: no connected worker has the labels gpu=2",
        "  w1: it has gpu=1 and not gpu=2",
    ]
    assert verb("explain", "last").stdout.splitlines()[0] == "job 2: it is about to start"
    assert json.loads(verb("explain", 1, "--json").stdout)["workers"][0]["fits"] is False
    end(service, 2, 3)
    assert verb("explain", 2).stdout == "job 2: it failed: its process exited with 3\n"
    done = verb("explain", 9)
    assert (done.exit_code, "There is no job 9" in done.stderr) == (125, True)


def test_prune_goes_on_until_all_is_deleted(service: ServiceThread, verb: Verb) -> None:
    service.do(service.queue.add, *jobs(8))
    for job_id in range(1, 7):
        end(service, job_id, int(job_id == 6))
    done = verb("prune", "--older-than", "1h", "--keep-failed")
    assert (done.stdout, done.stderr) == ("", "queued-runner: deleted 5 jobs\n")
    assert set(service.queue.jobs) == {6, 7, 8}
    assert service.queue.prunes == [(3600.0, True)] * 4
    assert json.loads(verb("prune", "--older-than", "0", "--json").stdout) == {"deleted": 1}
