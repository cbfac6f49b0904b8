"""`KillLadder` against the list of what should be sent when, for any orders at any times."""

import signal

from hypothesis import given
from hypothesis import strategies as st

from remote_runner.signals import signal_number
from remote_runner.types import Command, Reason
from simple_worker.kill_ladder import KillLadder

# Orders come at whole seconds, timeouts and graces end between them: nothing happens at once.
orders = st.tuples(
    st.sampled_from(Reason),
    st.none() | st.sampled_from(["SIGINT", "SIGHUP", "SIGRTMIN+3"]),
    st.none() | st.integers(0, 5).map(lambda number: number + 0.5),
)
scripts = st.dictionaries(st.integers(0, 20), orders | st.just("stop"), max_size=5).map(
    lambda script: sorted(script.items())
)
commands = st.builds(
    Command,
    st.just("x"),
    timeout=st.none() | st.integers(0, 20).map(lambda number: number + 0.3),
    kill_signal=st.sampled_from(["SIGTERM", "SIGQUIT"]),
    kill_grace=st.integers(0, 8).map(lambda number: number + 0.5),
)


def expected(command, script):
    """The signals with their times, and the reason."""
    sent, reason = [], None
    name, grace = command.kill_signal, command.kill_grace
    timers = [] if command.timeout is None else [(command.timeout, "timeout")]
    while script or timers:
        at, what = min([*script[:1], *timers], key=lambda item: item[0])
        if timers and what is timers[0][1]:
            if what == "last":
                return [*sent, (signal.SIGKILL, at)], reason
            what = (Reason.TIMEOUT, None, None)
        else:
            script = script[1:]
        if what == "stop":
            return sent, reason
        reason = reason or what[0]
        name, grace = what[1] or name, grace if what[2] is None else what[2]
        sent.append((signal_number(name), at))
        timers = [(at + grace, "last")]
    return sent, reason


@given(commands, scripts)
def test_every_signal_comes_when_it_is_due_and_no_other(command, script):
    sent = []
    now = 0.0
    ladder = KillLadder(command, lambda number: sent.append((number, now)), now)
    for at, order in [*script, (1000, "stop")]:
        while ladder.due <= at and not ladder.is_over:
            now = ladder.due
            ladder.climb(now)
        now = at
        if order == "stop":
            ladder.stop()
        else:
            ladder.begin(*order, now)
    assert (sent, ladder.reason) == expected(command, script)
