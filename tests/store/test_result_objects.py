"""Results in a bucket: collected in a folder, and there when they are whole."""

import pytest
import trio

from queued_runner.result_files import ResultFile
from queued_runner.results import INLINE_LIMIT, Results
from queued_runner.store.base import OutputAway, ResultGone
from remote_runner.results import Head, encode_head
from remote_runner.results import ResultFile as Named
from tests.buckets import MemoryBucket
from tests.queue.conftest import inline

pytest.importorskip("boto3", reason="boto3 is not installed (duplex-runner[s3])")

from queued_runner.result_objects import ResultObjects

BIG = bytes(range(256)) * 1000
STREAM = encode_head(Head((Named("big", len(BIG)),), ())) + BIG


@pytest.fixture
def bucket():
    return MemoryBucket()


@pytest.fixture
def results(bucket, tmp_path, nursery):
    results = Results(ResultObjects(bucket, tmp_path / "incoming"), run_sync=inline)
    nursery.start_soon(results.run)
    return results


class Sent:
    """The results of an attempt, as its owner of an epoch gets them."""

    def __init__(self, results, epoch=0, attempt=1, job=1):
        self.taken = 0
        self.kept = []
        self.arriving = results.open(job, attempt, 1 << 30, self._on_taken, epoch)

    def _on_taken(self, offset):
        self.taken = offset

    def send(self, data=STREAM):
        self.arriving.append(data)
        return self

    def close(self):
        self.arriving.close(self.kept.append)
        return self


def incoming(tmp_path):
    return [path.name for path in (tmp_path / "incoming").rglob("*") if path.is_file()]


async def read(results, stored, attempt=1):
    place = stored.head.offset_of("big")
    return b"".join([piece async for piece in results.read(1, attempt, stored, *place)])


async def test_they_are_there_when_they_are_whole(bucket, results, tmp_path, autojump_clock):
    sent = Sent(results).send(STREAM[:100_000])
    await trio.sleep(1)
    assert (sent.taken, bucket.objects, incoming(tmp_path)) == (100_000, {}, ["1"])
    sent.send(STREAM[100_000:]).close()
    await trio.sleep(1)
    (stored,) = sent.kept
    assert bucket.objects == {"results/0/1/1": STREAM}
    assert incoming(tmp_path) == []
    assert await read(results, stored) == BIG


async def test_they_wait_for_their_storage(bucket, results, autojump_clock):
    bucket.is_away = True
    sent = Sent(results).send().close()
    await trio.sleep(100)
    assert sent.kept == []
    bucket.is_away, bucket.swallows = False, True
    await trio.sleep(10)
    assert sent.kept == []
    bucket.swallows = False
    await trio.sleep(10)
    (stored,) = sent.kept
    assert await read(results, stored) == BIG
    bucket.is_away = True
    with pytest.raises(OutputAway):
        await read(results, stored)


async def test_one_that_was_deleted_is_gone(bucket, results, autojump_clock):
    sent = Sent(results).send().close()
    await trio.sleep(1)
    await results.remove([1, 2])
    assert bucket.objects == {}
    with pytest.raises(ResultGone, match="it cannot be read any more: No such file"):
        await read(results, sent.kept[0])


async def test_owners_do_not_harm_each_other(bucket, results, tmp_path, autojump_clock):
    first = Sent(results).send(STREAM[:100_000])
    await trio.sleep(1)
    second = Sent(results, 2).send().close()
    first.send(b"?" * INLINE_LIMIT)
    await trio.sleep(1)
    first.arriving.discard()  # its end was stale
    await trio.sleep(1)
    assert list(bucket.objects) == ["results/0/1/1.2"]
    assert incoming(tmp_path) == []
    assert await read(results, second.kept[0]) == BIG


async def test_what_earlier_owners_left_goes_with_the_end(bucket, results, autojump_clock):
    for attempt, epoch in ((1, 0), (1, 1), (1, 10), (1, 12), (2, 0), (11, 0)):
        Sent(results, epoch, attempt).send().close()
    bucket.objects["results/0/1/notes"] = b"somebody's"
    await trio.sleep(1)
    results.remove_older(1, 1, 10)
    results.remove_older(7, 1, 10)  # it has left nothing
    await trio.sleep(1)
    left = sorted(name.rpartition("/")[2] for name in bucket.objects)
    assert left == ["1.10", "1.12", "11", "2", "notes"]


async def test_a_new_server_keeps_what_rows_name(bucket, results, autojump_clock):
    for epoch in (0, 1, 2):
        Sent(results, epoch).send().close()
    bucket.objects["results/0/01/1"] = bucket.objects["results/mine/1"] = b"somebody's"
    await trio.sleep(1)
    await results.tidy([ResultFile(1, 1, 1)])
    assert sorted(bucket.objects) == ["results/0/01/1", "results/0/1/1.1", "results/mine/1"]


async def test_results_that_are_not_whole_leave_no_object(
    bucket, results, tmp_path, autojump_clock
):
    sent = Sent(results).send(STREAM[:-1]).close()
    await trio.sleep(1)
    assert not sent.kept[0].head.files
    assert (bucket.objects, incoming(tmp_path)) == ({}, [])
