"""`Door`: a bounded rate, a turn for each who is turned away, and everyone is in before long."""

import heapq
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_runner.door import BURST, PATIENCE, RATE, Door
from simple_worker.backoff import reconnect_delay
from simple_worker.worker import FENCE


@given(st.lists(st.tuples(st.floats(0, 60), st.integers(1, 700)), max_size=20))
def test_no_more_come_in_than_the_rate_allows(visits):
    door = Door()
    now, let_in = 1000.0, []
    for pause, count in visits:
        now += pause
        for _ in range(count):
            wait = door.knock(now)
            if wait is None:
                let_in.append(now)
            else:
                assert 0 < wait <= PATIENCE
    for index, first in enumerate(let_in):
        for last in range(index, len(let_in), 97):
            assert last - index + 1 <= BURST + RATE * (let_in[last] - first) + 1


@pytest.mark.parametrize("count", [64, BURST])
def test_a_machine_or_a_small_fleet_never_notices_it(count):
    door = Door()
    assert all(door.knock(5.0) is None for _ in range(count))


def test_who_is_turned_away_has_a_turn_of_its_own():
    door = Door()
    waits = [wait for _ in range(BURST + 1000) if (wait := door.knock(0.0)) is not None]
    assert len(waits) == 1000
    assert waits == pytest.approx([(index + 1) / RATE for index in range(1000)])


@pytest.mark.parametrize("seed", range(5))
def test_ten_thousand_workers_are_back_before_they_stop_their_jobs(seed):
    rng = random.Random(seed)
    door = Door()
    calls = [(rng.random(), number) for number in range(10_000)]  # their first try after the cut
    heapq.heapify(calls)
    last, knocks = 0.0, 0
    while calls:
        now, number = heapq.heappop(calls)
        knocks += 1
        wait = door.knock(now)
        if wait is None:
            last = now
        else:
            heapq.heappush(calls, (now + reconnect_delay(1, rng.random, wait), number))
    assert last < FENCE * 120 / 2
    assert knocks < 30_000
