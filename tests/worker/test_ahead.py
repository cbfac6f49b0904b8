"""Spawns beyond the slots of a worker: they wait there, begin by themselves, or are given back."""

import pytest
import trio

from remote_runner.protocol.messages import (
    AHEAD_PER_SLOT,
    Close,
    Drain,
    Draining,
    Kill,
    Ping,
    Pong,
    Ready,
    Refused,
    Spawn,
    SpawnOptions,
    Stale,
    Started,
    Stdin,
    StdinEnd,
    Withdraw,
)
from simple_worker.launch import SpawnFailure
from simple_worker.spool_files import SpoolFolder
from simple_worker.waiting import MAX_STDIN
from simple_worker.worker import IDLE, LOOK
from tests.worker.simulation import SimulatedProcesses, connected_slots

STUBBORN = 5.0
"""Seconds that one lives on in which it was told to end."""


def spawn(attempt_id, command="true", **options):
    return Spawn(command, (), SpawnOptions(id=attempt_id, **options))


async def sleeper(child):
    await trio.sleep_forever()


async def stubborn(child):
    with trio.CancelScope(shield=True):
        await trio.sleep(STUBBORN)


NAP = 3.0


async def nap(child):
    await trio.sleep(NAP)
    return 0


async def nothing(child):
    return 0


async def settle():
    await trio.testing.wait_all_tasks_blocked()


async def heard(runner, *kinds):
    """All of these kinds that have been said by now."""
    await settle()
    await runner.say(Ping(9))
    messages = []
    while not isinstance(message := await runner.hear((Pong, *kinds)), Pong):
        messages.append(message)
    return messages


@pytest.fixture
def bench(bench):
    bench.processes.programs = {"sleep": sleeper, "true": nothing}
    return bench


@pytest.fixture
def begun(bench):
    """The commands begun so far, by the ids that they were given as JOB_ID."""

    def begun():
        return [child.launch.command.env.get("JOB_ID") for child in bench.processes.children]

    return begun


def job(number, command="true", **options):
    return spawn(f"{number}.1", command, set_env={"JOB_ID": str(number)}, **options)


async def test_they_begin_in_their_order_as_slots_become_free(autojump_clock, bench, begun):
    bench.start(slots=2)
    async with bench.network.ready() as runner:
        await runner.say(job(1, "sleep"), job(2, "sleep"), job(3, "sleep"), job(4), job(5))
        await settle()
        assert begun() == ["1", "2"]
        await runner.say(Kill("2.1"))
        await settle()
        assert begun() == ["1", "2", "3"]
        await runner.say(Kill("1.1"))
        await settle()
        assert begun() == ["1", "2", "3", "4", "5"]
        ids = [message.id for message in await heard(runner, Started)]
        assert ids == [f"{number}.1" for number in range(1, 6)]


async def test_one_that_cannot_be_started_does_not_stop_those_behind_it(
    autojump_clock, bench, begun
):
    bench.start(slots=1)
    async with bench.network.ready() as runner:
        await runner.say(job(1, "sleep"), job(2, "no-such"), job(3))
        await runner.say(Kill("1.1"))
        assert {(await runner.hear(Close)).id for _ in range(3)} == {"1.1", "2.1", "3.1"}


async def test_a_worker_takes_only_so_many(autojump_clock, bench, begun):
    bench.start(slots=2)
    most = 2 * (1 + AHEAD_PER_SLOT)
    async with bench.network.ready() as runner:
        await runner.say(*[job(number, "sleep") for number in range(1, most + 2)])
        refused = Refused(f"{most + 1}.1", "all slots are taken")
        assert await heard(runner, Refused) == [refused]


async def test_none_waits_for_a_slot_that_the_runner_counts_as_free(autojump_clock, bench, begun):
    """It would not ask for one that it does not know to wait."""
    bench.start(slots=2)
    bench.processes.programs["stubborn"] = stubborn
    async with bench.network.ready() as runner:
        await runner.say(job(1, "sleep"), job(2, "stubborn"), Stale("2.1"), job(3))
        assert await heard(runner, Refused) == [Refused("3.1", "all slots are taken")]
        await trio.sleep(STUBBORN)
        await runner.say(job(4, "sleep"), job(5))
        assert await heard(runner, Refused) == []
        assert begun() == ["1", "2", "4"]
        await runner.say(Kill("1.1"))
        await settle()
        assert begun() == ["1", "2", "4", "5"]


async def test_what_is_withdrawn_does_not_begin(autojump_clock, bench, begun):
    bench.start(slots=1)
    async with bench.network.ready() as runner:
        await runner.say(job(1, "sleep"), job(2), job(3), Withdraw("2.1"))
        assert await runner.hear(Refused) == Refused("2.1", "withdrawn")
        await runner.say(Kill("1.1"))
        await settle()
        assert begun() == ["1", "3"]


async def test_what_has_begun_is_not_given_back(autojump_clock, bench, begun):
    bench.start(slots=1)
    async with bench.network.ready() as runner:
        await runner.say(job(1, "sleep"), Withdraw("1.1"), Withdraw("2.1"))
        assert await heard(runner, Refused, Close) == []
        await runner.say(Kill("1.1"))
        assert (await runner.hear(Close)).reason == "killed"


async def test_a_kill_and_a_stale_end_it_before_it_begins(autojump_clock, bench, begun):
    bench.start(slots=1)
    async with bench.network.ready() as runner:
        await runner.say(job(1, "sleep"), job(2), job(3), Kill("2.1"), Stale("3.1"))
        close = await runner.hear(Close)
        assert (close.id, close.reason, close.offset) == ("2.1", "killed", 0)
        await runner.say(Kill("1.1"))
        assert (await runner.hear(Close)).id == "1.1"
        assert await heard(runner, Refused, Close) == []
        assert begun() == ["1"]


async def test_a_drain_gives_them_back(autojump_clock, bench, begun):
    bench.start(slots=1)
    async with bench.network.ready() as runner:
        await runner.say(job(1, "sleep"), job(2), Drain())
        await runner.hear(Draining)
        assert await runner.hear(Refused) == Refused("2.1", "draining")
        await runner.say(Kill("1.1"))
        await settle()
        assert begun() == ["1"]


async def test_a_cut_lets_the_worker_forget_them(autojump_clock, bench, begun):
    bench.start(slots=1)
    async with bench.network.ready() as runner:
        await runner.say(job(1, "sleep"), job(2))
        await settle()
    async with bench.network.ready() as runner:
        assert runner.listed == (("1.1", "running", 0),)
        await runner.say(Kill("1.1"))
        await settle()
        assert begun() == ["1"]
        await runner.say(job(3))
        assert (await runner.hear(Started)).id == "3.1"


async def test_a_lack_of_room_gives_them_back(autojump_clock, bench, begun, disk, tmp_path):
    bench.start(slots=1, spool=SpoolFolder(tmp_path, 0, print))
    async with bench.network.ready() as runner:
        await runner.say(job(1, "sleep"), job(2), job(3))
        await settle()
        disk.free = 0
        await trio.sleep(0.4)
        await runner.say(Ping(1))
        assert [(await runner.hear(Refused)).id for _ in range(2)] == ["2.1", "3.1"]
        assert (await runner.hear(Ready)).free_slots == 0


async def test_a_machine_that_can_start_nothing_more_gives_all_back(autojump_clock, bench, begun):
    bench.start(slots=1)
    async with bench.network.ready() as runner:
        await runner.say(job(1, "sleep"), job(2), job(3))
        await settle()
        start = bench.processes.start
        failure = SpawnFailure(126, "job: Cannot allocate memory", is_refusal=True)
        bench.processes.start = lambda launch: failure
        await runner.say(Kill("1.1"))
        assert {(await runner.hear(Refused)).id for _ in range(2)} == {"2.1", "3.1"}
        assert (await runner.hear(Close)).id == "1.1"
        bench.processes.start = start
        await trio.sleep(2 * LOOK)
        await runner.say(job(4))
        assert (await runner.hear(Started)).id == "4.1"


async def test_the_time_that_it_has_waited_counts_as_silence_of_the_runner(autojump_clock, bench):
    bench.start(slots=1)
    bench.processes.programs["nap"] = nap
    async with bench.network.ready(detach_ms=120_000) as runner:
        await runner.say(spawn("1.1", "nap"), spawn("2.1", "true", detach_ms=50_000))
        assert (await runner.hear(Close)).id == "1.1"
        assert (await runner.hear(Close)).id == "2.1"
        first, second = (child.launch for child in bench.processes.children)
        assert (first.detach, first.silence) == (120, 0)
        assert (second.detach, second.silence) == (50, pytest.approx(NAP))


# --- input ---


async def test_one_whose_input_is_on_its_way_keeps_its_slot(autojump_clock, bench, begun):
    """Else it would wait for a long one that came after it, and nobody would ask for it."""
    bench.start(slots=2)
    async with bench.network.ready() as runner:
        await runner.say(job(1, stdin="pipe"), Stdin("1.1", b"in"), job(2, "sleep"), job(3))
        await settle()
        assert begun() == ["2"]
        await trio.sleep(0.5)
        await runner.say(Stdin("1.1", b"put"), StdinEnd("1.1"))
        await settle()
        assert begun() == ["2", "1", "3"]
        assert bench.processes.children[1].launch.command.stdin == b"input"


async def test_a_withdrawal_of_one_whose_input_is_on_its_way_frees_its_slot(
    autojump_clock, bench, begun
):
    bench.start(slots=1)
    async with bench.network.ready() as runner:
        await runner.say(job(1, stdin="pipe"), job(2), Withdraw("1.1"))
        assert await runner.hear(Refused) == Refused("1.1", "withdrawn")
        assert (await runner.hear(Started)).id == "2.1"


async def test_the_input_that_waits_has_the_room_of_the_slots(autojump_clock, bench, begun):
    bench.start(slots=1)
    piece = bytes(500_000)
    async with bench.network.ready() as runner:
        await runner.say(job(1, "sleep"), job(2, stdin="pipe"), job(3, stdin="pipe"))
        for _ in range(MAX_STDIN // len(piece)):
            await runner.say(Stdin("2.1", piece))
        await runner.say(Stdin("3.1", piece))
        refused = await runner.hear(Refused)
        assert (refused.id, refused.reason) == (
            "3.1",
            f"the jobs that wait here have {MAX_STDIN} bytes of stdin already",
        )
        await runner.say(Stdin("3.1", piece), StdinEnd("3.1"), StdinEnd("2.1"), Kill("1.1"))
        await settle()
        assert begun() == ["1", "2"]


# --- a worker that leaves when there is nothing to do ---


async def test_it_stays_for_what_waits_and_not_for_what_does_no_more(autojump_clock, bench):
    bench.start(slots=1, once=True)
    async with bench.network.ready() as runner:
        await runner.say(job(1, stdin="pipe"))
        await trio.sleep(IDLE + 1)
        assert await heard(runner, Draining, Refused) == []
        await runner.say(Stale("1.1"))
        await settle()
        before = trio.current_time()
        await runner.hear(Draining)
        assert trio.current_time() - before == pytest.approx(IDLE)


# --- the end of the worker ---


async def test_nothing_begins_any_more_once_all_is_being_ended(autojump_clock, nursery):
    """Nobody would end it: this process believes that nothing of any job is left."""
    processes = SimulatedProcesses()
    processes.programs = {"sleep": sleeper}
    slots = connected_slots(processes, 2)
    await nursery.start(slots.run)
    slots.receive(job(1, "sleep"))
    nursery.cancel_scope.cancel()
    with trio.CancelScope(shield=True):
        await settle()
        slots.receive(job(2, "sleep"))
        assert len(processes.children) == 1
