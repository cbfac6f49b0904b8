"""A server whose output lies in a bucket: the real commands, and a storage of the tests' own."""

import sys

import pytest
import trio

from tests.buckets import CLIENT, Storage
from tests.commands import PATIENCE, kill
from tests.torture.proxy import Proxy

pytest.importorskip("boto3", reason="boto3 is not installed (duplex-runner[s3])")
pytest.importorskip("moto", reason="moto is not installed (duplex-runner[dev])")

SIZE = 5_120_000
PRINT = "import os; [os.write(1, b'%07d\\n' % at * 128) for at in range({}, {})]"
"""Prints 1024 bytes for each number."""


def printed(first, last):
    return b"".join(b"%07d\n" % at * 128 for at in range(first, last))


@pytest.fixture
def storage(tmp_path):
    storage = Storage(tmp_path)
    try:
        yield storage
    finally:
        storage.close()


@pytest.fixture
def bucket(storage, service):
    service.env.update(CLIENT)
    return storage.new_bucket()


def segments_of(storage, bucket, job):
    return [key for key in storage.keys(bucket) if key.startswith(f"of/tests/logs/0/{job}/")]


def test_output_goes_on_byte_for_byte_after_the_server_was_killed(
    storage, bucket, service, tmp_path
):
    go = tmp_path / "go"
    options = ("--logs", storage.url(bucket))
    server = service.start_server(*options)
    ports = service.facts
    service.start_worker()
    script = (
        f'python3 -c "{PRINT.format(0, 2500)}"; while [ ! -e {go} ]; do sleep 0.01; done;'
        f' python3 -c "{PRINT.format(2500, 5000)}"'
    )
    log = (tmp_path / "followed").open("wb")
    client = service.start_verb("run", "--", "sh", "-c", script, stdout=log)
    service.wait_for(lambda: len(segments_of(storage, bucket, 1)) > 1, "output in the bucket")
    kill(server)
    server = service.start_server(
        *options, "--port", ports["port"], "--http-port", ports["http_port"]
    )
    service.wait_for(lambda: service.json("workers"), "the worker to come back")
    go.touch()
    assert client.wait(2 * PATIENCE) == 0
    log.close()
    assert (tmp_path / "followed").read_bytes() == printed(0, 5000)
    assert len(printed(0, 5000)) == SIZE
    assert service.output(1) == printed(0, 5000)
    assert service.verb("logs", 1, "--tail", 1).stdout == b"0004999\n"
    assert {key.rpartition("/")[2][:10] for key in segments_of(storage, bucket, 1)} == {
        "0000000000", "0000000001",
    }  # fmt: skip
    assert not (service.data_dir / "logs").exists()
    assert "Found credentials" not in service.logs()


def test_results_lie_there_too_and_all_of_it_goes_with_its_job(storage, bucket, service, tmp_path):
    service.start_server("--logs", storage.url(bucket), "--log-level", "debug")
    service.start_worker()
    job, output = service.run(
        "sh", "-c", f'mkdir $JOB_SCRATCH/results; python3 -c "{PRINT.format(0, 200)}" |'
        " tee $JOB_SCRATCH/results/big",
    )  # fmt: skip
    assert (job["state"], output) == ("succeeded", printed(0, 200))
    assert "of/tests/results/0/1/1" in storage.keys(bucket)
    assert service.request("/api/v1/jobs/1/results/big") == printed(0, 200)
    assert service.verb("prune", "--older-than", "1ms").returncode == 0
    service.wait_for(lambda: storage.keys(bucket) == ["of/tests/queue"], "all of it to go")
    assert CLIENT["AWS_SECRET_ACCESS_KEY"] not in service.logs()
    assert CLIENT["AWS_ACCESS_KEY_ID"] not in service.logs()  # signed requests have it


async def test_output_waits_while_the_bucket_is_away(storage, bucket, service, nursery):
    proxy = Proxy(lambda: int(storage.endpoint.rpartition(":")[2]))
    await nursery.start(proxy.run)
    url = storage.url(bucket).replace(storage.endpoint, f"http://127.0.0.1:{proxy.port}")

    def go_away():
        proxy.refuses = True
        proxy.cut()

    def begin():
        service.start_server("--logs", url)
        service.start_worker()
        service.run("true")
        trio.from_thread.run_sync(go_away)
        job = service.submit("python3", "-c", PRINT.format(0, 1000))
        service.wait_for(
            lambda: "output waits for its storage" in service.logs(), "that output waits"
        )
        assert service.run("echo", "little")[1] == b"little\n"
        assert service.job(job)["finished_at"] is None
        return job

    def end(job):
        service.wait_for(lambda: service.job(job)["finished_at"], "its end")
        assert service.output(job) == printed(0, 1000)

    job = await trio.to_thread.run_sync(begin)
    proxy.refuses = False
    await trio.to_thread.run_sync(end, job)


def test_a_server_that_may_not_use_it_says_so(storage, bucket, service):
    for url, status, sentence in (
        (storage.url("nobodys"), 78, "NoSuchBucket; see that there is such a bucket"),
        ("s3://bucket/x?token=secret", 2, "keys never stand in it"),
        ("s3://bucket/x?endpoint=http://127.0.0.1:1", 74, "start again when it does"),
    ):
        server = service.start("refused", sys.executable, "-m", "remote_runner", "--logs", url)
        assert server.wait(PATIENCE) == status
        assert sentence in service.logs().replace("\n", " ")
