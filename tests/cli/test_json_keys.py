"""What `--json` prints has the keys that docs/command-line.md promises, and no others."""

import json
import re

import pytest

from queued_runner.jobs import JobSpec
from tests.cli.conftest import ROOT, Verb, jobs
from tests.cli.service_thread import ServiceThread

PAGE = (ROOT / "docs/command-line.md").read_text()


def promised(kind: str) -> set[str]:
    """The keys in the table of this kind."""
    (table,) = re.findall(rf"\| key of {kind} \| \|\n\|---\|---\|\n((?:\|.*\n)+)", PAGE)
    firsts = [row.split("|")[1] for row in table.splitlines()]
    return {key for first in firsts for key in re.findall(r"`(\w+)`", first)}


@pytest.fixture
def ended(service: ServiceThread) -> None:
    service.do(service.queue.add, *jobs(2, group="g"))
    service.do(service.queue.start, 1)
    service.do(service.queue.finish, 1)
    service.do(service.queue.start, 2)
    service.do(service.queue.finish, 2)


JOB = promised("a job") | set(JobSpec.model_fields)


@pytest.mark.parametrize(
    "arguments", [["ps"], ["ps", "1-2"], ["ps", "-g", "g"], ["wait", "1-2"], ["cancel", "1,2"]]
)
def test_jobs(service: ServiceThread, ended: None, verb: Verb, arguments: list[str]) -> None:
    found = json.loads(verb(*arguments, "--json").stdout)
    assert len(found) == 2
    assert [set(job) for job in found] == [JOB, JOB]


def test_a_job_with_its_attempts(service: ServiceThread, ended: None, verb: Verb) -> None:
    shown = json.loads(verb("show", 1, "--json").stdout)
    (attempt,) = shown.pop("attempts")
    assert (shown.pop("results"), shown.pop("results_left_out")) == ([], [])
    assert set(shown) == JOB
    assert set(attempt) == promised("an attempt")


def test_workers(service: ServiceThread, verb: Verb) -> None:
    (worker,) = json.loads(verb("workers", "--json").stdout)
    assert set(worker) == promised("a worker")


def test_servers(service: ServiceThread, verb: Verb) -> None:
    (server,) = json.loads(verb("servers", "--json").stdout)
    assert set(server) == promised("a server")
