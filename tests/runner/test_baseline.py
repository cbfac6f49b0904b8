"""Workers that say no hello: what they are told, and how their runs end."""

import msgpack
import trio

from remote_runner.protocol.connection import Connection
from remote_runner.protocol.messages import Hello
from remote_runner.protocol.states import Role
from remote_runner.types import Command, Reason
from tests.runner.conftest import Recorder, settle

HELLO = Connection(Role.WORKER).send(Hello((1, 1), "id", "boot", "name", 1, {}, "0"))


async def read_values(stream, count):
    unpacker, values = msgpack.Unpacker(), []
    while len(values) < count:
        unpacker.feed(await stream.receive_some())
        values += unpacker
    return values


async def test_a_silent_peer_is_a_baseline_worker(bench, autojump_clock):
    stream = bench.dial()
    await trio.sleep(1.5)
    seen = Recorder()
    bench.runner.start("1.1", Command("ls", ("-l",), env={"JOB_ID": "1"}), {}, seen)
    assert await read_values(stream, 1) == [["spawn", "ls", ["-l"], {}]]
    await stream.send_all(msgpack.packb(["stdout", b"hi"]) + msgpack.packb(["close", 4]))
    await seen.closed.wait()
    assert seen.data == b"hi"
    assert seen.outcome.exit_code == 4
    assert len(bench.runner.offers(9)[0].slots) == 1


async def test_a_baseline_worker_that_leaves_has_lost_its_run_at_once(bench, autojump_clock):
    stream = bench.dial()
    await trio.sleep(1.5)
    seen = Recorder()
    bench.runner.start("1.1", Command("ls"), {}, seen)
    before = trio.current_time()
    await stream.aclose()
    await seen.closed.wait()
    assert seen.outcome.reason is Reason.WORKER_LOST
    assert trio.current_time() == before


async def test_a_full_worker_whose_hello_is_late_has_not_begun_what_it_was_given(
    bench, autojump_clock
):
    stream = bench.dial()
    await trio.sleep(1.5)
    seen = Recorder()
    bench.runner.start("1.1", Command("ls"), {}, seen)
    await stream.send_all(HELLO)
    await seen.closed.wait()
    assert seen.outcome.reason is Reason.REFUSED
    *_, goodbye = await read_values(stream, 2)
    assert goodbye[0] == "goodbye"
    assert "hello came too late" in str(goodbye)


async def test_a_hello_after_output_takes_nothing_back(bench, autojump_clock):
    stream = bench.dial()
    await trio.sleep(1.5)
    seen = Recorder()
    bench.runner.start("1.1", Command("ls"), {}, seen)
    await stream.send_all(msgpack.packb(["stdout", b"hi"]))
    await settle()
    await stream.send_all(HELLO)
    await seen.closed.wait()
    assert seen.outcome.reason is Reason.WORKER_LOST


async def test_a_run_that_has_ended_is_timed_no_more(bench, autojump_clock):
    """Or each short job with a timeout of a day would keep a task for a day."""
    stream = bench.dial()
    await trio.sleep(1.5)

    def living():
        return trio.lowlevel.current_statistics().tasks_living

    before = living()
    for number in range(20):
        seen = Recorder()
        run = bench.runner.start(str(number), Command("ls", timeout=86_400.0), {}, seen)
        if number % 2:
            run.kill(None, 86_400.0)
        await stream.send_all(msgpack.packb(["close", 0]))
        await seen.closed.wait()
        run.forget()
    await trio.testing.wait_all_tasks_blocked()
    assert living() == before


async def test_a_baseline_worker_that_ignores_a_kill_is_cut_off(bench, autojump_clock):
    bench.dial()
    await trio.sleep(1.5)
    seen = Recorder()
    run = bench.runner.start("1.1", Command("ls"), {}, seen)
    run.kill(None, 2.0)
    await seen.closed.wait()
    assert seen.outcome.reason is Reason.KILLED
