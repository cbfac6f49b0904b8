"""What the author of this package runs: the contract, against what is installed."""

from contextlib import asynccontextmanager

import pytest
from process_group_runner import ProcessGroupRunner

from queued_runner.testing.conformance import JobRunnerConformance


class TestProcessGroupRunner(JobRunnerConformance):
    @pytest.fixture
    def runner_factory(self):
        @asynccontextmanager
        async def opened(host):
            runner = ProcessGroupRunner(slots=2)
            async with runner.open(host):
                yield runner

        return opened
