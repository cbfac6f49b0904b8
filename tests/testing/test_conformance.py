"""The contract of a plug, against plugs that break it: each is found out, soon, and by name."""

from contextlib import asynccontextmanager

import pytest

from queued_runner.testing.conformance import JobRunnerConformance
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
