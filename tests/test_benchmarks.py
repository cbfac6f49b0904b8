"""Every benchmark starts, ends and prints its figures; how good they are is no test's matter."""

import json
import shutil
import signal
import sys
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks.__main__ import NAMES
from benchmarks.beside import Beside
from benchmarks.publish import CURVES, DOCUMENT, RECORD
from benchmarks.rows import Curve, Goal, Row
from tests.commands import PATIENCE, Service, is_alive


@pytest.mark.skipif(shutil.which("cc") is None, reason="the limits are measured by a C program")
@pytest.mark.parametrize("name", [*(name.partition("_")[0] for name in NAMES), "curves"])
def test_a_quick_run_prints_rows_and_records_nothing(service: Service, name: str) -> None:
    written = [path.read_bytes() for path in (RECORD, CURVES, DOCUMENT)]
    bench = service.start("bench", sys.executable, "-m", "benchmarks", "--quick", name)
    assert bench.wait(1.5 * PATIENCE) == 0, service.logs()
    title = "one job against" if name == "curves" else f"{name.upper()} "
    assert f"│ {title}" in service.logs()
    assert [path.read_bytes() for path in (RECORD, CURVES, DOCUMENT)] == written
    assert list(service.temporary.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_benchmark_that_is_ended_leaves_nothing_behind(service: Service, number: int) -> None:
    bench = service.start("bench", sys.executable, "-m", "benchmarks", "--quick", "p6")
    service.wait_for(lambda: list(service.temporary.glob("*/*/*/worker-id")), "its worker")
    started = descendants(bench.pid)
    assert len(started) >= 2, service.logs()
    bench.send_signal(number)
    assert bench.wait(PATIENCE) == 128 + number, service.logs()
    service.wait_for(lambda: not any(map(is_alive, started)), "the end of what it started")
    assert list(service.temporary.iterdir()) == []


def descendants(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    children = [int(child) for child in text.split()]
    return children + [each for child in children for each in descendants(child)]


def test_a_name_that_there_is_not_is_said_before_anything_is_measured(service: Service) -> None:
    bench = service.start("bench", sys.executable, "-m", "benchmarks", "p10", "p11")
    assert bench.wait(PATIENCE) == 2
    assert "nothing is called p11" in service.logs()


def test_a_ratio_is_that_of_the_rounds_and_a_goal_is_reached_by_their_median_or_by_each() -> None:
    row = Row("x", "s", [1, 4, 9], "limit", [1, 2, 3], Goal(2, is_ratio=True))
    assert (row.median, row.limit, row.ratio, row.reached) == (4, 2, 2, True)
    assert Row("x", "s", [1, 4, 9], goal=Goal(5, is_at_most=True)).reached
    assert not Row("x", "s", [1, 4, 9], goal=Goal(5, is_at_most=True, each=True)).reached
    assert Row("x", "s", [1]).reached is None


def test_what_is_recorded_is_read_back() -> None:
    row = Row("x", "s", [1, 4], "limit", [2, 3], Goal(5, is_at_most=True))
    curve = Curve("x", "y against x", "x", "y", {1: [2.0, 3.0], 10: [4.0]})
    assert Row.from_json(json.loads(json.dumps(row.as_json()))) == row
    assert Curve.from_json(json.loads(json.dumps(curve.as_json()))) == curve


def test_a_slow_peer_gets_less_work_and_one_that_fails_is_left_out(tmp_path: Path) -> None:
    asked, failures = [], []

    def slow(folder: Path, total: int) -> float:
        asked.append(total)
        return 8.0

    def broken(folder: Path, total: int) -> float:
        failures.append(total)
        raise OSError("no such thing")

    peers = []
    for name, measure in (("slow", slow), ("broken", broken)):
        peer = ModuleType(name)
        vars(peer).update(NAME=name, rate=measure)
        peers.append((peer, tmp_path))
    beside = Beside(peers, "rate")
    beside.round(5_000)
    beside.round(5_000)
    assert (asked, failures) == ([100, 80, 80], [100, 100, 100])
    (row,) = beside.rows(Row("ours", "jobs/s", [16.0, 24.0]), {"slow": 2.5})
    assert (row.limit_name, row.ratio, row.reached) == ("slow", 2.5, True)
