"""A command as the messages of the protocol, and their `close` as an outcome. Pure.

Owns the change of units: seconds and bytes here, Node's milliseconds and kilobytes on the wire.
"""

import math
from typing import Final

from remote_runner.protocol.messages import MAX_INTEGER, Close, Spawn, SpawnOptions
from remote_runner.types import Command, Outcome, Reason

DEFAULT_PATH: Final = "/usr/local/bin:/usr/bin:/bin"
_REASONS: Final = {
    reason.value: reason
    for reason in (
        Reason.EXIT, Reason.SIGNAL, Reason.TIMEOUT, Reason.KILLED, Reason.SPAWN_ERROR,
        Reason.ABANDONED,
    )
}  # fmt: skip
"""What a worker may give as the reason of a `close`."""


def milliseconds(seconds: float | None) -> int | None:
    """Rounded up: a limit is never shortened."""
    return None if seconds is None else math.ceil(seconds * 1000)


def spawn(run_id: str, command: Command) -> Spawn:
    """What a full worker is told to run."""
    options = SpawnOptions(
        id=run_id,
        cwd=command.cwd,
        set_env=dict(command.env),
        shell=command.shell,
        argv0=command.argv0,
        timeout_ms=milliseconds(command.timeout),
        kill_signal=command.kill_signal,
        kill_grace_ms=milliseconds(command.kill_grace),
        stdin="ignore" if command.stdin is None else "pipe",
        max_output=command.max_output,
        detach_ms=milliseconds(command.detach),
        max_results=command.max_results or None,
        mask=command.mask,
    )
    return Spawn(command.command, command.args, options)


def baseline_spawn(command: Command) -> Spawn:
    """What a baseline worker is told to run: Node's own options alone."""
    own = {key: value for key, value in command.env.items() if not key.startswith("JOB_")}
    options = SpawnOptions(
        cwd=command.cwd,
        env={"PATH": DEFAULT_PATH, **command.env} if own else None,
        shell=command.shell,
        argv0=command.argv0,
        timeout_ms=milliseconds(command.timeout),
        kill_signal=None if command.kill_signal == "SIGTERM" else command.kill_signal,
    )
    return Spawn(command.command, command.args, options)


def outcome_of(close: Close, received: int, kill_reason: Reason | None) -> Outcome:
    """What a worker says of the end of a run of which `received` bytes came.

    `kill_reason` says why it was told to end it, for workers that give no reason themselves.
    """
    reason = _REASONS.get(close.reason or "")
    if reason is None:
        reason = Reason.EXIT if close.code is not None else Reason.SIGNAL
        reason = kill_reason or reason
    return Outcome(
        reason=reason,
        exit_code=close.code,
        signal=close.signal,
        output_bytes=received if close.offset is None else close.offset,
        duration=None if close.duration_ms is None else close.duration_ms / 1000,
        # What no machine has is a lie; a larger number would fit into no database.
        max_rss=None if close.max_rss_kb is None else min(close.max_rss_kb * 1024, MAX_INTEGER),
        cpu_time=None if close.cpu_ms is None else close.cpu_ms / 1000,
    )
