"""Who is given a command with secrets: a worker that has said that it hides them, nobody else."""

import msgpack
import pytest
import trio

from remote_runner.errors import NoWorkerAvailable, RemoteProtocolError
from remote_runner.protocol.messages import (
    MASK,
    MAX_MASK,
    Close,
    Hello,
    OutputChunk,
    Ready,
    Spawn,
    Welcome,
)
from remote_runner.protocol.wire import parse
from remote_runner.types import CAN_MASK, Command
from tests.runner.conftest import Recorder, settle

SECRET = Command("login", mask=("hunter2", "two words"))


async def join(worker, worker_id, labels=(), features=(MASK,)):
    hello = Hello((1, 1), worker_id, "b", worker_id, 1, dict(labels), "0", features=features)
    await worker.say(hello)
    await worker.hear(Welcome)
    await worker.say(Ready(1))
    await settle()


async def test_a_worker_that_has_said_that_it_can_gets_the_secrets(bench, autojump_clock):
    async with bench.worker("old", labels={"os": "linux"}) as old, bench.connect() as worker:
        await join(worker, "new", {"os": "linux"})
        bench.runner.start("1.1", SECRET, {"os": "linux"}, Recorder())
        assert (await worker.hear(Spawn)).options.mask == ("hunter2", "two words")
        with pytest.raises(NoWorkerAvailable):
            bench.runner.start("2.1", SECRET, {}, Recorder())
        bench.runner.start("3.1", Command("plain"), {}, Recorder())
        assert (await old.hear(Spawn)).options.mask == ()


@pytest.mark.parametrize("worker_id", ["old", None])
async def test_neither_an_earlier_release_nor_a_baseline_worker_gets_them(
    bench, autojump_clock, worker_id
):
    async with bench.worker("old") as old, bench.dial() as stream:
        await trio.sleep(1.5)
        assert sorted(worker.can_mask for worker in bench.runner.workers()) == [False, False]
        with pytest.raises(NoWorkerAvailable):
            bench.runner.start("1.1", SECRET, {}, Recorder(), worker_id)
        assert not old.take_heard()
        bench.runner.start("2.1", Command("ls"), {}, Recorder())
        bench.runner.start("3.1", Command("ls"), {}, Recorder())
        bench.runner.start("4.1", Command("ls"), {}, Recorder())
        assert msgpack.unpackb(await stream.receive_some()) == ["spawn", "ls", [], {}]


async def test_what_workers_can_is_no_label_that_people_see_or_workers_set(bench, autojump_clock):
    async with bench.worker("old"), bench.connect() as new, bench.connect() as liar:
        await join(new, "new", {"os": "linux"})
        await join(liar, "liar", {CAN_MASK: ""}, features=("time-travel",))
        shown = {worker.id: worker for worker in bench.runner.workers()}
        assert {key: worker.can_mask for key, worker in shown.items()} == {
            "old": False, "new": True, "liar": False,
        }  # fmt: skip
        assert all(CAN_MASK not in worker.labels for worker in shown.values())
        assert shown["new"].labels == {"os": "linux"}


async def test_run_waits_for_a_worker_that_can(bench, autojump_clock):
    outcomes = []

    async def run():
        outcomes.append(await bench.runner.run(SECRET))

    async with bench.worker("old") as old, bench.connect() as worker:
        bench.nursery.start_soon(run)
        await trio.sleep(5)
        await join(worker, "new")
        spawn = await worker.hear(Spawn)
        await worker.say(
            OutputChunk("stdout", b"***", spawn.options.id, 0),
            Close(0, spawn.options.id, reason="exit", offset=3),
        )
        await settle()
        assert [(outcome.exit_code, outcome.output_bytes) for outcome in outcomes] == [(0, 3)]
        assert not old.take_heard()


@pytest.mark.parametrize(
    "mask", ["hunter2", [b"hunter2"], [1], {"a": "hunter2"}, ["x" * MAX_MASK, "y"]]
)
def test_what_is_no_list_of_texts_is_refused_and_not_repeated(mask):
    with pytest.raises(RemoteProtocolError) as refused:
        parse(["spawn", "x", [], {"id": "1.1", "mask": mask}])
    assert str(refused.value).startswith("spawn: mask ")
    assert "hunter2" not in str(refused.value)
