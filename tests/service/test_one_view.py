"""Two real servers on one PostgreSQL: each shows and steers what the other one has."""

import json
import signal
import sys

import pytest

from queued_runner.testing.service import RunningService
from tests.postgres import Postgres


@pytest.fixture
def servers(tmp_path, postgres: Postgres):
    """Two services on one queue; each has one server, which is running."""
    url = postgres.new_queue()
    output = tmp_path / "output"
    output.mkdir()
    with RunningService(tmp_path / "a") as a, RunningService(tmp_path / "b") as b:
        for name, service in (("a", a), ("b", b)):
            service.options = ("--store", url, "--logs", output, "--server-name", name)
            service.start_server(*service.options)
        yield a, b
    postgres.drop_queues()


def get(service, path):
    return json.loads(service.request(path))


def figures(service):
    """The values of the series without further labels, and that they all name their server."""
    lines = service.request("/metrics").decode().splitlines()
    values = [line.rpartition(" ") for line in lines if not line.startswith("#")]
    assert all('server="' in series for series, _, _ in values)
    return {series.partition("{")[0]: float(value) for series, _, value in values}


def test_what_one_server_has_is_seen_and_steered_through_the_other(servers):
    a, b = servers
    a.start_worker("w1", 1)
    b.wait_for(lambda: [w["server"] for w in b.json("workers")] == ["a"], "the worker of the other")
    running = b.submit("sleep", "100")
    b.wait_for(lambda: b.job(running)["server"] == "a", "the start at the other")
    waiting = b.submit("true")
    fits = get(b, f"/api/v1/jobs/{waiting}/explain")["workers"]
    assert [(fit["name"], fit["why"]) for fit in fits] == [("w1", "its slot is taken")]
    assert [(s["name"], s["workers"], s["running"]) for s in b.json("servers")] == [
        ("a", 1, 1), ("b", 0, 0)
    ]  # fmt: skip

    assert b.json("drain", "w1")["state"] == "draining"
    b.cancel(running)
    b.wait_for(lambda: b.job(running)["state"] == "cancelled", "the end")
    for service in servers:
        service.wait_for(
            lambda service=service: [w["state"] for w in service.json("workers")] == ["drained"],
            "the drain",
        )
    assert b.job(waiting)["state"] == "queued"
    assert "drained" in get(b, f"/api/v1/jobs/{waiting}/explain")["reason"]
    assert b.json("resume", "w1")["state"] == "ready"
    b.wait_for(lambda: b.job(waiting)["state"] == "succeeded", "the resumed worker")
    assert b.job(waiting)["server"] is None

    b.wait_for(lambda: figures(b)["duplex_runner_servers"] == 2, "a look at the others")
    assert figures(b)["duplex_runner_database_up"] == 1
    assert b'duplex_runner_server_info{id="' in b.request("/metrics")
    events = a.verb("events").stdout.decode().splitlines()
    assert {json.loads(line)["server"] for line in events} == {"a"}


def test_a_server_that_is_killed_has_what_its_agents_have_once_it_is_back(servers):
    a = servers[0]
    with RunningService(a.folder.parent / "c") as c:
        options = (*a.options[:-1], "c", "--agent-api")
        server = c.start_server(*options)
        facts = c.facts
        job = a.submit("sh", "-c", "echo begin; sleep 3; echo end")
        c.start("agent", sys.executable, "-m", "simple_worker", "--pull", facts["url"])
        a.wait_for(lambda: a.job(job)["server"] == "c", "the start at the agent")
        a.wait_for(lambda: b"begin" in a.output(job), "some output")
        server.send_signal(signal.SIGKILL)
        server.wait()
        c.start_server(*options, "--http-port", facts["http_port"])
        a.wait_for(lambda: a.job(job)["finished_at"], "the end")
        done = a.job(job)
        assert (done["state"], done["attempt"]) == ("succeeded", 1)
        assert a.output(job) == b"begin\nend\n"
