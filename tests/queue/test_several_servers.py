"""Two servers on one queue, in virtual time: what users see and steer through either of them."""

from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

import pytest
import trio
from trio.testing import memory_stream_pair

import queued_runner.service
from queued_runner.config import Settings
from queued_runner.errors import WorkerLeaves, WorkerNotFound
from queued_runner.fleet import LEASE
from queued_runner.jobs import JobState
from queued_runner.overview import FRESH
from queued_runner.service import open_queue
from queued_runner.store.sqlite import SQLiteStore
from queued_runner.stores import OpenStore
from queued_runner.testing.fake_worker import open_fake_worker
from remote_runner.runner import RemoteRunner
from remote_runner.types import WorkerInfo
from tests.queue.conftest import inline
from tests.queue.shared_store import Bus, BusHints, Connection


class Servers:
    """Opens servers on one queue; each is stopped when the test ends, or by `stop`."""

    def __init__(self, folder, monkeypatch):
        self._folder = folder
        self.store = SQLiteStore(":memory:")
        self.bus = Bus()
        self.links = {}
        self._remotes = {}
        self._stacks = {}
        (folder / "logs").mkdir()

        @contextmanager
        def opened(settings):
            link = self.links[settings.server_name] = Connection(self.store)
            yield OpenStore(link, link, 1, True, BusHints(self.bus))

        monkeypatch.setattr(queued_runner.service, "opened_store", opened)

    @asynccontextmanager
    async def server(self, name):
        remote = self._remotes[name] = RemoteRunner(port=None)
        settings = Settings(
            data_dir=self._folder / name, logs=self._folder / "logs", server_name=name
        )
        async with open_queue(
            settings, [remote], run_sync=inline, now=trio.current_time, rng=lambda: 0.5
        ) as queue:
            yield queue

    @asynccontextmanager
    async def worker(self, server, name, **options):
        """A fake worker, connected to the server of this name."""
        async with trio.open_nursery() as nursery:
            ours, theirs = memory_stream_pair()
            nursery.start_soon(self._remotes[server].handle_stream, theirs)
            async with open_fake_worker(ours, name, **options) as worker:
                await trio.testing.wait_all_tasks_blocked()
                yield worker
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    @asynccontextmanager
    async def baseline(self, server):
        """A worker that does not say hello."""
        async with trio.open_nursery() as nursery:
            ours, theirs = memory_stream_pair()
            nursery.start_soon(self._remotes[server].handle_stream, theirs)
            await trio.sleep(5)
            yield
            await ours.aclose()
            await trio.sleep(1)
            nursery.cancel_scope.cancel()


@pytest.fixture
def servers(tmp_path, monkeypatch):
    return Servers(tmp_path, monkeypatch)


@pytest.fixture
async def pair(servers):
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(servers.server(name)) for name in ("a", "b")]


async def seen(queue):
    """The workers by their names: their servers and states, and how many slots are free."""
    await trio.testing.wait_all_tasks_blocked()
    return {w.name: (w.server, w.state, w.free) for w in await queue.all_workers()}


async def test_each_server_shows_the_workers_of_all(servers, pair, autojump_clock):
    a, b = pair
    async with servers.worker("a", "w1", slots=2, labels={"gpu": "1"}):
        async with servers.worker("b", "w2"):
            for queue in pair:
                assert await seen(queue) == {"w1": ("a", "ready", 2), "w2": ("b", "ready", 1)}
            assert [worker.name for worker in a.workers()] == ["w1"]
        assert await seen(a) == {"w1": ("a", "ready", 2)}
        (shown,) = await b.all_workers()
        (known,) = await a.all_workers()
        assert shown == known
        assert isinstance(shown, WorkerInfo)
    assert await seen(a) == await seen(b) == {}


async def test_what_runs_elsewhere_takes_slots_there(servers, pair, autojump_clock):
    a, b = pair
    async with servers.worker("a", "w1", slots=2, labels={"gpu": "1"}) as worker:
        first = await b.submit("x", needs={"gpu": "1"})
        run = await worker.next_run()
        assert await seen(b) == {"w1": ("a", "ready", 1)}
        (shown,) = await b.all_workers()
        assert shown.running == (f"{first}.1",)
        explanation = await b.explain(first)
        assert "it runs on w1 since" in explanation.reason
        assert await b.servers_of([await b.get(first)]) == ["a"]
        await a.submit("x")
        await worker.next_run()
        third = await a.submit("x")
        fit = (await b.explain(third)).workers
        assert [(each.name, each.fits, each.why) for each in fit] == [
            ("w1", True, "its 2 slots are taken")
        ]
        await trio.sleep(FRESH + 0.1)
        assert await b.pending_reason(await b.get(third)) == await a.pending_reason(
            await a.get(third)
        )
        other = await b.submit("x", needs={"gpu": "2"})
        assert "no connected worker has" in await b.pending_reason(await b.get(other))
        assert "no connected worker has" in (await b.explain(other)).reason
        await run.end()
        assert await b.servers_of([await b.get(first)]) == [None]


@pytest.mark.parametrize("is_mute", [False, True])
async def test_a_worker_is_drained_and_resumed_through_another_server(
    servers, pair, is_mute, autojump_clock
):
    a, b = pair
    servers.bus.is_mute = is_mute
    async with servers.worker("a", "w1") as worker:
        job = await a.submit("x")
        run = await worker.next_run()
        shown = await b.drain_worker("w1")
        assert (shown.state, shown.server, shown.running) == ("draining", "a", (f"{job}.1",))
        assert (await seen(b))["w1"][1] == "draining"
        await trio.sleep(LEASE / 4 if is_mute else 0.2)
        assert a.workers()[0].state == "draining"
        await run.end()
        later = await b.submit("x")
        assert await seen(b) == await seen(a) == {"w1": ("a", "drained", 0)}
        assert "resume" in (await b.explain(later)).reason
        assert (await b.drain_worker("w1")).state == "drained"
        assert (await b.resume_worker("w1")).state == "ready"
        await trio.sleep(LEASE / 4 if is_mute else 0.2)
        await (await worker.next_run()).end()
        assert (await b.wait(later)).state == "succeeded"
        assert await seen(b) == {"w1": ("a", "ready", 1)}


async def test_a_drain_goes_with_the_worker_to_another_server(servers, pair, autojump_clock):
    a, b = pair
    async with servers.worker("a", "w1"):
        await b.drain_worker("w1")
    await trio.sleep(0.2)
    assert await seen(a) == await seen(b) == {"w1": ("", "away", 0)}
    async with servers.worker("b", "w1"):
        assert await seen(a) == await seen(b) == {"w1": ("b", "drained", 0)}
        assert (await a.resume_worker("w1")).state == "ready"
        await trio.sleep(0.2)
        assert await seen(a) == await seen(b) == {"w1": ("b", "ready", 1)}
    with pytest.raises(WorkerNotFound):
        await a.resume_worker("w1")


async def test_what_another_server_cannot_drain_or_resume(servers, pair, autojump_clock):
    b = pair[1]
    for worker_id in ("w1", "", "x" * 10_000):
        for verb in (b.drain_worker, b.resume_worker):
            with pytest.raises(WorkerNotFound):
                await verb(worker_id)
    async with servers.worker("a", "w1") as worker:
        await worker.drain()
        assert await seen(b) == {"w1": ("a", "draining", 0)}
        assert (await b.drain_worker("w1")).state == "draining"
        with pytest.raises(WorkerLeaves):
            await b.resume_worker("w1")


async def test_the_drain_of_a_worker_that_never_comes_back_is_forgotten(
    servers, pair, autojump_clock
):
    a, b = pair
    async with servers.baseline("a"):
        ((name, (server, state, _)),) = (await seen(b)).items()
        assert (server, state) == ("a", "ready")
        (shown,) = await b.all_workers()
        await b.drain_worker(shown.id)
        await trio.sleep(0.2)
        assert (await seen(a))[name][1] == "drained"
    await trio.sleep(LEASE / 4)
    assert await seen(a) == await seen(b) == {}
    assert servers.store.drained_workers() == {}


async def test_servers_know_each_other_until_they_leave(servers, autojump_clock):
    async with servers.server("b") as b, servers.worker("b", "w1") as worker:
        async with servers.server("a") as a:
            await b.submit("x")
            await worker.next_run()
            for queue in (a, b):
                found = await queue.servers()
                assert [(s.name, s.workers, s.running) for s in found] == [
                    ("a", 0, 0), ("b", 1, 1)
                ]  # fmt: skip
                assert all(0 <= each.silence < LEASE for each in found)
                assert len({each.id for each in found}) == 2
            await trio.sleep(LEASE)
            assert (await b.figures()).servers == 2
            await a.drain_worker("w1")
        assert [each.name for each in await b.servers()] == ["b"]
        await trio.sleep(LEASE / 4)
        assert (await b.figures()).servers == 1


async def test_a_server_that_begins_anew_says_again_which_workers_it_has(
    servers, pair, autojump_clock
):
    b = pair[1]
    async with servers.worker("a", "w1"):
        before = {each.name: each.id for each in await b.servers()}
        servers.store.bury(before["a"], trio.current_time(), 10.0)
        assert await seen(b) == {}
        await trio.sleep(LEASE)  # it hangs up, so that its workers come again
        assert await seen(b) == {}
    async with servers.worker("a", "w1"):
        assert await seen(b) == {"w1": ("a", "ready", 1)}
        after = {each.name: each.id for each in await b.servers()}
        assert after["b"] == before["b"]
        assert after["a"] != before["a"]


async def test_figures_are_told_while_the_database_is_away(servers, pair, autojump_clock):
    a = pair[0]
    assert (await a.figures()).is_up
    servers.links["a"].is_away = True
    await trio.sleep(LEASE)
    figures = await a.figures()
    assert (figures.is_up, figures.jobs, figures.server) == (False, {}, "a")
    servers.links["a"].is_away = False
    await trio.sleep(LEASE)
    figures = await a.figures()
    assert (figures.is_up, figures.servers) == (True, 2)
    assert set(figures.jobs) == set(JobState)
