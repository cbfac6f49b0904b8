"""`LocalRunner`: the plug in this very program, with real children and with simulated ones."""

import pytest
import trio

from queued_runner.testing.recorder import Recorder, RecordingHost
from remote_runner.errors import DuplicateRun, NoWorkerAvailable
from remote_runner.types import Command, Reason
from simple_worker.local import LocalRunner
from simple_worker.window import WINDOW
from tests.commands import is_alive
from tests.worker.real import PATIENCE, pids_in
from tests.worker.simulation import SimulatedProcesses


async def test_real_commands(tmp_path, monkeypatch):
    runner, seen, failed = LocalRunner(slots=2), Recorder(), Recorder()
    async with runner.open():
        script = 'echo out; echo err >&2; echo "$JOB_WORKER"; ls -d "$JOB_SCRATCH"; exit 7'
        runner.start("1.1", Command("sh", ("-c", script), env={"A": "b"}), {}, seen)
        runner.start("2.1", Command("/no/such/thing"), {}, failed)
        with trio.fail_after(PATIENCE):
            await seen.closed.wait()
            await failed.closed.wait()
    [(run_id, pid)] = seen.started
    assert (run_id, is_alive(pid)) == ("1.1", False)
    assert (seen.outcome.reason, seen.outcome.exit_code) == (Reason.EXIT, 7)
    out = b"".join(output.data for output in seen.outputs if output.stream == "stdout").decode()
    assert out.startswith("out\nlocal\n/")
    assert failed.started == []
    assert failed.outcome.exit_code == 127
    assert failed.data == b"duplex-runner: /no/such/thing: command not found on this worker\n"


async def test_leaving_ends_every_tree_and_says_so(tmp_path):
    runner, seen = LocalRunner(slots=1), Recorder()
    file = tmp_path / "pids"
    with trio.fail_after(PATIENCE):
        async with runner.open():
            script = f"setsid sleep 1000 & trap '' TERM; echo $! $$ > {file}; sleep 1000"
            runner.start("1.1", Command("sh", ("-c", script)), {}, seen)
            pids = await pids_in(file, 2)
    assert not any(is_alive(pid) for pid in pids)
    assert seen.outcome.reason is Reason.STOPPED


async def test_a_cancelled_call_is_told_of_no_more_output():
    outputs = []

    def on_output(output):
        outputs.append(output.data)
        calling.cancel()

    script = "trap 'echo late; exit' TERM; echo up; while :; do sleep 0.01; done"
    runner = LocalRunner(slots=1)
    with trio.fail_after(PATIENCE):
        async with runner.open():
            with trio.CancelScope() as calling:
                await runner.run("sh", ["-c", script], on_output=on_output)
            await runner.run("true")  # its slot is free, so that it is over
    assert outputs == [b"up\n"]


# --- simulated ---


async def sleeper(child):
    await trio.sleep_forever()


async def flood(child):
    while True:
        await child.write(bytes(65536))


async def speaker(child):
    await child.write(b"hello")
    await trio.sleep(1)
    return 3


async def nothing(child):
    return 0


@pytest.fixture
def processes():
    processes = SimulatedProcesses()
    processes.programs = {"sleep": sleeper, "flood": flood, "speak": speaker, "true": nothing}
    return processes


async def test_slots_labels_and_ids(autojump_clock, processes):
    runner, host = LocalRunner(slots=2, processes=processes), RecordingHost()
    assert runner.offers(9) == []
    with pytest.raises(NoWorkerAvailable):
        runner.start("1.1", Command("true"), {}, Recorder())
    async with runner.open(host):
        assert [(worker, held) for worker, _, held in host.ready] == [("local", frozenset())]
        assert [len(offer.slots) for offer in runner.offers(9)] == [2]
        first = Recorder(acks=False)
        run = runner.start("1.1", Command("sleep"), {}, first)
        assert (run.id, run.worker, run.worker_id) == ("1.1", "local", "local")
        with pytest.raises(DuplicateRun):
            runner.start("1.1", Command("sleep"), {}, Recorder())
        with pytest.raises(NoWorkerAvailable):
            runner.start("2.1", Command("sleep"), {"gpu": "yes"}, Recorder())
        with pytest.raises(NoWorkerAvailable):
            runner.start("2.1", Command("sleep"), {}, Recorder(), "another")
        runner.start("2.1", Command("sleep"), {}, Recorder(), "local")
        with pytest.raises(NoWorkerAvailable):
            runner.start("3.1", Command("sleep"), {}, Recorder())
        assert runner.offers(9) == []
        [info] = runner.workers()
        assert (info.slots, info.free, info.running) == (2, 0, ("1.1", "2.1"))

        told = host.capacities
        run.kill("SIGINT", 2.0)
        await first.closed.wait()
        assert processes.children[0].kills == [(Reason.KILLED, "SIGINT", 2.0)]
        assert first.outcome.signal == "SIGINT"
        await trio.testing.wait_all_tasks_blocked()
        assert host.capacities == told + 1
        assert [len(offer.slots) for offer in runner.offers(9)] == [1]
        with pytest.raises(DuplicateRun):
            runner.start("1.1", Command("sleep"), {}, Recorder())
        run.forget()
        runner.start("1.1", Command("true"), {}, Recorder())
    assert runner.offers(9) == []


async def test_a_run_of_several_slots_takes_them(autojump_clock, processes):
    runner, seen = LocalRunner(slots=3, processes=processes), Recorder()
    async with runner.open():
        with pytest.raises(NoWorkerAvailable):
            runner.start("1.1", Command("sleep", slots=4), {}, Recorder())
        run = runner.start("1.1", Command("sleep", slots=2), {}, seen)
        [offer] = runner.offers(9)
        assert [(slot.of, slot.free) for slot in offer.slots] == [(3, 1)]
        with pytest.raises(NoWorkerAvailable):
            runner.start("2.1", Command("sleep", slots=2), {}, Recorder())
        run.kill("SIGINT")
        await seen.closed.wait()
        assert runner.workers()[0].free == 3


async def test_a_started_run_is_told_later_than_start_returns(autojump_clock, processes):
    runner, seen = LocalRunner(slots=1, processes=processes), Recorder()
    async with runner.open():
        runner.start("1.1", Command("true"), {}, seen)
        assert seen.started == []
        await seen.closed.wait()
        assert seen.started == [("1.1", 100)]


async def test_unacknowledged_output_stops_the_child(autojump_clock, processes):
    runner, seen = LocalRunner(slots=1, processes=processes), Recorder(acks=False)
    async with runner.open():
        run = runner.start("1.1", Command("flood"), {}, seen)
        await trio.testing.wait_all_tasks_blocked()
        size = len(seen.data)
        assert WINDOW < size <= WINDOW + 65536
        run.ack(65536)
        await trio.testing.wait_all_tasks_blocked()
        assert len(seen.data) == size + 65536


async def test_run_waits_for_a_slot_and_returns_the_outcome(autojump_clock, nursery, processes):
    runner = LocalRunner(slots=1, processes=processes)
    outcomes, outputs = [], []

    async def ask():
        outcomes.append(await runner.run("speak", ["-x"], on_output=outputs.append))

    nursery.start_soon(ask)
    await trio.testing.wait_all_tasks_blocked()  # nothing is open yet
    async with runner.open():
        for _ in range(2):
            nursery.start_soon(ask)
        with trio.fail_after(10):
            outcomes.append(await runner.run(Command("speak")))
            while len(outcomes) < 4:
                await trio.sleep(1)
    assert [outcome.exit_code for outcome in outcomes] == [3] * 4
    assert [output.data for output in outputs] == [b"hello"] * 3
    assert {child.launch.command.args for child in processes.children} == {(), ("-x",)}


async def test_a_cancelled_run_is_killed(autojump_clock, processes):
    runner = LocalRunner(slots=1, processes=processes)
    async with runner.open():
        with trio.move_on_after(5):
            await runner.run("sleep")
        assert [reason for reason, _, _ in processes.children[0].kills] == [Reason.KILLED]
        assert (await runner.run("true")).is_success


async def test_a_run_ends_as_stopped_when_its_program_leaves(autojump_clock, processes):
    runner, host, seen = LocalRunner(slots=1, processes=processes), RecordingHost(), Recorder()
    async with runner.open(host):
        runner.start("1.1", Command("sleep"), {}, seen)
        await trio.testing.wait_all_tasks_blocked()
        told = host.capacities
    assert seen.outcome.reason is Reason.STOPPED
    assert host.capacities == told
