"""The fake worker and the virtual service: what a test says happens, and nothing takes time."""

import re
import time

import pytest
import trio
from trio.testing import memory_stream_pair

from queued_runner.jobs import JobState
from queued_runner.testing.fake_worker import open_fake_worker
from queued_runner.testing.recorder import Recorder
from queued_runner.testing.virtual import open_virtual_service
from remote_runner.runner import RemoteRunner
from remote_runner.server import ServerSettings
from remote_runner.types import Command
from tests.commands import ROOT


@pytest.fixture
def runner(virtual_service):
    return virtual_service.runner


async def test_a_command_prints_and_ends_as_the_test_says(virtual_service, runner, autojump_clock):
    job = await runner.submit("make", ["all"], stdin="input", env={"A": "b"}, cwd="/src")
    async with virtual_service.worker() as worker:
        run = await worker.next_run()
        assert (run.command, run.args, run.options.cwd) == ("make", ("all",), "/src")
        assert (run.env["A"], run.env["JOB_ID"]) == ("b", str(job))
        await run.stdin_ended.wait()
        assert run.stdin == b"input"
        await run.write(b"out")
        await run.write(b"err", "stderr")
        await run.end(3)
    ended = await runner.wait(job)
    assert (ended.state, ended.exit_code, ended.worker) == (JobState.FAILED, 3, "fake")
    assert [(chunk.stream, chunk.data) async for chunk in runner.output(job)] == [
        ("stdout", b"out"), ("stderr", b"err"),
    ]  # fmt: skip


async def test_a_kill_is_the_tests_to_obey(virtual_service, runner, autojump_clock):
    job = await runner.submit("server", kill_grace=3.0)
    async with virtual_service.worker() as worker:
        run = await worker.next_run()
        await runner.cancel(job, signal="SIGINT")
        await run.killed.wait()
        assert [kill.signal for kill in run.kills] == ["SIGINT"]
        assert (await runner.get(job)).state is JobState.RUNNING
        await run.end(signal="SIGINT")
    assert (await runner.wait(job)).state is JobState.CANCELLED


async def test_it_stays_connected_for_hours(virtual_service, runner, autojump_clock):
    began = time.monotonic()
    async with virtual_service.worker() as worker:
        await trio.sleep(3 * 3600)
        job = await runner.submit("true", delay=3600)
        await (await worker.next_run()).end()
    assert (await runner.wait(job)).state is JobState.SUCCEEDED
    assert trio.current_time() >= 4 * 3600
    assert time.monotonic() - began < 30


async def test_what_is_refused_goes_elsewhere(virtual_service, runner, autojump_clock):
    job = await runner.submit("true", needs={"os": "linux"})
    async with (
        virtual_service.worker("first", labels={"os": "linux"}) as first,
        virtual_service.worker("other") as other,
    ):
        run = await first.next_run()
        async with virtual_service.worker("second", labels={"os": "linux"}) as second:
            await first.drain()
            await run.refuse()
            await (await second.next_run()).end()
        await trio.testing.wait_all_tasks_blocked()
        assert (await runner.wait(job)).worker == "second"
        with trio.move_on_after(1000) as waiting:
            await other.next_run()
        assert waiting.cancelled_caught


async def test_a_queue_outlives_its_server(tmp_path, autojump_clock):
    async with open_virtual_service(tmp_path) as service:
        queued = await service.runner.submit("later")
        async with service.worker() as worker:
            running = await service.runner.submit("true", priority=1)
            await (await worker.next_run()).end()
            await (await worker.next_run()).write(b"half")
    async with open_virtual_service(tmp_path) as service:
        assert (await service.runner.get(running)).state is JobState.SUCCEEDED
        async with service.worker() as worker:
            run = await worker.next_run()
            assert (run.env["JOB_ID"], run.env["JOB_ATTEMPT"]) == (str(queued), "2")
            await run.end()
        assert (await service.runner.wait(queued)).losses == 1


async def test_without_a_virtual_clock_it_says_what_to_do(tmp_path):
    with pytest.raises(RuntimeError, match="autojump_clock"):
        async with open_virtual_service(tmp_path):
            pass


async def test_over_tcp_and_with_a_token(nursery):
    runner = RemoteRunner(port=0, settings=ServerSettings(token="secret"))
    async with runner.open():
        with pytest.raises(AssertionError, match="token"):
            async with open_fake_worker(await trio.open_tcp_stream("127.0.0.1", runner.port)):
                pass
        stream = await trio.open_tcp_stream("127.0.0.1", runner.port)
        async with open_fake_worker(stream, token="secret") as worker:
            outcomes = []

            async def ask():
                outcomes.append(await runner.run(Command("x")))

            nursery.start_soon(ask)
            await (await worker.next_run()).end(signal="SIGSEGV")
            await trio.testing.wait_all_tasks_blocked()
    assert [(outcome.reason, outcome.signal) for outcome in outcomes] == [("signal", "SIGSEGV")]


async def test_who_waits_for_a_run_hears_that_the_connection_has_ended(nursery):
    ended = trio.Event()

    async def work(stream):
        async with open_fake_worker(stream) as worker:
            await worker.next_run()
            with pytest.raises(trio.EndOfChannel):
                await worker.next_run()
            ended.set()

    runner = RemoteRunner(port=None)
    async with runner.open():
        ours, theirs = memory_stream_pair()
        nursery.start_soon(runner.handle_stream, theirs)
        nursery.start_soon(work, ours)
        await trio.testing.wait_all_tasks_blocked()
        runner.start("1.1", Command("x"), {}, Recorder())
        await trio.testing.wait_all_tasks_blocked()
    await ended.wait()


async def test_the_example_of_the_docs(virtual_service, autojump_clock):
    _, example = re.findall(r"```python\n(.*?)```", (ROOT / "docs/embedding.md").read_text(), re.S)
    names: dict = {}
    exec(example, names)
    await names["test_a_failure_is_reported"](virtual_service, autojump_clock)
