"""Objects by name in storage that speaks S3, here a process of the tests' own."""

import pytest

from queued_runner.store.base import OutputAway
from remote_runner.errors import UnusableSettings
from tests.buckets import CLIENT, Storage

pytest.importorskip("boto3", reason="boto3 is not installed (duplex-runner[s3])")
pytest.importorskip("moto", reason="moto is not installed (duplex-runner[dev])")

from queued_runner import bucket as bucket_module
from queued_runner.bucket import Bucket, OutputRefused
from queued_runner.config import Settings
from queued_runner.errors import DataDirUnusable
from queued_runner.output_places import INCOMING, opened_output
from queued_runner.output_url import parse_output


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    storage = Storage(tmp_path_factory.mktemp("storage"))
    try:
        yield storage
    finally:
        storage.close()


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name, value in CLIENT.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def opened():
    """Opens parts of buckets, and closes them."""
    buckets = []

    def open_bucket(url):
        buckets.append(Bucket(parse_output(url)))
        return buckets[-1]

    yield open_bucket
    for bucket in buckets:
        bucket.close()


def test_objects_are_put_read_listed_and_deleted(storage, opened, tmp_path, monkeypatch):
    monkeypatch.setattr(bucket_module, "MAX_DELETED", 2)
    name = storage.new_bucket()
    storage.put(name, "of/tests-too/a", b"another's")
    bucket = opened(storage.url(name))
    (tmp_path / "body").write_bytes(b"from a file")
    bucket.put("a/1", b"hello")
    with (tmp_path / "body").open("rb") as body:
        bucket.put("a/2", body)
    for number in (3, 4, 5):
        bucket.put(f"a/{number}", b"")
    assert bucket.get("a/1", 1, 3) == b"ell"
    assert bucket.get("a/2", 5, 1000) == b"a file"
    assert bucket.get("a/2", 11, 1000) == b""
    assert list(bucket.names("a/", "a/3")) == [("a/4", 0), ("a/5", 0)]
    bucket.delete(["a/1", "never", "a/3", "a/4", "a/5"])
    assert list(bucket.names("")) == [("a/2", 11)]
    bucket.clear(["a/", "b/"])
    assert storage.keys(name) == ["of/tests-too/a"]
    with pytest.raises(FileNotFoundError):
        bucket.get("a/1", 0, 1)


def test_an_object_that_is_new_does_not_take_the_place_of_one(storage, opened):
    bucket = opened(storage.url(storage.new_bucket()))
    bucket.put("queue", b"one", is_new=True)
    with pytest.raises(OutputRefused, match="PreconditionFailed"):
        bucket.put("queue", b"two", is_new=True)
    assert bucket.get("queue", 0, 9) == b"one"


def test_one_that_does_not_answer_is_away(storage, opened, monkeypatch):
    monkeypatch.setattr(bucket_module, "ANSWER", 0.2)
    bucket = opened(storage.url(storage.new_bucket()))
    storage.stop()
    try:
        for ask in (
            lambda: bucket.put("a", b"x"),
            lambda: bucket.get("a", 0, 1),
            lambda: list(bucket.names("a")),
            lambda: bucket.delete(["a"]),
        ):
            with pytest.raises(OutputAway, match="does not answer"):
                ask()
    finally:
        storage.go_on()
    with pytest.raises(OutputAway, match="does not answer"):
        opened("s3://bucket/x?endpoint=http://127.0.0.1:1").put("a", b"x")


def settings_of(tmp_path, logs):
    return Settings(data_dir=tmp_path, logs=logs)


def test_a_place_belongs_to_one_queue(storage, tmp_path):
    settings = settings_of(tmp_path, storage.url(storage.new_bucket(), ""))
    for _ in range(2):
        (tmp_path / INCOMING / "0" / "1").mkdir(parents=True)  # half a result
        with opened_output(settings, "queue-1", is_shared=True) as place:
            assert place.folder is None
            assert not (tmp_path / INCOMING).exists()
    with pytest.raises(DataDirUnusable, match="that of another queue"):
        with opened_output(settings, "queue-2", is_shared=True):
            pass


def test_what_cannot_be_used_says_why(storage, tmp_path, monkeypatch):
    with pytest.raises(UnusableSettings, match="answers NoSuchBucket; see that there is"):
        with opened_output(
            settings_of(tmp_path, storage.url("nobodys")), "queue-1", is_shared=True
        ):
            pass
    url = "s3://bucket/x?endpoint=http://127.0.0.1:1"
    with pytest.raises(OutputAway, match=r"does not answer: .*; start again when it does"):
        with opened_output(settings_of(tmp_path, url), "queue-1", is_shared=True):
            pass
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(UnusableSettings, match="Unable to locate credentials"):
        with opened_output(
            settings_of(tmp_path, storage.url(storage.new_bucket())), "queue-1", is_shared=True
        ):
            pass
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(UnusableSettings, match="profile"):
        with opened_output(settings_of(tmp_path, url), "queue-1", is_shared=True):
            pass
