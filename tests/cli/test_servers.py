"""Servers, and the servers of workers, as tables."""

from typing import Any

import pytest

from queued_runner.cli.tables import print_table, servers_table, workers_table
from tests.cli.conftest import Verb
from tests.cli.service_thread import ServiceThread


def worker(name: str, server: str, state: str = "ready") -> dict[str, Any]:
    return {
        "name": name, "state": state, "running": [], "slots": 1, "taken": 0, "address": "here",
        "version": "1", "labels": {}, "server": server,
    }  # fmt: skip


def heads(capsys: pytest.CaptureFixture[str], *workers: dict[str, Any]) -> list[str]:
    print_table(workers_table(iter(workers)))
    return capsys.readouterr().out.splitlines()[0].split()


def test_workers_have_servers_where_there_are_several(capsys: pytest.CaptureFixture[str]) -> None:
    assert "SERVER" not in heads(capsys)
    assert "SERVER" not in heads(capsys, worker("a", "one"), worker("b", "one"))
    assert "SERVER" not in heads(capsys, worker("a", "one"), worker("b", "", "away"))
    assert "SERVER" in heads(capsys, worker("a", "one"), worker("b", "two"))


def test_servers(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(
        servers_table([{"name": "one", "id": "f00", "silence": 1.5, "workers": 3, "running": 12}])
    )
    head, line = capsys.readouterr().out.splitlines()
    assert head.split() == ["NAME", "SILENT", "WORKERS", "RUNNING", "ID"]
    assert line.split()[0] == "one"
    assert line.split()[-3:] == ["3", "12", "f00"]


def test_the_verb(service: ServiceThread, verb: Verb) -> None:
    assert "fake" in verb("servers").stdout
