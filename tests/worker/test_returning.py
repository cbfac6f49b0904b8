"""When a worker that holds something comes back, and to whom: in time, and to its own server."""

import pytest
import trio

from remote_runner.protocol.messages import Close, Closed, Ready, Resume, Started
from tests.worker.test_worker import settle, sleeper, spawn


async def quick(child):
    return 3


async def away_for(bench, seconds):
    """Nobody answers for so long, from now on."""
    bench.network.is_up = False
    await trio.sleep(seconds)
    bench.network.is_up = True


@pytest.mark.parametrize("detach", [2, 10, 120, 3600])
@pytest.mark.parametrize("share", [0.4, 0.8])
async def test_a_server_that_is_back_in_time_finds_every_job_alive(
    autojump_clock, bench, detach, share
):
    bench.processes.programs["sleep"] = sleeper
    bench.start()
    async with bench.network.ready(detach_ms=detach * 1000, heartbeat_ms=300) as runner:
        await runner.say(spawn("1.1", "sleep"))
        await runner.hear(Started)
    await away_for(bench, share * detach)
    async with bench.network.ready(detach_ms=detach * 1000, heartbeat_ms=300) as runner:
        assert runner.listed == (("1.1", "running", 0),)
    assert not bench.processes.children[0].kills


@pytest.mark.parametrize("share", [0.4, 2, 30])
async def test_an_end_is_told_before_a_restarted_server_has_waited_for_it(
    autojump_clock, bench, share
):
    bench.processes.programs["quick"] = quick
    bench.start()
    async with bench.network.ready(detach_ms=10_000) as runner:
        await runner.say(spawn("1.1", "quick"))
        await runner.hear(Close)
    await away_for(bench, share * 10)
    back = trio.current_time()
    async with bench.network.ready(detach_ms=10_000) as runner:
        assert runner.listed == (("1.1", "ended", 0),)
    assert trio.current_time() - back < 10


async def test_another_server_is_not_told_of_jobs_that_it_would_end(autojump_clock, bench):
    bench.processes.programs["sleep"] = sleeper
    bench.start()
    async with bench.network.ready(server_id="mine") as runner:
        await runner.say(spawn("1.1", "sleep"))
        await runner.hear(Started)
    async with bench.network.welcome(server_id="other") as stranger:
        assert not await stranger.hear_end()
    await settle()
    assert any("it is another one than that of the 1 job here" in line for line in bench.said)
    async with bench.network.ready(server_id="mine") as runner:
        assert runner.listed == (("1.1", "running", 0),)
    assert not bench.processes.children[0].kills


async def test_another_server_gets_the_worker_once_its_own_has_stayed_away(autojump_clock, bench):
    bench.processes.programs["sleep"] = sleeper
    bench.start()
    async with bench.network.ready(server_id="mine", detach_ms=10_000) as runner:
        await runner.say(spawn("1.1", "sleep"))
        await runner.hear(Started)
    began = trio.current_time()
    while True:
        async with bench.network.welcome(server_id="other") as stranger:
            if heard := await stranger.hear_end_or(Ready):
                assert heard.free_slots == 2
                break
    assert bench.processes.children[0].kills
    assert trio.current_time() - began < 15


@pytest.mark.parametrize(("first", "second"), [("mine", ""), ("", "mine"), ("", "")])
async def test_a_server_that_remembers_nothing_is_told_all(autojump_clock, bench, first, second):
    bench.processes.programs["sleep"] = sleeper
    bench.start()
    async with bench.network.ready(server_id=first) as runner:
        await runner.say(spawn("1.1", "sleep"))
        await runner.hear(Started)
    async with bench.network.ready(server_id=second) as runner:
        assert runner.listed == (("1.1", "running", 0),)


async def test_an_idle_worker_works_for_whoever_answers(autojump_clock, bench):
    bench.processes.programs["quick"] = quick
    bench.start()
    async with bench.network.ready(server_id="mine") as runner:
        await runner.say(spawn("1.1", "quick"))
        await runner.hear(Close)
        await runner.say(Resume("1.1", 0), Closed("1.1"))
        await settle()
    async with bench.network.ready(server_id="other") as runner:
        assert runner.ready.free_slots == 2
