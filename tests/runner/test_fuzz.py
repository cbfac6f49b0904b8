"""Any sequence of messages, good, bad and out of turn, hurts only the connection it comes on."""

from itertools import count

import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from remote_runner.errors import NoWorkerAvailable
from remote_runner.protocol.framing import Codec, encode
from remote_runner.protocol.messages import (
    Hello,
    Ping,
    Pong,
    Ready,
    Spawn,
)
from remote_runner.protocol.wire import to_wire
from remote_runner.runner import RemoteRunner
from remote_runner.server import ServerSettings
from remote_runner.types import Command
from tests.protocol.strategies import FROM_WORKER, encoded
from tests.runner.conftest import Bench, Recorder, settle
from tests.runner.test_lies import FOREIGN, go_on, swallow

HELLO = encode(Codec.MSGPACK, to_wire(Hello((1, 1), "liar", "b", "n", 3, {"is": "liar"}, "0")))
READY = encode(Codec.MSGPACK, to_wire(Ready(3)))
GREETINGS = ([], ["silence"], [HELLO], [HELLO, READY])
steps = st.one_of(
    encoded(FROM_WORKER), encoded(FROM_WORKER), encoded(FROM_WORKER),
    st.sampled_from(("start", "kill", "forget", "wait", "silence", "dial")),
)  # fmt: skip


@given(st.sampled_from(GREETINGS), st.lists(steps, max_size=15))
def test_no_conversation_hurts_anyone_else(greeting, conversation):
    trio.run(_converse, [*greeting, *conversation], clock=MockClock(autojump_threshold=0))


async def _converse(conversation):
    runner = RemoteRunner(port=None, settings=ServerSettings())
    async with runner.open(), trio.open_nursery() as nursery:
        bench = Bench(runner, nursery)
        seen = Recorder()
        async with bench.worker("honest", labels={"is": "honest"}) as honest:
            runner.start(FOREIGN, Command("x"), {"is": "honest"}, seen)
            await honest.hear(Spawn)
            async with trio.open_nursery() as alive:
                alive.start_soon(_answer_pings, honest)
                await _lie(bench, conversation)
                await settle()
                await trio.sleep(200)  # what was detached is given up
                alive.cancel_scope.cancel()
            if seen.outcome is None:
                assert [worker.name for worker in runner.workers()] == ["honest"]
                await go_on(bench, honest, seen)
        await settle()
        await trio.sleep(200)
        assert runner.workers() == []
        assert not nursery.child_tasks  # every connection has ended, and all that served it
        nursery.cancel_scope.cancel()


async def _lie(bench, conversation):
    runs, numbers = [], count(2)
    stream = bench.dial()
    async with trio.open_nursery() as readers:
        readers.start_soon(swallow, stream)
        for step in conversation:
            if isinstance(step, bytes):
                try:
                    await stream.send_all(step)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    pass
            elif step == "start":
                try:
                    run_id = f"{next(numbers)}.1"
                    seen = Recorder()
                    run = bench.runner.start(run_id, Command("x", stdin=b"y"), {"is": "liar"}, seen)
                    runs.append(run)
                except NoWorkerAvailable:
                    pass
            elif step == "kill" and runs:
                runs[-1].kill("SIGINT", 1.0)
            elif step == "forget" and runs and runs[-1].observer.outcome is not None:
                runs.pop().forget()
            elif step == "wait":
                await settle()
            elif step == "silence":
                await trio.sleep(2)
            elif step == "dial":
                await stream.aclose()
                stream = bench.dial()
                readers.start_soon(swallow, stream)
        await settle()
        await stream.aclose()
        readers.cancel_scope.cancel()


async def _answer_pings(worker):
    while True:
        ping = await worker.hear(Ping)
        await worker.say(Pong(ping.n))
