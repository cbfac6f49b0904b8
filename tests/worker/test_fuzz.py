"""Whatever a runner says, the worker stands, and works for the next runner that makes sense."""

import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from remote_runner.protocol.framing import Codec, encode
from remote_runner.protocol.messages import (
    Close,
    Closed,
    OutputChunk,
    Spawn,
    SpawnOptions,
    Stale,
    Welcome,
)
from remote_runner.protocol.wire import to_wire
from tests.protocol.strategies import FROM_RUNNER, encoded
from tests.runner.test_lies import swallow
from tests.worker.conftest import WorkerBench

WELCOME = encode(Codec.MSGPACK, to_wire(Welcome(1, "s", 1, 10_000, 120_000, 65_536)))
steps = st.one_of(
    encoded(FROM_RUNNER), encoded(FROM_RUNNER), encoded(FROM_RUNNER),
    st.sampled_from(("wait", "silence")),
)  # fmt: skip


@given(st.sampled_from(([], [WELCOME])), st.lists(steps, max_size=15))
def test_no_runner_takes_a_worker_down(greeting, conversation):
    trio.run(_converse, [*greeting, *conversation], clock=MockClock(autojump_threshold=0))


async def talk(child):
    await child.write(b"abc")
    await trio.sleep(1)
    await child.write(b"def")
    return 3


async def sleep(child):
    await trio.sleep(1000)
    return 0


async def _converse(conversation):
    async with trio.open_nursery() as nursery:
        bench = WorkerBench(nursery)
        bench.processes.programs = {"talk": talk, "sleep": sleep}
        bench.start(slots=3)
        stream = (await bench.network.answer()).stream
        nursery.start_soon(swallow, stream)
        for step in conversation:
            if isinstance(step, bytes):
                try:
                    await stream.send_all(step)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    break
            elif step == "wait":
                await trio.testing.wait_all_tasks_blocked()
            else:
                await trio.sleep(15)
        await trio.testing.wait_all_tasks_blocked()
        await stream.aclose()
        await bench.network.hang_up()
        await _be_sensible(bench)
        assert not bench.left.is_set()
        nursery.cancel_scope.cancel()


async def _be_sensible(bench):
    """A runner that wants nothing of what there is; the job that it has runs, exactly."""
    with trio.fail_after(3600):
        # One that remembers nothing: the worker waits for no other, whoever that fuzz was.
        async with bench.network.ready(server_id="") as runner:
            await runner.say(*(Stale(run_id) for run_id, _, _ in runner.listed))
            await trio.sleep(1)
            options = SpawnOptions(id="7.1")
            await runner.say(Spawn("talk", (), options))
            data = b""
            while True:
                message = await runner.hear((OutputChunk, Close))
                if message.id != "7.1":
                    continue
                if isinstance(message, Close):
                    break
                assert message.offset == len(data)
                data += message.data
            assert (data, message.code, message.offset) == (b"abcdef", 3, 6)
            await runner.say(Closed("7.1"))
