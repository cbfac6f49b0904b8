"""A scripted worker over in-memory streams, under a virtual clock: it says what a test tells it."""

from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import memory_stream_pair

from remote_runner.emitter import DuplexEmitter
from remote_runner.protocol.connection import Connection
from remote_runner.protocol.messages import Attempts, Hello, Ready, Welcome
from remote_runner.protocol.states import Role
from remote_runner.runner import RemoteRunner
from remote_runner.server import ServerSettings


class ScriptedWorker:
    """One end of a connection, with what it heard so far."""

    def __init__(self, emitter):
        self.emitter = emitter
        self._heard = []

    async def hear(self, kind):
        """The next message of this kind; others before it are dropped."""
        while True:
            while self._heard:
                message = self._heard.pop(0)
                if isinstance(message, kind):
                    return message
            batch = await self.emitter.receive_batch()
            assert batch, f"the connection ended before a {kind.__name__}"
            self._heard += batch

    def take_heard(self):
        """What has been read and not asked for yet."""
        heard, self._heard = self._heard, []
        return heard

    async def hear_end_or_ready(self):
        """The worker's `ready`, or None where the connection ends without one."""
        while batch := await self.emitter.receive_batch():
            for message in batch:
                if isinstance(message, Ready):
                    return message
        return None

    async def hear_end(self):
        """Everything up to the end of the connection."""
        while batch := await self.emitter.receive_batch():
            self._heard += batch
        return self._heard

    async def say(self, *messages):
        for message in messages:
            await self.emitter.send(message)


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
            yield ScriptedWorker(emitter)

    @asynccontextmanager
    async def worker(
        self, worker_id="w-1", boot="b-1", slots=2, labels=None, holds=(), token=None,
        pair=memory_stream_pair,
    ):  # fmt: skip
        async with self.connect(pair) as worker:
            await worker.say(
                Hello((1, 1), worker_id, boot, worker_id, slots, labels or {}, "0", token)
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


class Recorder:
    """An observer that keeps what it is told."""

    def __init__(self):
        self.data = b""
        self.streams = []
        self.results = b""
        self.started = False
        self.outcome = None
        self.closed = trio.Event()

    def on_started(self, run, pid):
        self.started = True

    def on_output(self, run, output):
        assert output.offset == len(self.data)
        self.data += output.data
        self.streams.append(output.stream)

    def on_result(self, run, data, offset):
        assert offset == len(self.results)
        self.results += data

    def on_closed(self, run, outcome):
        self.outcome = outcome
        self.closed.set()

    def is_repeat(self, run, output):
        return self.data[output.offset :][: len(output.data)] == output.data


async def settle():
    await trio.testing.wait_all_tasks_blocked()
