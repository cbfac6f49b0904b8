"""The connection's state machine: its states and its transition table, and nothing else.

The runner's view of a worker's connection; the worker's view mirrors it. The diagram in
`docs/protocol.md` is drawn from `TRANSITIONS`, and a test holds the two together.
"""

from enum import StrEnum
from typing import Final

from remote_runner.protocol.messages import (
    Ack,
    Attempts,
    Close,
    Closed,
    Drain,
    Draining,
    Goodbye,
    Hello,
    Kill,
    OutputChunk,
    Ping,
    Pong,
    Ready,
    Refused,
    ResultChunk,
    Resume,
    Spawn,
    Stale,
    Started,
    Stdin,
    StdinEnd,
    Welcome,
    Withdraw,
)


class Role(StrEnum):
    """Which end of the connection we are."""

    RUNNER = "runner"
    WORKER = "worker"


class ConnectionState(StrEnum):
    """Where a connection stands."""

    CONNECTED = "connected"
    BASELINE = "baseline"
    GREETED = "greeted"
    """`hello` has come, `welcome` has not gone yet."""
    LISTING = "listing"
    """Welcomed; the worker lists what it still holds."""
    READY = "ready"
    DRAINING = "draining"
    CLOSED = "closed"
    ERROR = "error"


_S = ConnectionState

# state → message → next state. What is not here is not allowed there.
FROM_WORKER: Final[dict[ConnectionState, dict[type, ConnectionState]]] = {
    _S.CONNECTED: {Hello: _S.GREETED, Goodbye: _S.CLOSED},
    _S.BASELINE: {
        OutputChunk: _S.BASELINE, Close: _S.BASELINE, Ping: _S.BASELINE, Pong: _S.BASELINE,
        # A full worker of a machine that is busy: it was taken for a silent one.
        Hello: _S.GREETED, Goodbye: _S.CLOSED,
    },
    _S.GREETED: {Goodbye: _S.CLOSED},
    _S.LISTING: {
        Attempts: _S.LISTING, Ready: _S.READY, Ping: _S.LISTING, Pong: _S.LISTING,
        OutputChunk: _S.LISTING, ResultChunk: _S.LISTING, Close: _S.LISTING,
        Draining: _S.LISTING, Goodbye: _S.CLOSED,
    },
    _S.READY: {
        OutputChunk: _S.READY, ResultChunk: _S.READY, Close: _S.READY, Started: _S.READY,
        Refused: _S.READY, Ready: _S.READY, Ping: _S.READY, Pong: _S.READY,
        Draining: _S.DRAINING, Goodbye: _S.CLOSED,
    },
    _S.DRAINING: {
        OutputChunk: _S.DRAINING, ResultChunk: _S.DRAINING, Close: _S.DRAINING,
        Started: _S.DRAINING, Refused: _S.DRAINING, Ready: _S.DRAINING, Ping: _S.DRAINING,
        Pong: _S.DRAINING, Draining: _S.DRAINING, Goodbye: _S.CLOSED,
    },
    _S.CLOSED: {},
    _S.ERROR: {},
}  # fmt: skip

_WHILE_WORKING: Final = (
    Resume, Ack, Closed, Stale, Kill, Withdraw, Stdin, StdinEnd, Ping, Pong,
)  # fmt: skip

FROM_RUNNER: Final[dict[ConnectionState, dict[type, ConnectionState]]] = {
    _S.CONNECTED: {Goodbye: _S.CLOSED},
    _S.BASELINE: {
        Spawn: _S.BASELINE, Kill: _S.BASELINE, Pong: _S.BASELINE, Goodbye: _S.CLOSED,
    },
    _S.GREETED: {Welcome: _S.LISTING, Goodbye: _S.CLOSED},
    _S.LISTING: {**dict.fromkeys(_WHILE_WORKING, _S.LISTING), Goodbye: _S.CLOSED},
    _S.READY: {
        **dict.fromkeys(_WHILE_WORKING, _S.READY),
        Spawn: _S.READY, Drain: _S.DRAINING, Goodbye: _S.CLOSED,
    },
    _S.DRAINING: {
        **dict.fromkeys(_WHILE_WORKING, _S.DRAINING),
        # A spawn may cross the worker's `draining` on the wire; the worker refuses it.
        Spawn: _S.DRAINING, Drain: _S.DRAINING, Goodbye: _S.CLOSED,
    },
    _S.CLOSED: {},
    _S.ERROR: {},
}  # fmt: skip


def mermaid() -> str:
    """The table as a Mermaid state diagram: only the moves that change the state."""
    moves: dict[tuple[str, str], list[str]] = {("connected", "baseline"): ["(silence)"]}
    for who, table in (("worker", FROM_WORKER), ("runner", FROM_RUNNER)):
        for state, row in table.items():
            for message, target in row.items():
                if target is not state:
                    label = f"{who}: {message.__name__.lower()}"
                    moves.setdefault((state.value, target.value), []).append(label)
    lines = ["stateDiagram-v2", "    [*] --> connected"]
    lines += [f"    {a} --> {b}: {', '.join(what)}" for (a, b), what in moves.items()]
    return "\n".join([*lines, "    closed --> [*]"])
