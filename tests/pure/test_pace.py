"""How fast, and how long still."""

from hypothesis import given
from hypothesis import strategies as st

from queued_runner.cli.pace import MEMORY, Pace


def test_nothing_is_known_at_first() -> None:
    pace = Pace(5.0, 10)
    assert (pace.rate, pace.seconds_for(3)) == (0.0, None)
    pace.add(5.0, 20)
    assert pace.seconds_for(3) is None
    pace.add(9.0, 10)
    assert pace.seconds_for(3) is None


@given(st.floats(0.01, 1000), st.integers(1, 300))
def test_a_steady_pace_is_found(rate: float, steps: int) -> None:
    pace = Pace(0.0, 0)
    for second in range(1, steps + 1):
        pace.add(float(second), round(second * rate * 1000))
    assert abs(pace.rate - rate * 1000) <= 1
    left = pace.seconds_for(5000)
    assert left is not None
    assert abs(left - 5 / rate) <= 5 / rate * 0.1


def test_what_was_long_ago_does_not_count() -> None:
    pace = Pace(0.0, 0)
    pace.add(1.0, 1_000_000)
    for second in range(2, 200):
        pace.add(float(second), 1_000_000 + second)
    assert 0.9 < pace.rate < 1.1
    assert len(pace._points) <= MEMORY + 2
