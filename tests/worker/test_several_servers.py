"""A worker of one queue with two servers: scripted ones, and two real `RemoteRunner`s."""

from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import memory_stream_pair

from queued_runner.testing.recorder import Recorder, RecordingHost
from remote_runner.protocol.messages import Goodbye, Hello, Started
from remote_runner.runner import RemoteRunner
from remote_runner.server import ServerSettings
from remote_runner.types import Adoption, Command, Reason
from simple_worker.session import Identity
from simple_worker.worker import Server, Worker
from tests.worker.simulation import SimulatedProcesses
from tests.worker.test_worker import settle, sleeper, spawn

# --- scripted servers: what is said to which of them, and when ---


@pytest.fixture
def pair(bench):
    """A worker that knows both networks; `rng` is 0.5, with which `the other` comes first."""
    bench.processes.programs["sleep"] = sleeper
    bench.start(is_one_of_two=True)
    return bench


async def test_the_next_one_is_dialled_at_once_and_told_what_is_held(autojump_clock, pair):
    async with pair.network.ready() as runner:
        await runner.say(spawn("1.1", "sleep"))
        await runner.hear(Started)
    began = trio.current_time()
    async with pair.other.ready() as runner:
        assert runner.listed == (("1.1", "running", 0),)
        assert trio.current_time() == began
    async with pair.network.ready() as runner:
        assert runner.listed == (("1.1", "running", 0),)
    assert not pair.processes.children[0].kills


async def test_each_connection_of_a_process_has_a_number(autojump_clock, pair):
    networks = [pair.network, pair.other] * 2
    for number, network in enumerate(networks, 1):
        async with network.welcome() as runner:
            assert runner.hello.connection == number


async def test_it_says_which_server_it_means(autojump_clock, pair):
    async with pair.network.ready():
        await settle()
        pair.other.is_up = False
    async with pair.network.ready():
        await settle()
    assert "connected to the one, 2 slots" in pair.said
    assert "next try in 0.0 s at the other" in pair.said
    assert "no connection to the other: the network is down" in pair.said


@pytest.mark.parametrize("detach", [2, 10, 120])
async def test_while_none_is_there_each_is_tried_before_jobs_must_be_stopped(
    autojump_clock, pair, detach
):
    async with pair.network.ready(detach_ms=detach * 1000, heartbeat_ms=300) as runner:
        await runner.say(spawn("1.1", "sleep"))
        await runner.hear(Started)
        pair.other.is_up = pair.network.is_up = False
    await trio.sleep(0.8 * detach)
    tries = [line for line in pair.said if line.startswith("no connection")]
    assert sum("the one" in line for line in tries) >= 3
    assert sum("the other" in line for line in tries) >= 3
    assert len(tries) < 60
    pair.other.is_up = True
    async with pair.other.ready(detach_ms=detach * 1000, heartbeat_ms=300) as runner:
        assert runner.listed == (("1.1", "running", 0),)
    assert not pair.processes.children[0].kills


async def test_a_goodbye_is_not_waited_for_while_there_is_another(autojump_clock, pair):
    began = trio.current_time()
    async with pair.network.welcome() as runner:
        await runner.say(Goodbye("busy", "come back later", retry_after_ms=60_000))
        await runner.hear_end()
    async with pair.other.ready():
        assert trio.current_time() == began
    # The other one is lost now, and back at once; the busy one has its minute.
    async with pair.other.ready():
        assert trio.current_time() - began < 1
        pair.other.is_up = False
    async with pair.network.ready():
        assert 60 <= trio.current_time() - began < 90


async def test_one_that_does_not_answer_leaves_time_for_the_other(autojump_clock, pair):
    detach = 8.0
    async with pair.network.ready(detach_ms=detach * 1000) as runner:
        await runner.say(spawn("1.1", "sleep"))
        await runner.hear(Started)
        pair.other.connect_hangs = True
        lost = trio.current_time()
    async with pair.network.ready(detach_ms=detach * 1000) as runner:
        assert runner.listed == (("1.1", "running", 0),)
        assert trio.current_time() - lost < detach / 2


async def test_a_server_of_another_queue_is_passed_over_while_jobs_are_held(autojump_clock, pair):
    async with pair.network.ready(server_id="mine") as runner:
        await runner.say(spawn("1.1", "sleep"))
        await runner.hear(Started)
    began = trio.current_time()
    async with pair.other.welcome(server_id="not mine") as stranger:
        assert not await stranger.hear_end()
    async with pair.network.ready(server_id="mine") as runner:
        assert runner.listed == (("1.1", "running", 0),)
        assert trio.current_time() - began < 1
    assert not pair.processes.children[0].kills


async def test_servers_that_throw_it_out_at_once_are_not_dialled_without_a_pause(
    autojump_clock, pair
):
    times = []
    for _ in range(20):
        for network in (pair.network, pair.other):
            async with (await network.answer()).peer() as runner:
                await runner.hear(Hello)
                times.append(trio.current_time())
                await runner.say(Goodbye("unauthorized", "no"))
                await runner.hear_end()
    assert times[-1] > 60


# --- real ones ---


class Home(RecordingHost):
    """One server of the queue `home`: a `RemoteRunner`, and the cables that lead to it."""

    id = "home"

    def __init__(self, token=None):
        super().__init__()
        self.runner = RemoteRunner(port=None, settings=ServerSettings(token=token))
        self.adopted = {}
        self._life = None

    def adopt(self, run, size):
        self.adopted[run.id] = Recorder()
        return Adoption(self.adopted[run.id], 0)

    async def connect(self):
        if self._life is None:
            raise OSError("nobody there")
        ours, theirs = memory_stream_pair()
        self._life.start_soon(self.runner.handle_stream, theirs)
        return ours

    @asynccontextmanager
    async def alive(self):
        async with self.runner.open(self), trio.open_nursery() as self._life:
            try:
                yield
            finally:
                self._life.cancel_scope.cancel()
                self._life = None

    async def worker(self):
        """Until a worker is here."""
        while not self.ready:
            await self.next_capacity(self.capacities)


@pytest.fixture
async def real(nursery):
    """Starts a worker of both homes; its processes, and what it said."""
    processes, said = SimulatedProcesses(), []

    def start(*homes, token=None):
        worker = Worker(
            Identity("w-1", "b-1", "name", 2, token=token),
            [Server(home.connect, f"home {number}") for number, home in enumerate(homes, 1)],
            processes,
            rng=lambda: 0.9,
            now=lambda: 0.0,
            say=said.append,
        )
        nursery.start_soon(worker.run)
        return processes, said

    return start


async def counter(child):
    """Writes a digit a second."""
    for number in range(10):
        await child.write(b"%d" % number)
        await trio.sleep(1)
    return 0


async def test_what_began_at_a_server_that_died_ends_at_the_other(autojump_clock, real):
    first, second = Home(), Home()
    processes, _ = real(first, second)
    processes.programs["count"] = counter
    async with second.alive():
        async with first.alive():
            await first.worker()
            begun = Recorder(acks=False)  # what is durable nowhere is sent again
            first.runner.start("1.1", Command("count"), {}, begun)
            await begun.until(b"012")
        await second.worker()
        assert second.ready == [("w-1", "b-1", frozenset({"1.1"}))]
        outcome = await second.adopted["1.1"].end()
        assert (outcome.reason, outcome.exit_code) == (Reason.EXIT, 0)
        assert second.adopted["1.1"].data == b"0123456789"
        assert [worker.state for worker in second.runner.workers()] == ["ready"]
    assert not processes.children[0].kills


async def test_a_server_that_refuses_the_token_leaves_it_to_the_other(autojump_clock, real):
    strict, ours = Home(token="another"), Home(token="ours")
    async with strict.alive(), ours.alive():
        _, said = real(strict, ours, token="ours")
        await ours.worker()
        assert not strict.ready
    assert any("no work from home 1: the worker's token is missing" in line for line in said)


async def test_the_runner_knows_the_number_of_a_connection(autojump_clock, real):
    first, second = Home(), Home()
    real(first, second)
    for number, home in enumerate((first, second, first), 1):
        home.ready.clear()
        async with home.alive():
            await home.worker()
            (worker,) = home.runner._pool
            assert (worker.boot, worker.connection) == ("b-1", number)
