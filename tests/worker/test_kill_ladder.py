"""`KillLadder`: which signal when, in virtual time."""

import signal

import pytest
import trio

from remote_runner.types import Command, Reason
from simple_worker.kill_ladder import KillLadder
from simple_worker.signals import signal_name, signal_number


@pytest.fixture
def ladder(nursery):
    """Makes a ladder that climbs; `sent` are its signals with the seconds when they came."""

    def make(**options):
        sent = []
        began = trio.current_time()
        ladder = KillLadder(
            Command("x", **options),
            lambda number: sent.append((number, trio.current_time() - began)),
        )
        ladder.sent = sent
        nursery.start_soon(ladder.climb)
        return ladder

    return make


async def test_a_process_without_a_limit_is_left_alone(autojump_clock, ladder):
    quiet = ladder()
    await trio.sleep(1e6)
    assert quiet.sent == []
    assert quiet.reason is None


async def test_a_timeout_is_followed_by_sigkill_after_the_grace(autojump_clock, ladder):
    timed = ladder(timeout=5.0, kill_grace=2.0, kill_signal="SIGINT")
    await trio.sleep(60)
    assert timed.sent == [(signal.SIGINT, 5.0), (signal.SIGKILL, 7.0)]
    assert timed.reason is Reason.TIMEOUT


async def test_a_kill_before_the_timeout_is_the_reason(autojump_clock, ladder):
    killed = ladder(timeout=5.0, kill_grace=10.0)
    await trio.sleep(4)
    killed.begin(Reason.KILLED, None, None)
    await trio.sleep(60)
    assert killed.sent == [(signal.SIGTERM, 4.0), (signal.SIGKILL, 14.0)]
    assert killed.reason is Reason.KILLED


async def test_a_kill_at_once_is_not_lost(autojump_clock, ladder):
    killed = ladder()
    killed.begin(Reason.KILLED, "SIGHUP", 1.0)
    await trio.sleep(60)
    assert killed.sent == [(signal.SIGHUP, 0.0), (signal.SIGKILL, 1.0)]


async def test_a_second_kill_sharpens_the_first(autojump_clock, ladder):
    killed = ladder(kill_grace=100.0)
    killed.begin(Reason.KILLED, None, None)
    await trio.sleep(1)
    killed.begin(Reason.ABANDONED, "SIGQUIT", 2.0)
    await trio.sleep(60)
    assert killed.sent == [(signal.SIGTERM, 0.0), (signal.SIGQUIT, 1.0), (signal.SIGKILL, 3.0)]
    assert killed.reason is Reason.KILLED


@pytest.mark.parametrize("end", [4.0, 6.0])
async def test_nothing_is_sent_to_a_process_that_has_ended(autojump_clock, ladder, end):
    ended = ladder(timeout=5.0, kill_grace=2.0)
    await trio.sleep(end)
    ended.stop()
    reason = ended.reason
    ended.begin(Reason.KILLED, None, None)
    await trio.sleep(60)
    assert ended.reason is reason
    assert all(at < end for _, at in ended.sent)


@pytest.mark.parametrize("number", [1, 9, 15, 34, 35, 40, 63, 64])
def test_every_signal_has_a_name_and_its_name_means_it(number):
    assert signal_number(signal_name(number)) == number


@pytest.mark.parametrize("name", ["", "SIGNONE", "SIG_DFL", "SIGRTMIN+x", "9"])
def test_an_unknown_name_is_sigterm(name):
    assert signal_number(name) == signal.SIGTERM
