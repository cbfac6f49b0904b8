"""`drain` and `resume`: a worker by its id, or by a name that only one has."""

import json
from collections.abc import Sequence

import pytest

from remote_runner.types import WorkerInfo
from tests.cli.conftest import Verb
from tests.cli.service_thread import ServiceThread


@pytest.mark.parametrize("name", ["1", "w1"])
def test_drain_and_resume(service: ServiceThread, verb: Verb, name: str) -> None:
    done = verb("drain", name)
    assert (done.exit_code, done.stdout) == (0, "")
    assert (
        done.stderr == "queued-runner: worker w1 gets no more jobs; what runs there goes on (1)\n"
    )
    assert service.queue.drained == {"1"}
    assert json.loads(verb("drain", name, "--json").stdout)["state"] == "draining"
    done = verb("resume", name)
    assert done.stderr == "queued-runner: worker w1 gets jobs again\n"
    assert service.queue.drained == set()


def test_one_that_is_away_can_be_resumed(service: ServiceThread, verb: Verb) -> None:
    service.queue.drained = {"a/b"}
    done = verb("resume", "name-a/b")
    assert done.stderr == "queued-runner: worker name-a/b gets jobs again; it is not connected\n"
    assert service.queue.drained == set()


@pytest.mark.parametrize("name", ["drain", "resume"])
def test_which_workers_there_are_is_said(service: ServiceThread, verb: Verb, name: str) -> None:
    done = verb(name, "w2")
    assert done.exit_code == 125
    assert done.stderr == ("queued-runner: There is no worker 'w2'; there are: w1 (1, ready).\n")
    service.queue.has_worker = False
    assert "No worker is connected" in verb(name, "w2").stderr


def test_a_name_that_several_have_needs_an_id(
    service: ServiceThread, verb: Verb, monkeypatch: pytest.MonkeyPatch
) -> None:
    def workers() -> Sequence[WorkerInfo]:
        return [
            WorkerInfo(str(number), "same\x1b", "ready", 1, 1, {}, "", "") for number in range(30)
        ]

    monkeypatch.setattr(service.queue, "workers", workers)
    done = verb("drain", "same\x1b")
    assert done.exit_code == 125
    assert "30 workers are called same\\x1b; give an id instead" in done.stderr
    assert "and 10 more" in done.stderr
    assert verb("drain", "3").exit_code == 0


def test_one_that_leaves_cannot_be_resumed(service: ServiceThread, verb: Verb) -> None:
    service.queue.leaves = True
    done = verb("resume", "w1")
    assert done.exit_code == 125
    assert "start it again" in done.stderr
