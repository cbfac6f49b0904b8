"""What a worker says of its own job is kept where it can be, and never ends the service."""

import pytest
import trio
from trio.testing import memory_stream_pair

from queued_runner.jobs import JobState
from queued_runner.testing.peer import ScriptedPeer
from remote_runner.emitter import DuplexEmitter
from remote_runner.protocol.connection import Connection
from remote_runner.protocol.messages import (
    MAX_INTEGER,
    Attempts,
    Close,
    Closed,
    Hello,
    OutputChunk,
    Ready,
    Spawn,
    Started,
)
from remote_runner.protocol.states import Role
from remote_runner.runner import RemoteRunner

LARGEST = {"duration_ms": MAX_INTEGER, "max_rss_kb": MAX_INTEGER, "cpu_ms": MAX_INTEGER}


@pytest.mark.parametrize(
    "lies",
    [
        [Close(1, "1.1", reason="exit", offset=0, **LARGEST)],
        [Close(-MAX_INTEGER, "1.1", reason="exit", offset=0)],
        [Close(MAX_INTEGER, "1.1", reason="exit", offset=0)],
        [Close(None, "1.1", reason="\0", signal="\0\n'\"", offset=0)],
        [Started("1.1", MAX_INTEGER, MAX_INTEGER)] * 2 + [Close(1, "1.1", offset=0)],
        [OutputChunk("stdout", b"0123", "1.1", 0), Close(1, "1.1", offset=MAX_INTEGER)],
    ],
)
async def test_a_lie_about_its_own_end_does_not_end_the_service(autojump_clock, queue, lies):
    job = queue.add("x", max_log_size=4)
    runner = RemoteRunner(port=None)
    async with queue.server(runner) as dispatcher, trio.open_nursery() as nursery:
        ours, theirs = memory_stream_pair()
        nursery.start_soon(runner.handle_stream, theirs)
        async with DuplexEmitter(ours, Connection(Role.WORKER)) as emitter:
            worker = ScriptedPeer(emitter)
            await worker.say(Hello((1, 1), "\0\n", "\x1b[2J", "'; --", 1, {"'": "\0"}, "\0"))
            await emitter.receive_batch()
            await worker.say(Attempts((("'; --", "running", MAX_INTEGER),)), Ready(1))
            await worker.hear(Spawn)
            await worker.say(*lies)
            await worker.hear(Closed)
        ended = await queue.end_of(dispatcher, job)
        assert ended.state is JobState.FAILED
        nursery.cancel_scope.cancel()
