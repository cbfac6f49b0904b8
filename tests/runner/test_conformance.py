"""`RemoteRunner`, with a real worker at the other end of a stream, keeps the contract of a plug."""

from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import memory_stream_pair

from queued_runner.testing.conformance import JobRunnerConformance
from remote_runner.runner import RemoteRunner
from simple_worker.machine import opened_machine
from simple_worker.session import Identity
from simple_worker.worker import Server, Worker


class TestRemoteRunner(JobRunnerConformance):
    runs_go_on = True

    @pytest.fixture
    def runner_factory(self, tmp_path):
        @asynccontextmanager
        async def opened(host):
            runner = RemoteRunner(port=None)

            async def dial():
                ours, theirs = memory_stream_pair()
                nursery.start_soon(runner.handle_stream, theirs)
                return ours

            async with opened_machine(tmp_path) as machine, trio.open_nursery() as nursery:
                worker = Worker(
                    Identity("w-1", "b-1", "name", 2), [Server(dial)], machine,
                    rng=lambda: 0.5, now=lambda: 0.0, say=lambda line: None,
                )  # fmt: skip
                nursery.start_soon(worker.run)
                async with runner.open(host):
                    yield runner
                nursery.cancel_scope.cancel()

        return opened
