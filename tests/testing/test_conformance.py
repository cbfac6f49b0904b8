"""The contract of a plug, against plugs that break it: each is found out, soon, and by name."""

import time
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from queued_runner.testing import conformance
from queued_runner.testing.conformance import JobRunnerConformance
from queued_runner.testing.marked import Marked
from remote_runner.types import CAN_MASK
from tests.thirdparty import process_group_runner
from tests.thirdparty.process_group_runner import ProcessGroupRunner


def factory_of(make):
    """What the fixture `runner_factory` gives, for a plug that this makes."""

    @asynccontextmanager
    async def opened(host):
        runner = make()
        async with runner.open(host):
            yield runner

    return opened


async def test_output_without_a_bound_is_found(monkeypatch):
    monkeypatch.setattr(process_group_runner, "WINDOW", 10**12)
    suite = JobRunnerConformance()
    with pytest.RaisesGroup(
        pytest.RaisesExc(AssertionError, match="unacknowledged"), flatten_subgroups=True
    ):
        await suite.test_output_that_nobody_acknowledges_makes_the_command_wait(
            factory_of(ProcessGroupRunner)
        )


class Forgetful(ProcessGroupRunner):
    """Ends nothing but the main process, and waits for that without being cancelled."""

    def start(self, *args):
        run = super().start(*args)
        run._signal = lambda process, number: None
        return run


class Impatient(JobRunnerConformance):
    patience = 0.5


@pytest.fixture
def marks(monkeypatch):
    """Every mark that the contract gives to commands."""
    marks = []

    class Kept(Marked):
        def __init__(self):
            super().__init__()
            marks.append(self)

    monkeypatch.setattr(conformance, "Marked", Kept)
    monkeypatch.setattr(conformance, "DYING", 0.2)
    return marks


@pytest.mark.parametrize("test", ["leaving_does_not_wait_for_runs", "it_can_be_cancelled"])
async def test_a_plug_that_hangs_is_cut_and_nothing_stays(marks, test):
    began = time.monotonic()
    with pytest.raises(AssertionError, match=r"not over after 0.5 s; processes left: \{\d+"):
        await getattr(Impatient(), f"test_{test}")(factory_of(Forgetful))
    assert time.monotonic() - began < 10
    [mark] = marks
    assert mark.pids() == []


async def test_what_a_plug_leaves_behind_is_found_and_ended(marks):
    with pytest.RaisesGroup(
        pytest.RaisesExc(AssertionError, match="of a run that has ended"), flatten_subgroups=True
    ):
        await Impatient().test_what_a_command_leaves_behind_ends_with_it(factory_of(Forgetful))
    [mark] = marks
    assert len(mark.ended) == 1
    assert mark.pids() == []


class Boastful(ProcessGroupRunner):
    """Says that it hides secrets, and does not."""

    def offers(self, limit):
        return [replace(offer, labels={CAN_MASK: ""}) for offer in super().offers(limit)]

    def workers(self):
        return [replace(info, can_mask=True) for info in super().workers()]


class Deaf(ProcessGroupRunner):
    """Goes on with new work when it is told to drain."""

    def drain(self, worker_id):
        pass


@pytest.mark.parametrize(
    ("plug", "test", "words"),
    [
        (Boastful, "who_offers_to_hide_secrets_does", "a secret shows"),
        (Deaf, "a_drained_worker_gets_nothing_new", "a drained worker offers nothing"),
    ],
)
async def test_a_broken_promise_is_named(plug, test, words):
    with pytest.RaisesGroup(pytest.RaisesExc(AssertionError, match=words), flatten_subgroups=True):
        await getattr(JobRunnerConformance(), f"test_{test}")(factory_of(plug))


async def test_a_plug_may_wait_as_soon_as_it_is_allowed_to(monkeypatch):
    monkeypatch.setattr(process_group_runner, "WINDOW", 65535)
    suite = Impatient()
    suite.patience = 3.0
    await suite.test_output_that_nobody_acknowledges_makes_the_command_wait(
        factory_of(ProcessGroupRunner)
    )
