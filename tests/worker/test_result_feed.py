"""Results at their worker: sent behind the output, again after a cut, until the end is durable."""

import tempfile

import trio

from remote_runner.protocol.messages import Close, Closed, OutputChunk, ResultChunk, Resume, Stale
from simple_worker.result_feed import READ, ResultFeed
from simple_worker.results import Archive
from tests.worker.test_worker import spawn

STREAM = b"{}\n" + b"0123456789"


class Watched(Archive):
    """One in memory that tells when it is closed."""

    is_closed = False

    def close(self):
        self.is_closed = True


async def leaver(child):
    child.results = Watched(STREAM[:3], STREAM[3:], len(STREAM) - 3)
    await child.write(b"out")
    return 0


async def hear_all(runner, offset=0):
    """The results from `offset` on, and the end behind them."""
    data = b""
    while True:
        message = await runner.hear((OutputChunk, ResultChunk, Close))
        if isinstance(message, Close):
            return data, message
        assert isinstance(message, ResultChunk)
        assert message.offset == offset + len(data)
        assert message.id == "1.1"
        data += message.data


async def test_they_come_between_output_and_end_in_chunks(autojump_clock, bench):
    bench.processes.programs["leaver"] = leaver
    bench.start()
    async with bench.network.ready(max_chunk=4) as runner:
        await runner.say(spawn("1.1", "leaver", max_results=100))
        assert (await runner.hear(OutputChunk)).data == b"out"
        data, close = await hear_all(runner)
        assert data == STREAM
        assert (close.offset, close.results) == (3, len(STREAM))
        (child,) = bench.processes.children
        assert child.launch.command.max_results == 100
        assert not child.results.is_closed
        await runner.say(Closed("1.1"))
        await trio.testing.wait_all_tasks_blocked()
        assert child.results.is_closed


async def test_they_are_sent_again_from_where_the_runner_says(autojump_clock, bench):
    bench.processes.programs["leaver"] = leaver
    bench.start()
    async with bench.network.ready() as runner:
        await runner.say(spawn("1.1", "leaver", max_results=100))
        await hear_all_of_first(runner)
    for known in (0, 5, len(STREAM), 3):
        async with bench.network.ready() as runner:
            assert runner.listed == (("1.1", "ended", 3),)
            await runner.say(Resume("1.1", 3, known))
            data, close = await hear_all(runner, known)
            assert data == STREAM[known:]
            assert close.results == len(STREAM)
    async with bench.network.ready() as runner:
        await runner.say(Resume("1.1", 3))  # of a runner that knows nothing of results
        assert (await hear_all(runner))[0] == STREAM
        await runner.say(Resume("1.1", 3, 10**9))  # of one that lies
        await runner.hear(Close)


async def hear_all_of_first(runner):
    assert (await runner.hear(OutputChunk)).data == b"out"
    assert (await hear_all(runner))[0] == STREAM


async def test_stale_ones_are_forgotten(autojump_clock, bench):
    bench.processes.programs["leaver"] = leaver
    bench.start()
    async with bench.network.ready() as runner:
        await runner.say(spawn("1.1", "leaver", max_results=100))
        await hear_all_of_first(runner)
        await runner.say(Stale("1.1"))
        await trio.testing.wait_all_tasks_blocked()
        assert bench.processes.children[0].results.is_closed


async def test_those_of_an_attempt_that_becomes_stale_while_it_runs_are_forgotten(
    autojump_clock, bench
):
    async def stubborn(child):
        with trio.CancelScope(shield=True):
            await trio.sleep(5)
        return await leaver(child)

    bench.processes.programs["stubborn"] = stubborn
    bench.start()
    async with bench.network.ready() as runner:
        await runner.say(spawn("1.1", "stubborn", max_results=100))
        await trio.testing.wait_all_tasks_blocked()
        await runner.say(Stale("1.1"))
        await trio.sleep(10)
        assert bench.processes.children[0].results.is_closed


# --- from a disk ---


def on_disk(tmp_path, data):
    file = tempfile.TemporaryFile(dir=tmp_path, buffering=0)  # noqa: SIM115 it stays open
    file.write(data)
    return Archive(b"{}\n", file, len(data))


async def drain(feed, more, limit=100_000):
    """What it gives from here on."""
    got = b""
    with trio.fail_after(20):
        while not feed.is_all_given:
            piece = feed.next(limit)
            if piece is None:
                await more.wait()
                more = feed_more[feed]
                continue
            got += piece[0]
    return got


feed_more = {}


def make(nursery, archive):
    """A feed, and an event that is renewed each time that it has more."""

    def on_more():
        event, feed_more[feed] = feed_more[feed], trio.Event()
        event.set()

    feed = ResultFeed(archive, trio.CapacityLimiter(1), nursery.start_soon, on_more)
    feed_more[feed] = trio.Event()
    return feed


async def test_what_is_on_disk_is_read_ahead_and_from_anywhere(tmp_path, nursery):
    data = bytes(range(256)) * (2 * READ // 256 + 77)
    feed = make(nursery, on_disk(tmp_path, data))
    assert await drain(feed, feed_more[feed]) == b"{}\n" + data
    for offset in (0, 1, READ, feed.size):
        feed.resume(offset)
        assert await drain(feed, feed_more[feed]) == (b"{}\n" + data)[offset:]
    feed.resume(0)
    assert feed.next(5) is None  # it reads
    feed.resume(READ + 5)
    assert await drain(feed, feed_more[feed]) == (b"{}\n" + data)[READ + 5 :]
    feed.drop()


async def test_a_disk_that_fails_ends_them_and_holds_nothing_up(tmp_path, nursery):
    archive = on_disk(tmp_path, b"x" * READ * 2)
    feed = make(nursery, archive)
    archive._body.truncate(READ)
    got = await drain(feed, feed_more[feed])
    assert feed.size is None
    assert feed.is_all_given
    assert len(got) == READ + 3
    feed.drop()


async def test_dropped_while_it_reads_it_closes_its_file(tmp_path, nursery):
    archive = on_disk(tmp_path, b"x" * READ)
    feed = make(nursery, archive)
    assert feed.next(5) is None
    feed.drop()
    with trio.fail_after(20):
        await feed_more[feed].wait()
    assert archive._body.closed
    assert feed.next(5) is None
