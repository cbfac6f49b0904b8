"""`LocalRunner` keeps the contract of a plug."""

from contextlib import asynccontextmanager

import pytest

from queued_runner.testing.conformance import JobRunnerConformance
from simple_worker.local import LocalRunner


class TestLocalRunner(JobRunnerConformance):
    @pytest.fixture
    def runner_factory(self):
        @asynccontextmanager
        async def opened(host):
            runner = LocalRunner(slots=2)
            async with runner.open(host):
                yield runner

        return opened
