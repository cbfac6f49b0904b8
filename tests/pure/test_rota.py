"""`Rota`: the next server at once, a pause once all have failed, and each server's own word."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simple_worker.backoff import CEILING, FIRST, SHORTEST, TRIES
from simple_worker.rota import Rota

counts = st.integers(1, 6)
jitter = st.floats(0, 1, exclude_max=True)


def fail(rota, now, **how):
    """Dial the next one, which turns the worker away: which one, and when."""
    server, delay = rota.next(now)
    rota.on_end(server, now + delay, was_welcome=False, **how)
    return server, now + delay


@given(counts, st.integers(0, 1000))
def test_all_are_tried_before_any_is_waited_for(count, seed):
    rota = Rota(count, random.Random(seed).random)
    tried = [fail(rota, 5.0) for _ in range(count)]
    assert sorted(server for server, _ in tried) == list(range(count))
    assert {at for _, at in tried} == {5.0}


@given(st.integers(2, 6), st.integers(0, 1000))
def test_after_a_connection_the_others_come_first(count, seed):
    rota = Rota(count, random.Random(seed).random)
    lost, _ = rota.next(0.0)
    rota.on_welcome()
    rota.on_end(lost, 1000.0, was_welcome=True)
    others = [fail(rota, 1000.0) for _ in range(count - 1)]
    assert sorted([lost, *(server for server, _ in others)]) == list(range(count))
    assert {at for _, at in others} == {1000.0}
    assert rota.next(1000.0)[1] <= FIRST * 2


@given(counts, st.integers(1, 40))
def test_each_is_dialled_no_more_often_than_a_single_one(count, tries):
    rota, now = Rota(count, lambda: 0.5), 0.0
    seen = {server: [] for server in range(count)}
    for _ in range(tries * count):
        server, now = fail(rota, now)
        seen[server].append(now)
    for times in seen.values():
        for number, (before, after) in enumerate(zip(times, times[1:], strict=False), 1):
            assert after - before >= 0.5 * min(CEILING, FIRST * 2.0**number) - 1e-6


@given(counts, jitter, st.floats(0.001, 3600), st.integers(1, 30))
def test_what_is_held_can_wait_for_a_try_at_each(count, drawn, patience, tries):
    rota, now = Rota(count, lambda: drawn), 0.0
    for _ in range(tries * count):
        before, (_, now) = now, fail(rota, now, patience=patience)
        assert now - before <= max(SHORTEST, patience / TRIES) + 1e-6


@given(st.integers(2, 6), st.floats(1, 3600))
def test_one_that_says_when_keeps_nobody_from_the_others_and_is_left_alone(count, wish):
    rota, now = Rota(count, lambda: 0.5), 0.0
    busy, _ = fail(rota, now, retry_after=wish)
    while True:
        server, now = fail(rota, now)
        if server == busy:
            break
    assert now >= wish


def test_a_welcome_forgets_what_failed_before():
    rota = Rota(2, lambda: 0.5)
    now = 0.0
    for _ in range(20):
        _, now = fail(rota, now)
    server, _ = rota.next(now)
    rota.on_welcome()
    rota.on_end(server, now, was_welcome=True)
    _, delay = rota.next(now)
    assert delay <= CEILING / 2  # the other one's own, which was not over
    rota.on_end(1 - server, now, was_welcome=False)
    assert rota.next(now) == (server, FIRST / 2)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_workers_are_spread_and_so_are_those_of_a_server_that_dies(count):
    draw = random.Random(1).random
    ways = [0] * (count * count)
    for _ in range(2000):
        rota = Rota(count, draw)
        first, _ = rota.next(0.0)
        rota.on_end(first, 0.0, was_welcome=True)
        second, _ = rota.next(0.0)
        ways[first * count + second] += 1
    even = 2000 / (count * (count - 1))
    for first in range(count):
        for second in range(count):
            if first != second:
                assert 0.7 * even < ways[first * count + second] < 1.3 * even
