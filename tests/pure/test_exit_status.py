"""How a job ended, as the status of a process."""

import signal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queued_runner.cli.exit_status import ending, exit_status
from remote_runner.signals import signal_name


def job(state: str, reason: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"state": state, "reason": reason, "exit_code": None, "signal": None, **fields}


@pytest.mark.parametrize(
    ("ended", "status", "words"),
    [
        (job("succeeded", "exit", exit_code=0), 0, "succeeded"),
        (job("failed", "exit", exit_code=7), 7, "failed (exit 7)"),
        (job("failed", "signal", signal="SIGKILL"), 137, "failed (SIGKILL)"),
        (job("failed", "signal", signal="SIGTERM"), 143, "failed (SIGTERM)"),
        (job("failed", "signal", signal="SIGRTMIN"), 162, "failed (SIGRTMIN)"),
        (job("failed", "signal", signal="SIGRTMIN+1"), 163, "failed (SIGRTMIN+1)"),
        (job("failed", "signal", signal="SIGNEW"), 1, "failed (SIGNEW)"),
        (job("failed", "timeout", signal="SIGTERM"), 124, "failed (timeout)"),
        (job("failed", "timeout", exit_code=0), 124, "failed (timeout)"),
        (job("failed", "worker-lost"), 123, "failed (worker-lost)"),
        (job("failed", "quarantined"), 123, "failed (quarantined)"),
        (job("failed", "spawn-error", exit_code=127), 127, "failed (spawn-error)"),
        (job("failed", "dependency"), 1, "failed (dependency)"),
        (job("cancelled", "killed", signal="SIGTERM"), 130, "cancelled"),
        (job("cancelled"), 130, "cancelled"),
    ],
)
def test_each_end(ended: dict[str, Any], status: int, words: str) -> None:
    assert exit_status(ended) == status
    assert ending(ended) == words


@given(st.integers(1, signal.SIGRTMAX))
def test_a_signal_is_128_and_its_number(number: int) -> None:
    assert exit_status(job("failed", "signal", signal=signal_name(number))) == 128 + number


@given(
    st.sampled_from(["succeeded", "failed", "cancelled"]),
    st.sampled_from(["exit", "signal", "timeout", "spawn-error", "killed", None]),
    st.none() | st.integers(-(2**31), 2**31),
    st.none() | st.sampled_from(list(signal.Signals.__members__)) | st.text(max_size=9),
)
def test_only_success_is_zero(
    state: str, reason: str | None, exit_code: int | None, name: str | None
) -> None:
    ended = job(state, reason, exit_code=exit_code, signal=name)
    assert 0 <= exit_status(ended) <= 255
    assert (exit_status(ended) == 0) == (state == "succeeded")
    assert ending(ended)
