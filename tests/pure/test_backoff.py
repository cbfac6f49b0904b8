"""`reconnect_delay`: bounded, jittered, and the server's word comes first."""

from hypothesis import given
from hypothesis import strategies as st

from simple_worker.backoff import CEILING, FIRST, SHORTEST, TRIES, reconnect_delay

failures = st.integers(0, 10_000)
jitter = st.floats(0, 1, exclude_max=True)


@given(failures, jitter)
def test_the_delay_lies_below_a_doubling_ceiling(count, random):
    assert (
        0 <= reconnect_delay(count, lambda: random) <= min(CEILING, FIRST * 2.0 ** min(count, 100))
    )


@given(failures)
def test_the_jitter_is_full(count):
    ceiling = min(CEILING, FIRST * 2.0 ** min(count, 100))
    assert reconnect_delay(count, lambda: 0.0) == 0
    assert reconnect_delay(count, lambda: 0.5) == ceiling / 2


@given(failures, jitter, st.floats(0, 3600))
def test_what_is_held_can_wait_for_several_tries(count, random, patience):
    delay = reconnect_delay(count, lambda: random, patience=patience)
    assert delay <= max(SHORTEST, patience / TRIES)


@given(failures, jitter, st.floats(0, 3600))
def test_the_server_says_when_not_before(count, random, wish):
    assert wish <= reconnect_delay(count, lambda: random, wish) <= max(1.25 * wish, FIRST)


@given(failures)
def test_a_server_that_says_at_once_is_not_dialled_without_a_pause(count):
    assert reconnect_delay(count, lambda: 0.5, 0.0) == FIRST / 2
