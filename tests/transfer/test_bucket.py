"""Queues whose output goes into a bucket, and out of it again."""

from io import BytesIO

import pytest

from queued_runner.errors import TransferRefused
from queued_runner.output_places import OutputPlace
from queued_runner.store.base import OutputAway
from queued_runner.stores import opened_at_rest
from queued_runner.transfer.export import export_queue
from queued_runner.transfer.format import BadLine
from queued_runner.transfer.importing import import_queue
from tests.buckets import MemoryBucket
from tests.transfer.test_engines import fill

pytest.importorskip("boto3", reason="boto3 is not installed (duplex-runner[s3])")

from queued_runner.log_objects import LogObjects
from queued_runner.result_objects import ResultObjects


@pytest.fixture
def bucket():
    return MemoryBucket()


@pytest.fixture
def place(bucket, tmp_path):
    results = ResultObjects(bucket, tmp_path / "incoming")
    return OutputPlace(LogObjects(bucket), results, bucket.place, bucket=bucket)


@pytest.fixture
def exported(new_place):
    source = new_place("sqlite")
    fill(source)
    return source.export()


def test_all_of_it_comes_out_as_it_went_in(new_place, place, bucket, exported):
    copy = new_place("sqlite")
    with opened_at_rest(copy.settings, is_filled=True) as queue:
        import_queue(queue, BytesIO(exported), place, 120.0)
        assert copy.files() == {}
        again = BytesIO()
        done = export_queue(queue, place, again.write)
    assert done.missing == 0
    assert {name.split("/")[0] for name in bucket.objects} == {"logs", "results"}
    folder = new_place("sqlite")
    folder.fill(again.getvalue())
    with opened_at_rest(copy.settings) as queue:
        assert again.getvalue() == folder.export()


@pytest.mark.parametrize("name", ["logs/0/1/1/theirs", "results/0/1/1"])
def test_nothing_that_is_there_is_written_over(new_place, place, bucket, exported, name):
    bucket.objects[name] = b"theirs"
    with opened_at_rest(new_place("sqlite").settings, is_filled=True) as queue:
        with pytest.raises(TransferRefused, match="is not empty"):
            import_queue(queue, BytesIO(exported), place, 120.0)
        assert queue.store.whole.is_empty()
    assert bucket.objects == {name: b"theirs"}


def test_nothing_is_left_of_half_an_import(new_place, place, bucket, exported, monkeypatch):
    with opened_at_rest(new_place("sqlite").settings, is_filled=True) as queue:
        with pytest.raises(BadLine):
            import_queue(queue, BytesIO(exported[: -len(exported) // 5]), place, 120.0)
        assert bucket.objects == {}
        monkeypatch.setattr(bucket, "swallows", True)
        with pytest.raises(OutputAway):
            import_queue(queue, BytesIO(exported), place, 120.0)
        assert bucket.objects == {}
        assert queue.store.whole.is_empty()
