"""What the queue tells: each thing once, after it is true, in the order in which it became so."""

import trio

from queued_runner import open_runner
from queued_runner.jobs import JobSpec
from remote_runner.runner import RemoteRunner
from remote_runner.server import ServerSettings
from tests.queue.conftest import Wire


def told(events, *names):
    """The events so far: kind, job, and these facts."""
    found = events.read(events.begin(None)[0], 1000)[2]
    return [(event.kind, event.job, *(event.facts.get(name) for name in names)) for event in found]


def jobs(events, *names):
    return [item for item in told(events, *names) if item[0].startswith("job.")]


async def test_the_life_of_jobs_in_order(tmp_path):
    async with open_runner(data_dir=tmp_path, local_slots=1) as runner:
        good, bad = await runner.submit_many(
            [
                JobSpec(command="true", group="g", name="n", key="k"),
                JobSpec(command="sh", args=("-c", "exit 3"), retries=1, backoff=0.0),
            ]
        )
        await runner.wait(good)
        await runner.wait(bad)
        again = await runner.submit("true", group="g", name="n", key="k")
        assert again == good
        later = await runner.submit("true", delay=3600)
        await runner.cancel(later)
        await runner.cancel(later)
        await runner.cancel(good)
        facts = ("attempt", "state", "reason", "exit_code", "worker")
        assert jobs(runner.events, *facts)[:2] == [
            ("job.new", good, *[None] * 5),
            ("job.new", bad, *[None] * 5),
        ]
        assert [item for item in jobs(runner.events, *facts)[2:] if item[1] == good] == [
            ("job.started", good, 1, None, None, None, "local"),
            ("job.done", good, 1, "succeeded", "exit", 0, "local"),
        ]
        assert [item for item in jobs(runner.events, *facts)[2:] if item[1] == bad] == [
            ("job.started", bad, 1, None, None, None, "local"),
            ("job.retry", bad, 1, "queued", "exit", 3, "local"),
            ("job.started", bad, 2, None, None, None, "local"),
            ("job.done", bad, 2, "failed", "exit", 3, "local"),
        ]
        assert jobs(runner.events, *facts)[-2:] == [
            ("job.new", later, *[None] * 5),
            ("job.cancelled", later, 0, "cancelled", "cancelled", None, None),
        ]
        assert told(runner.events, "worker_id")[0] == ("worker.joined", None, "local")
        figures = await runner.figures()
        assert (figures.tally.added, figures.tally.retried) == (3, 1)
        assert figures.tally.ended == {"succeeded": 1, "failed": 1, "cancelled": 1}
        assert sum(figures.tally.dispatch.counts) == 3
        assert 0 < figures.commits <= figures.operations
        assert figures.workers == {"ready": 1}


async def test_a_new_server_knows_which_jobs_are_old(tmp_path):
    async with open_runner(data_dir=tmp_path, local_slots=1) as runner:
        job = await runner.submit("true", key="k")
        await runner.wait(job)
        before = runner.events.boot
    async with open_runner(data_dir=tmp_path, local_slots=1) as runner:
        assert await runner.submit("true", key="k") == job
        new = await runner.submit("true")
        await runner.wait(new)
        assert [item[0] for item in jobs(runner.events) if item[1] == job] == []
        assert [item[0] for item in jobs(runner.events) if item[1] == new] == [
            "job.new", "job.started", "job.done",
        ]  # fmt: skip
        assert runner.events.boot != before


async def test_a_worker_that_goes_and_comes_back(
    autojump_clock, queue, processes, start_worker, nursery
):
    job = queue.add("live")
    wire = Wire(nursery)
    wire.runner = RemoteRunner(port=None, settings=ServerSettings())
    async with queue.server(wire.runner) as dispatcher:
        start_worker(wire, "w")
        await trio.sleep(5)
        await wire.cut("w")
        await trio.sleep(1)
        wire.cut_off.clear()
        await queue.end_of(dispatcher, job)
        assert [item[:2] for item in told(dispatcher.events)] == [
            ("worker.joined", None), ("job.started", job),
            ("worker.left", None), ("job.detached", job),
            ("worker.joined", None), ("job.attached", job),
            ("job.done", job),
        ]  # fmt: skip


async def test_what_ran_through_a_restart_is_told_as_away_and_back(
    autojump_clock, queue, processes, start_worker, nursery
):
    job = queue.add("live")
    wire = Wire(nursery)
    settings = ServerSettings()
    wire.runner = RemoteRunner(port=None, settings=settings)
    async with queue.server(wire.runner):
        start_worker(wire, "w")
        await trio.sleep(5)
    wire.runner = RemoteRunner(port=None, settings=settings)
    async with queue.server(wire.runner) as dispatcher:
        await queue.end_of(dispatcher, job)
        assert [item[:2] for item in told(dispatcher.events)] == [
            ("job.detached", job), ("worker.joined", None), ("job.attached", job),
            ("job.done", job),
        ]  # fmt: skip
