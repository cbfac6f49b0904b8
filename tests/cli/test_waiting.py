"""`wait`: many jobs in few requests, the right status, and nothing cancelled."""

import json
import signal

import pytest

from queued_runner.cli import progress
from queued_runner.client import waiting
from queued_runner.client.api import PAGE, Client
from queued_runner.client.locate import find_server
from queued_runner.client.waiting import Waiting
from tests.cli.conftest import StartVerb, Verb, jobs
from tests.cli.service_thread import PATIENCE, ServiceThread


def end(service: ServiceThread, *job_ids: int, exit_code: int = 0) -> None:
    for job_id in job_ids:
        service.do(service.queue.start, job_id)
        service.do(service.queue.finish, job_id, exit_code)


def test_one_job_gives_its_own_status(service: ServiceThread, verb: Verb) -> None:
    service.do(service.queue.add, *jobs(2))
    end(service, 1, exit_code=7)
    end(service, 2)
    failed = "queued-runner: job 1 failed (exit 7)\n"
    for selector, status, words in (
        ("1", 7, failed), ("2", 0, ""), ("last", 0, ""), ("1-1", 7, failed),
    ):  # fmt: skip
        done = verb("wait", selector)
        assert (done.exit_code, done.stdout, done.stderr) == (status, "", words)


@pytest.mark.parametrize("selectors", [["1-3"], ["1", "2", "3"], ["--group", "g"], ["3,1", "2-3"]])
def test_several_jobs_give_whether_all_succeeded(
    service: ServiceThread, verb: Verb, selectors: list[str]
) -> None:
    service.do(service.queue.add, *jobs(3, group="g"))

    async def worker(service: ServiceThread) -> None:
        await service.queue.until(lambda: service.queue.waiters)
        for job_id, exit_code in ((2, 0), (1, 4), (3, 0)):
            service.queue.start(job_id)
            service.queue.finish(job_id, exit_code)

    service.play(worker)
    done = verb("wait", *selectors)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "queued-runner: job 1 failed (exit 4)\n"
    assert verb("wait", "2,3").exit_code == 0


def test_several_is_several_also_when_there_is_one(service: ServiceThread, verb: Verb) -> None:
    service.do(service.queue.add, *jobs(1, group="g"))
    end(service, 1, exit_code=7)
    assert verb("wait", "--group", "g").exit_code == 1
    assert verb("wait", "all").exit_code == 0  # no job that has not ended


def test_ids_win_over_a_group_of_the_environment(
    service: ServiceThread, verb: Verb, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.do(service.queue.add, *jobs(1, group="g"), *jobs(1))
    end(service, 1, exit_code=7)
    monkeypatch.setenv("DUPLEX_RUNNER_GROUP", "g")
    assert verb("wait", "1").exit_code == 7
    assert verb("wait").exit_code == 1
    assert verb("cancel", "2").exit_code == 0
    assert [job_id for job_id, _, _ in service.queue.cancels] == [2]


def test_a_pipe_gets_a_line_now_and_then(
    service: ServiceThread, verb: Verb, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "FIRST_LINE", 0.0)
    service.do(service.queue.add, *jobs(3))
    end(service, 1, exit_code=3)
    service.do(service.queue.start, 2)

    async def worker(service: ServiceThread) -> None:
        await service.queue.until(lambda: service.queue.waiters)
        service.queue.finish(2)
        service.queue.start(3)
        service.queue.finish(3)

    service.play(worker)
    lines = verb("wait", "1-3").stderr.splitlines()
    assert lines[0] == "queued-runner: 0 of 3 jobs have ended"
    assert lines[1].startswith("queued-runner: 1 of 3 jobs have ended · 1 running, 1 failed · ")
    assert lines[1].endswith(" left")
    assert lines[2:] == ["queued-runner: job 1 failed (exit 3)"]


def test_many_failures_are_not_all_named(service: ServiceThread, verb: Verb) -> None:
    service.do(service.queue.add, *jobs(25, group="g"))
    end(service, *range(1, 26), exit_code=1)
    lines = verb("wait", "--group", "g").stderr.splitlines()
    assert len(lines) == 21
    assert lines[-1].endswith("and 5 more did not succeed")


def test_a_group_that_does_not_exist(service: ServiceThread, verb: Verb) -> None:
    done = verb("wait", "--group", "nope")
    assert done.exit_code == 125
    assert "no job in the group 'nope'" in done.stderr


def test_an_id_that_nobody_has_is_told_before_any_wait(service: ServiceThread, verb: Verb) -> None:
    service.do(service.queue.add, *jobs(1))
    done = verb("wait", "1", "9")
    assert done.exit_code == 125
    assert "no job 9" in done.stderr
    assert not service.queue.waiters


def test_the_order_of_the_answer_is_that_of_the_question(
    service: ServiceThread, verb: Verb
) -> None:
    service.do(service.queue.add, *jobs(4, group="g"))
    end(service, 3, 1, 4, 2)
    assert [job["id"] for job in json.loads(verb("wait", "4,1-2", "--json").stdout)] == [4, 1, 2]
    done = verb("wait", "-g", "g", "--json")
    assert [job["id"] for job in json.loads(done.stdout)] == [1, 2, 3, 4]


class CountingClient(Client):
    """Counts what it asks."""

    asked = 0

    def respond(self, *arguments, **options):
        self.asked += 1
        return super().respond(*arguments, **options)


@pytest.mark.parametrize("group", [None, "g"])
def test_thousands_of_jobs_take_few_requests(service: ServiceThread, group: str | None) -> None:
    count = 3 * PAGE
    service.do(service.queue.add, *jobs(count, group="g"))
    end(service, *range(1, count + 1))
    with CountingClient(find_server()) as client:
        (ended,) = Waiting(client, range(1, count + 1), group=group).rounds()
        assert sorted(job["id"] for job in ended) == list(range(1, count + 1))
        assert client.asked <= 1 + 3


def test_jobs_that_have_not_begun_are_not_looked_at_again_and_again(service: ServiceThread) -> None:
    service.do(service.queue.add, *jobs(5 * PAGE))
    end(service, *range(1, 11))
    service.do(service.queue.start, 11)
    with CountingClient(find_server()) as client:
        watched = Waiting(client, range(1, 5 * PAGE + 1))
        assert len(next(watched.rounds())) == 10
        assert (watched.left, watched.running) == (5 * PAGE - 10, 1)
        assert client.asked <= 1 + 3


def test_what_is_quicker_than_those_before_it_is_found_in_its_turn(
    service: ServiceThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "FIRST_PAUSE", 0.01)
    service.do(service.queue.add, *jobs(4 * PAGE))
    end(service, 4 * PAGE - 5)
    with Client(find_server()) as client:
        rounds = Waiting(client, range(1, 4 * PAGE)).rounds()
        found = [job["id"] for _ in range(3) for job in next(rounds)]
        assert found == [4 * PAGE - 5]


def test_ends_are_told_while_the_oldest_job_still_runs(service: ServiceThread) -> None:
    service.do(service.queue.add, *jobs(3))
    end(service, 3, 2)
    with Client(find_server()) as client:
        rounds = Waiting(client, [1, 2, 3]).rounds()
        assert {job["id"] for job in next(rounds)} == {2, 3}
        end(service, 1)
        assert [job["id"] for ended in rounds for job in ended] == [1]


def test_a_job_that_is_gone_is_told(service: ServiceThread, verb: Verb) -> None:
    service.do(service.queue.add, *jobs(30))
    service.do(service.queue.jobs.pop, 7)
    for selector in ("1-30", "7-9"):
        done = verb("wait", selector)
        assert done.exit_code == 125
        assert "There is no job 7;" in done.stderr


def test_a_restart_is_waited_for(service: ServiceThread, verb: Verb) -> None:
    service.do(service.queue.add, *jobs(1))

    async def restart(service: ServiceThread) -> None:
        await service.queue.until(lambda: service.queue.waiters)
        await service.restart()
        service.queue.start(1)
        service.queue.finish(1, 3)

    service.play(restart)
    assert verb("wait", 1).exit_code == 3


@pytest.mark.parametrize("selectors", [["1"], ["1-2"], ["--group", "g"]])
def test_ctrl_c_leaves_the_jobs_alone(
    service: ServiceThread, start_verb: StartVerb, selectors: list[str]
) -> None:
    service.do(service.queue.add, *jobs(2, group="g"))
    client = start_verb("wait", *selectors)
    service.wait_until(lambda: service.queue.waiters)
    client.send_signal(signal.SIGINT)
    stdout, stderr = client.communicate(timeout=PATIENCE)
    assert (client.returncode, stdout, stderr) == (130, b"", b"")
    assert not service.queue.cancels
