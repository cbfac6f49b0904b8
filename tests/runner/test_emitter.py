"""`DuplexEmitter` owns its stream: however it is left, the peer sees the end."""

import trio
from trio.testing import memory_stream_pair

from remote_runner.emitter import DuplexEmitter


async def test_a_cancelled_emitter_closes_its_stream(autojump_clock):
    ours, theirs = memory_stream_pair()
    with trio.move_on_after(1):
        async with DuplexEmitter(ours):
            await trio.sleep_forever()
    with trio.fail_after(5):
        assert await theirs.receive_some() == b""
