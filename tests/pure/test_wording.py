"""Times, sizes and paces in words."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queued_runner.cli.wording import ago, counted, duration, rate, size, took, why

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"), (0.004, "0 s"), (0.25, "0.25 s"), (1.5, "1.5 s"), (9.99, "9.99 s"),
        (9.996, "10 s"), (59.4, "59 s"), (59.6, "1 min"), (65, "1 min 5 s"), (3599.7, "1 h"),
        (7800, "2 h 10 min"), (86_400, "1 d"), (273_600, "3 d 4 h"), (-1, "0 s"),
    ],
)  # fmt: skip
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "just now"), (0.9, "just now"), (1, "1 s ago"), (59.9, "59 s ago"),
        (60, "1 min ago"), (3599, "59 min ago"), (7200, "2 h ago"), (200_000, "2 d ago"),
    ],
)  # fmt: skip
def test_times(seconds: float, words: str) -> None:
    assert ago((NOW - timedelta(seconds=seconds)).isoformat(), NOW) == words
    assert ago(None, NOW) == "-"


def test_how_long_something_took_or_runs() -> None:
    times = {"started_at": "2026-01-02T03:04:00Z", "finished_at": None}
    assert took(times, NOW) == "5 s"
    assert took({**times, "finished_at": "2026-01-02T03:04:02.500Z"}, NOW) == "2.5 s"
    assert took({**times, "state": "queued"}, NOW) == "-"
    assert took({"started_at": None, "finished_at": "2026-01-02T03:04:02Z"}, NOW) == "-"


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1_048_575, "1.0 MiB"),
        (3 << 29, "1.5 GiB"), (1 << 50, "1024.0 TiB"),
    ],
)  # fmt: skip
def test_sizes(count: int, words: str) -> None:
    assert size(count) == words


@pytest.mark.parametrize(
    ("a_second", "words"),
    [(120.4, "120/s"), (2.5, "2.5/s"), (2.0, "2/s"), (0.2, "12/min"), (0.001, "3.6/h"), (0, "0/h")],
)
def test_paces(a_second: float, words: str) -> None:
    assert rate(a_second) == words


def test_counts_name_what_there_is() -> None:
    assert (
        counted({"running": 3, "failed": 0, "succeeded": 10_000}) == "3 running, 10,000 succeeded"
    )
    assert counted({}) == ""


@given(st.floats(0, 1e10), st.floats(0, 1e10))
def test_longer_is_never_said_shorter(one: float, other: float) -> None:
    def back(words: str) -> float:
        units = {"d": 86_400, "h": 3600, "min": 60, "s": 1}
        parts = words.split()
        return sum(float(n) * units[u] for n, u in zip(parts[::2], parts[1::2], strict=True))

    assert one > other or back(duration(one)) <= back(duration(other))
    assert abs(back(duration(one)) - one) <= max(0.51, one / 20)


@pytest.mark.parametrize(
    ("job", "words"),
    [
        ({"state": "succeeded", "reason": "exit"}, None),
        ({"state": "queued", "reason": "exit"}, None),
        ({"state": "cancelled", "reason": "killed"}, "it was cancelled"),
        ({"reason": "exit", "exit_code": 3}, "the command ended with exit code 3"),
        ({"reason": "signal", "signal": "SIGKILL"}, "the command was ended by SIGKILL"),
        ({"reason": "spawn-error", "exit_code": 127}, "the command was not found at the worker"),
        ({"reason": "spawn-error", "exit_code": 126}, "the command cannot be executed"),
        ({"reason": "quarantined"}, "its worker was lost again and again"),
        ({"reason": "never heard of"}, None),
    ],
)
def test_why_a_job_did_not_succeed(job: dict, words: str | None) -> None:
    said = why({"state": "failed", "exit_code": None, "signal": None, **job})
    assert said is None if words is None else (said or "").startswith(words)
