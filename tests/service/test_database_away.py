"""The database of a server is away for a while: who asks is told, what runs goes on, nobody waits
for ever.
"""

import json
import time
import urllib.error
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.commands import Service
from tests.postgres import Postgres, binaries_or_skip

AWAY = 3.0
"""Seconds; for longer: python -m tests.torture database."""
PROMPT = 6.0
"""Seconds in which each request is answered, and all is back once the database is: twice as long as
it takes, because the machine may be busy with other tests."""
REQUESTS = (
    ("/api/v1/jobs", {"command": "true"}),
    ("/api/v1/jobs", None),
    ("/api/v1/jobs/1", None),
    ("/api/v1/jobs/1/cancel", {}),
    ("/readyz", None),
)


@pytest.fixture
def cluster() -> Iterator[Postgres]:
    """A PostgreSQL that this test alone may stop."""
    cluster = Postgres(binaries_or_skip(), is_durable=True)
    try:
        yield cluster
    finally:
        cluster.close()


def status(service: Service, path: str, body: object = None) -> int:
    """What a request is answered with, in time; with 503 it says when to ask again."""
    begin = time.monotonic()
    try:
        service.request(path, body)
        return 200
    except urllib.error.HTTPError as error:
        with error:
            assert "detail" in json.load(error)
            assert "Retry-After" in error.headers or path == "/readyz"
            return error.code
    finally:
        assert time.monotonic() - begin < PROMPT, path


def test_a_database_that_is_away_loses_nothing(
    cluster: Postgres, service: Service, tmp_path: Path
) -> None:
    service.start_server("--store", cluster.new_queue())
    service.start_worker()
    script = f"echo one; until [ -e {tmp_path}/go ]; do sleep 0.05; done; echo two; exit 7"
    client = service.start_verb("run", "--", "sh", "-c", script)
    service.wait_for(lambda: service.jobs() and service.output(1) == b"one\n", "the job")
    cluster.stop()
    is_away = partial(status, service, "/readyz")
    service.wait_for(lambda: is_away() == 503, "the server to notice")
    late = service.start_verb("run", "--", "echo", "late")  # waits, and says so
    until = time.monotonic() + AWAY
    (tmp_path / "go").touch()
    while time.monotonic() < until:
        assert [status(service, *request) for request in REQUESTS] == [503] * len(REQUESTS)
        time.sleep(0.1)
    cluster.start()
    begin = time.monotonic()
    service.wait_for(lambda: is_away() == 200 and status(service, "/api/v1/jobs") == 200, "it")
    assert time.monotonic() - begin < PROMPT
    stdout, stderr = client.communicate(timeout=60)
    assert (client.returncode, stdout) == (7, b"one\ntwo\n"), stderr
    stdout, stderr = late.communicate(timeout=60)
    assert (late.returncode, stdout) == (0, b"late\n"), stderr
    assert b"going on when it is back" in stderr
    assert len(service.jobs()) == 2
