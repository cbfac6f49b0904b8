"""The typed vocabulary: every event of the protocol and its arguments, as `wire.py` reads them.

Durations are milliseconds here, as on the wire.
"""

from collections.abc import Mapping
from dataclasses import field
from typing import Final, Literal

from remote_runner.types import StreamName
from remote_runner.value import value

PROTOCOL_VERSION: Final = 1
MAX_EVENT_NAME: Final = 64
MAX_ID: Final = 64
MAX_TEXT: Final = 4096
MAX_ATTEMPTS_PER_EVENT: Final = 256
MAX_MASK: Final = 64 * 1024
"""Characters of all that one attempt has to hide."""
MASK: Final = "mask"
"""The feature of a worker that obeys `mask` of a spawn."""
AHEAD: Final = "ahead"
"""The feature of a worker that takes spawns ahead of its slots, and gives back at `withdraw` what
has not begun."""
AHEAD_PER_SLOT: Final = 8
"""Spawns a slot, beyond those that run, which such a worker takes; see `docs/decisions/0044`."""
MAX_INTEGER: Final = 1 << 53
"""The largest integer that every peer, JavaScript included, holds exactly."""


@value
class SpawnOptions:
    """Node's `child_process.spawn` options by their meaning; `None` is "as the worker does it"."""

    id: str | None = None
    cwd: str | None = None
    env: Mapping[str, str] | None = None
    set_env: Mapping[str, str] | None = None
    shell: bool | str = False
    argv0: str | None = None
    uid: int | None = None
    gid: int | None = None
    timeout_ms: int | None = None
    kill_signal: str | None = None
    kill_grace_ms: int | None = None
    stdin: Literal["ignore", "pipe"] = "ignore"
    max_output: int | None = None
    detach_ms: int | None = None
    max_results: int | None = None
    mask: tuple[str, ...] = field(default=(), repr=False)


@value
class Welcome:
    """The worker is accepted."""

    protocol: int
    server_id: str
    session: int
    heartbeat_ms: int
    detach_ms: int
    max_chunk: int


@value
class Goodbye:
    """Refused or leaving; `message` is a sentence for a person."""

    reason: str
    message: str
    retry_after_ms: int | None = None


@value
class Spawn:
    """Start a command; `options.id` names the attempt, except for a baseline worker."""

    command: str
    args: tuple[str, ...] = ()
    options: SpawnOptions = SpawnOptions()


@value
class Resume:
    """The runner has everything below `offset`: (re)send from there; of results from `results`."""

    id: str
    offset: int
    results: int = 0


@value
class Ack:
    """Everything below `offset` is durable: forget it."""

    id: str
    offset: int


@value
class Closed:
    """The outcome is durable: forget the attempt."""

    id: str


@value
class Stale:
    """Not the worker's any more: kill it, forget it."""

    id: str


@value
class Kill:
    """Signal the tree; SIGKILL after the grace. None means the attempt's own."""

    id: str | None
    signal: str | None = None
    grace_ms: int | None = None


@value
class Withdraw:
    """Give it back, unless it has begun: the answer is then `refused`, and else nothing."""

    id: str


@value
class Stdin:
    """Input for the process."""

    id: str
    data: bytes


@value
class StdinEnd:
    """No more input."""

    id: str


@value
class Drain:
    """Take no more work, finish what runs, then leave."""


@value
class Ping:
    """Answer with the same number."""

    n: int


@value
class Pong:
    """The answer to a ping."""

    n: int


@value
class Hello:
    """A full worker introduces itself, before anything else. `protocol` is (lowest, highest).

    `features` are what it can do that an earlier release could not: `MASK`, `AHEAD`. `connection`
    is the number of this one among those of its boot, from 1; 0: it does not count them.
    """

    protocol: tuple[int, int]
    worker_id: str
    boot: str
    name: str
    slots: int
    labels: Mapping[str, str]
    version: str
    token: str | None = None
    features: tuple[str, ...] = ()
    connection: int = 0


AttemptState = Literal["running", "ended"]


@value
class Attempts:
    """What the worker still holds: `(id, state, output bytes so far)`."""

    items: tuple[tuple[str, AttemptState, int], ...]


@value
class Ready:
    """The list is complete: send work for this many slots. Later: the number changed."""

    free_slots: int


@value
class Started:
    """The process runs; `at_ms` is the worker's wall clock, only shown."""

    id: str
    pid: int
    at_ms: int


@value
class Refused:
    """Never started, never will be."""

    id: str
    reason: str


@value
class OutputChunk:
    """The events `stdout` and `stderr`; a baseline worker gives neither id nor offset."""

    stream: StreamName
    data: bytes
    id: str | None = None
    offset: int | None = None


@value
class ResultChunk:
    """The event `result`: the next bytes of the files that the child left; see `results.py`."""

    data: bytes
    id: str
    offset: int


@value
class Close:
    """The child ended. `offset` is the number of output bytes in all, `results` that of results."""

    code: int | None
    id: str | None = None
    signal: str | None = None
    reason: str | None = None
    offset: int | None = None
    duration_ms: int | None = None
    max_rss_kb: int | None = None
    cpu_ms: int | None = None
    results: int | None = None


@value
class Draining:
    """The worker was asked to stop: no new work."""


ToWorker = (
    Welcome | Goodbye | Spawn | Resume | Ack | Closed | Stale | Kill | Withdraw | Stdin | StdinEnd
    | Drain | Ping | Pong
)  # fmt: skip
ToRunner = (
    Hello | Attempts | Ready | Started | Refused | OutputChunk | ResultChunk | Close | Draining
    | Goodbye | Ping | Pong
)  # fmt: skip
Message = ToWorker | ToRunner
