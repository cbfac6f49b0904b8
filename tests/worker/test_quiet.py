"""Children that end by themselves and in silence cost no task; all others get one in time."""

import os
import resource
from pathlib import Path

import pytest
import trio

from remote_runner.protocol.messages import Spawn, SpawnOptions
from remote_runner.types import Outcome, Reason
from simple_worker.leftovers import MarkedLeftovers
from simple_worker.machine import opened_machine, opened_own_machine
from tests.commands import is_alive
from tests.worker.real import PATIENCE, pids_in, start, until
from tests.worker.simulation import AtOnce, connected_slots


@pytest.fixture(params=[opened_machine, opened_own_machine])
async def any_machine(request, tmp_path):
    async with request.param(tmp_path) as machine:
        yield machine


async def watched(child):
    """What its watcher is told."""
    told = []
    child.watch(told.append)
    await until(lambda: told)
    return told


async def keep_nothing(stream, data):
    pass


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("exit 3", 3), ("sleep 0.1", 0), ("exec >&- 2>&-", 0)]
)
async def test_who_ends_in_silence_is_over_when_its_watcher_is_told(any_machine, script, code):
    child = start(any_machine, "sh", "-c", script).child
    (outcome,) = await watched(child)
    if outcome is None:
        # Where leftovers are only marked, any process that was started since may be one.
        assert isinstance(any_machine.leftovers, MarkedLeftovers)
        outcome = await child.run(keep_nothing, 1000)
    assert (outcome.reason, outcome.exit_code) == (Reason.EXIT, code)
    assert outcome.max_rss > 0
    assert not is_alive(child.pid)


ESCAPED = "setsid sh -c ': > $FILE; exec sleep 1000' >&- 2>&- & until [ -e $FILE ]; do :; done"


@pytest.mark.parametrize(
    "script", ["echo out", "echo err >&2", "sleep 1000 &", ESCAPED, "touch $JOB_SCRATCH/x"]
)
async def test_who_leaves_something_must_be_attended_to(tmp_path, script):
    async with opened_own_machine(tmp_path) as machine:
        machine.pipe_held = 0.05
        child = start(machine, "sh", "-c", script, env={"FILE": str(tmp_path / "file")}).child
        assert await watched(child) == [None]
        with trio.fail_after(PATIENCE):
            outcome = await child.run(keep_nothing, 1000)
        assert (outcome.reason, outcome.exit_code) == (Reason.EXIT, 0)


@pytest.mark.parametrize("options", [{"timeout": 60.0}, {"stdin": b"text"}])
async def test_who_needs_a_task_by_its_command_has_one_at_once(machine, options):
    told = []
    child = start(machine, "cat", **options).child
    child.watch(told.append)
    assert told == [None]
    assert (await child.run(keep_nothing, 1000)).is_success


async def test_a_kill_is_attended_to(machine, tmp_path):
    """A silent one that does not obey is killed after its grace."""
    ready = tmp_path / "ready"
    script = f"trap '' TERM; : > {ready}; while :; do :; done"
    told = []
    child = start(machine, "sh", "-c", script).child
    child.watch(told.append)
    await until(ready.exists)
    child.kill(Reason.KILLED, "SIGTERM", 0.05)
    assert told == [None]
    with trio.fail_after(PATIENCE):
        outcome = await child.run(keep_nothing, 1000)
    assert (outcome.reason, outcome.signal) == (Reason.KILLED, "SIGKILL")


async def test_a_second_kill_may_come_when_it_has_ended_and_before_that_is_seen(machine):
    child = start(machine, "sleep", "1000").child
    child.watch(lambda outcome: None)
    child.kill(Reason.KILLED, "SIGKILL", 0.0)
    with open(f"/proc/{child.pid}/stat") as file:
        while ") Z " not in file.read():
            file.seek(0)
    child.kill(Reason.ABANDONED, "SIGKILL", 0.0)
    with trio.fail_after(PATIENCE):
        outcome = await child.run(keep_nothing, 1000)
    assert (outcome.reason, outcome.signal) == (Reason.KILLED, "SIGKILL")


async def test_they_end_with_the_slots(tmp_path):
    file = tmp_path / "pids"
    script = f"echo $$ >> {file}; setsid sleep 1000 & echo $! >> {file}; wait"
    async with opened_own_machine(tmp_path) as machine, trio.open_nursery() as nursery:
        slots = connected_slots(machine, 2)
        await nursery.start(slots.run)
        slots.receive(Spawn("sh", ("-c", script), SpawnOptions(id="1.1")))
        pids = await pids_in(file, 2)
        assert slots.free == 1
        nursery.cancel_scope.cancel()
    assert not any(map(is_alive, pids))


async def test_who_ends_in_the_moment_when_the_slots_do_ends_once():
    """Its end is seen after the slots have begun to end it, and before its task does."""
    told = {}

    class Ending:
        pid = 1
        results = None

        def watch(self, then):
            told[self] = then

        async def run(self, on_output, max_chunk):
            assert told.pop(self, None) is not None, "it is over"
            while told:
                told.popitem()[1](Outcome(Reason.EXIT, exit_code=0))
            return Outcome(Reason.EXIT, exit_code=0)

    class Endings(AtOnce):
        def start(self, launch):
            return Ending()

    async with trio.open_nursery() as nursery:
        slots = connected_slots(Endings(), 2)
        await nursery.start(slots.run)
        for number in range(2):
            slots.receive(Spawn("true", (), SpawnOptions(id=f"1.{number}")))
        nursery.cancel_scope.cancel()
    assert slots.unfinished == 0
    assert slots.free == 2


async def test_an_end_in_silence_frees_the_slot(tmp_path):
    async with opened_own_machine(tmp_path) as machine, trio.open_nursery() as nursery:
        slots = connected_slots(machine, 1)
        await nursery.start(slots.run)
        for number in range(20):
            slots.receive(Spawn("true", (), SpawnOptions(id=f"1.{number}")))
            await until(lambda: slots.free == 1)
        assert slots.unfinished == 0
        assert slots.unconfirmed == 20
        nursery.cancel_scope.cancel()
    assert not list(Path(tmp_path).iterdir())


async def test_what_is_left_is_seen_without_a_free_descriptor(tmp_path):
    file, go = tmp_path / "file", tmp_path / "go"
    escaped = f"setsid sh -c 'echo $$ > {file}; exec sleep 1000' >&- 2>&- &"
    async with opened_own_machine(tmp_path) as machine:
        child = start(machine, "sh", "-c", f"{escaped} until [ -e {go} ]; do :; done").child
        told = []
        child.watch(told.append)
        (pid,) = await pids_in(file, 1)
        lowest_free = os.dup(0)
        os.close(lowest_free)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
        try:
            go.mkdir()
            await until(lambda: told)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert told == [None]
        with trio.fail_after(PATIENCE):
            assert (await child.run(keep_nothing, 1000)).is_success
        assert not is_alive(pid)
