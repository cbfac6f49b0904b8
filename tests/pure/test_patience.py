"""`Patience`: pauses grow, and end when the time is over."""

from hypothesis import given
from hypothesis import strategies as st

from queued_runner.client.patience import LONGEST_PAUSE, Patience


@given(st.floats(0, 300), st.lists(st.floats(0, 60), max_size=200))
def test_patience_ends_in_time_and_never_rushes(seconds: float, delays: list[float]) -> None:
    now = 0.0
    patience = Patience(seconds, lambda: now)
    assert patience.is_fresh
    before = 0.0
    for delay in delays:
        pause = patience.next_pause()
        assert not patience.is_fresh
        if pause is None:
            assert now >= seconds
            break
        assert now < seconds
        assert 0 < pause <= LONGEST_PAUSE
        assert now + pause <= seconds or pause == seconds - now
        assert pause >= min(before, seconds - now)
        before, now = pause, now + pause + delay
    patience.reset()
    assert patience.is_fresh
