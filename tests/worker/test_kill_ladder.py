"""`KillLadder`: which signal when."""

import signal

import pytest

from remote_runner.types import Command, Reason
from simple_worker.kill_ladder import KillLadder


class Climbed(KillLadder):
    """A ladder that began at 0, with a clock: `sent` are its signals and when they came."""

    def __init__(self, **options):
        self.now = 0.0
        self.sent = []
        super().__init__(Command("x", **options), self._keep, 0.0)

    def _keep(self, number):
        self.sent.append((number, self.now))

    def wait(self, seconds):
        end = self.now + seconds
        while self.due <= end:
            self.now = max(self.now, self.due)
            self.climb(self.now)
            if self.is_over:
                break
        self.now = end

    def kill(self, reason, signal_name=None, grace=None):
        self.begin(reason, signal_name, grace, self.now)


def test_a_process_without_a_limit_is_left_alone():
    quiet = Climbed()
    quiet.wait(1e6)
    quiet.climb(quiet.now)
    assert quiet.sent == []
    assert quiet.reason is None


def test_a_timeout_is_followed_by_sigkill_after_the_grace():
    timed = Climbed(timeout=5.0, kill_grace=2.0, kill_signal="SIGINT")
    timed.wait(60)
    assert timed.sent == [(signal.SIGINT, 5.0), (signal.SIGKILL, 7.0)]
    assert timed.reason is Reason.TIMEOUT


def test_climbing_early_sends_nothing():
    timed = Climbed(timeout=5.0)
    timed.climb(4.9)
    assert (timed.sent, timed.reason, timed.due) == ([], None, 5.0)


def test_a_kill_before_the_timeout_is_the_reason():
    killed = Climbed(timeout=5.0, kill_grace=10.0)
    killed.wait(4)
    killed.kill(Reason.KILLED)
    killed.wait(60)
    assert killed.sent == [(signal.SIGTERM, 4.0), (signal.SIGKILL, 14.0)]
    assert killed.reason is Reason.KILLED


def test_a_kill_at_once_is_sent_at_once():
    killed = Climbed()
    killed.kill(Reason.KILLED, "SIGHUP", 1.0)
    assert killed.sent == [(signal.SIGHUP, 0.0)]
    killed.wait(60)
    assert killed.sent == [(signal.SIGHUP, 0.0), (signal.SIGKILL, 1.0)]


def test_a_second_kill_sharpens_the_first():
    killed = Climbed(kill_grace=100.0)
    killed.kill(Reason.KILLED)
    killed.wait(1)
    killed.kill(Reason.ABANDONED, "SIGQUIT", 2.0)
    killed.wait(60)
    assert killed.sent == [(signal.SIGTERM, 0.0), (signal.SIGQUIT, 1.0), (signal.SIGKILL, 3.0)]
    assert killed.reason is Reason.KILLED


def test_nothing_follows_sigkill():
    killed = Climbed(kill_grace=1.0)
    killed.kill(Reason.KILLED)
    killed.wait(60)
    killed.kill(Reason.KILLED, "SIGINT")
    killed.wait(60)
    assert [number for number, _ in killed.sent] == [signal.SIGTERM, signal.SIGKILL]


@pytest.mark.parametrize("end", [4.0, 6.0])
def test_nothing_is_sent_to_a_process_that_has_ended(end):
    ended = Climbed(timeout=5.0, kill_grace=2.0)
    ended.wait(end)
    ended.stop()
    reason = ended.reason
    ended.kill(Reason.KILLED)
    ended.wait(60)
    assert ended.reason is reason
    assert all(at < end for _, at in ended.sent)


@pytest.mark.parametrize("name", ["SIGNONE", "9", "SIGRTMIN+x"])
def test_an_unknown_signal_is_sigterm(name):
    killed = Climbed(kill_grace=1.0, kill_signal=name)
    killed.kill(Reason.KILLED)
    killed.wait(60)
    assert killed.sent == [(signal.SIGTERM, 0.0), (signal.SIGKILL, 1.0)]
