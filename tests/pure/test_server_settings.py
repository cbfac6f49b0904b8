"""`ServerSettings`: what can work is taken, what never can is refused with a sentence."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from remote_runner.errors import UnusableSettings
from remote_runner.server import MIN_HEARTBEAT, ServerSettings

heartbeats = st.floats(MIN_HEARTBEAT, 3600)


@given(heartbeats, st.floats(1, 1000))
def test_a_worker_may_be_away_for_three_heartbeats_or_more(heartbeat, factor):
    detach = 3 * heartbeat * factor
    assert ServerSettings("s", heartbeat=heartbeat, detach=detach).detach == detach


@given(heartbeats, st.floats(-1, 1, exclude_max=True))
def test_less_is_refused_with_both_ways_out(heartbeat, factor):
    detach = 3 * heartbeat * factor
    assume(detach < 3 * heartbeat)
    with pytest.raises(UnusableSettings) as caught:
        ServerSettings("s", heartbeat=heartbeat, detach=detach)
    assert f"detach must be at least {3 * heartbeat:g} s" in str(caught.value)
    assert "shorter heartbeat" in str(caught.value)


@pytest.mark.parametrize("heartbeat", [-1.0, 0.0, 0.09, math.nan, math.inf])
def test_no_pace_is_no_heartbeat(heartbeat):
    with pytest.raises(UnusableSettings, match=r"heartbeat must be at least 0\.1 s"):
        ServerSettings("s", heartbeat=heartbeat)


@pytest.mark.parametrize("detach", [math.nan, math.inf])
def test_no_time_is_no_detach(detach):
    with pytest.raises(UnusableSettings, match="detach must be at least 30 s"):
        ServerSettings("s", detach=detach)
