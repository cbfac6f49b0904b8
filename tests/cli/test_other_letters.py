"""A terminal that has not all letters: what it lacks is spelled out, and nothing else is lost."""

import json
import os

import pytest

from queued_runner.jobs import JobSpec
from tests.cli.conftest import StartVerb
from tests.cli.service_thread import PATIENCE, ServiceThread

NAME = "grün 日本"


@pytest.mark.parametrize(("encoding", "shown"), [("latin-1", "grün"), ("ascii", r"gr\xfcn")])
def test_names_are_shown_as_far_as_they_can_be(
    service: ServiceThread, start_verb: StartVerb, encoding: str, shown: str
) -> None:
    service.do(service.queue.add, JobSpec(command="true", name=NAME))
    env = {**os.environ, "PYTHONIOENCODING": encoding}
    table, _ = start_verb("ps", env=env).communicate(timeout=PATIENCE)
    assert rf"{shown} \u65e5\u672c" in table.decode(encoding)
    text, _ = start_verb("ps", "--json", env=env).communicate(timeout=PATIENCE)
    assert [job["name"] for job in json.loads(text.decode(encoding))] == [NAME]
