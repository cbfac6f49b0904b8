"""A scripted worker over in-memory streams, under a virtual clock: it says what a test tells it."""

from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from trio.testing import memory_stream_pair

from queued_runner.testing import recorder as testing
from queued_runner.testing.peer import ScriptedPeer
from remote_runner.emitter import DuplexEmitter
from remote_runner.protocol.connection import Connection
from remote_runner.protocol.messages import AHEAD, Attempts, Hello, Ready, Welcome
from remote_runner.protocol.states import Role
from remote_runner.runner import RemoteRunner
from remote_runner.server import ServerSettings


class Bench:
    """A runner without listeners, and ways to connect workers to it."""

    def __init__(self, runner, nursery):
        self.runner = runner
        self.nursery = nursery

    def dial(self, pair=memory_stream_pair):
        ours, theirs = pair()
        self.nursery.start_soon(self.runner.handle_stream, theirs)
        return ours

    @asynccontextmanager
    async def connect(self, pair=memory_stream_pair):
        async with DuplexEmitter(self.dial(pair), Connection(Role.WORKER)) as emitter:
            yield ScriptedPeer(emitter)

    @asynccontextmanager
    async def worker(
        self, worker_id="w-1", boot="b-1", slots=2, labels=None, holds=(), token=None,
        pair=memory_stream_pair, features=(AHEAD,),
    ):  # fmt: skip
        async with self.connect(pair) as worker:
            await worker.say(
                Hello((1, 1), worker_id, boot, worker_id, slots, labels or {}, "0", token, features)
            )
            await worker.hear(Welcome)
            if holds:
                await worker.say(Attempts(tuple(holds)))
            await worker.say(Ready(slots - len(holds)))
            await trio.testing.wait_all_tasks_blocked()
            yield worker


@pytest.fixture
def settings():
    return ServerSettings()


@pytest.fixture
async def bench(autojump_clock, settings):
    runner = RemoteRunner(port=None, settings=settings)
    async with runner.open(), trio.open_nursery() as nursery:
        yield Bench(runner, nursery)
        nursery.cancel_scope.cancel()


Recorder = partial(testing.Recorder, acks=False)
"""An observer that keeps what it is told; what is acknowledged, and when, the tests say."""


async def settle():
    await trio.testing.wait_all_tasks_blocked()
