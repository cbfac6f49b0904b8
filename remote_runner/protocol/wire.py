"""From values of the wire to messages, and back: every argument is looked at here, nowhere else.

`parse` turns what a peer sent into a message or raises `RemoteProtocolError`; `to_wire` turns a
message into `[event, argument…]`. Unknown events, surplus arguments and unknown keys are ignored:
that is how the protocol grows.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from remote_runner.errors import RemoteProtocolError
from remote_runner.protocol.messages import (
    MAX_ATTEMPTS_PER_EVENT,
    MAX_EVENT_NAME,
    MAX_ID,
    MAX_INTEGER,
    MAX_MASK,
    MAX_TEXT,
    Ack,
    Attempts,
    AttemptState,
    Close,
    Closed,
    Drain,
    Draining,
    Goodbye,
    Hello,
    Kill,
    Message,
    OutputChunk,
    Ping,
    Pong,
    Ready,
    Refused,
    ResultChunk,
    Resume,
    Spawn,
    SpawnOptions,
    Stale,
    Started,
    Stdin,
    StdinEnd,
    Welcome,
    Withdraw,
)

MISSING: Final = object()


class _Arguments:
    """Reads the arguments of one event by position and type, with a sentence for what is wrong."""

    __slots__ = ("event", "values")

    def __init__(self, event: str, values: Sequence[Any]) -> None:
        self.event = event
        self.values = values

    def fail(self, what: str) -> RemoteProtocolError:
        return RemoteProtocolError(f"{self.event}: {what}")

    def _at(self, index: int, default: Any) -> Any:
        value = self.values[index] if index < len(self.values) else None
        if value is None and default is MISSING:
            raise self.fail(f"argument {index + 1} is missing")
        return default if value is None else value

    def text(self, index: int, default: Any = MISSING, limit: int = MAX_TEXT) -> Any:
        return self._is_text(self._at(index, default), f"argument {index + 1}", limit)

    def id(self, index: int, default: Any = MISSING) -> Any:
        value = self.text(index, default, MAX_ID)
        if value == "":
            raise self.fail("an id is empty")
        return value

    def integer(self, index: int, default: Any = MISSING) -> Any:
        return self._is_integer(self._at(index, default), f"argument {index + 1}")

    def data(self, index: int) -> bytes:
        value = self._at(index, MISSING)
        if isinstance(value, str):
            return value.encode("utf-8", "surrogatepass")
        if not isinstance(value, bytes):
            raise self.fail(f"argument {index + 1} is not bytes")
        return value

    def map(self, index: int) -> Mapping[str, Any]:
        value = self._at(index, {})
        if not isinstance(value, dict):
            raise self.fail(f"argument {index + 1} is not a map")
        return value

    def _is_text(self, value: Any, what: str, limit: int = MAX_TEXT) -> Any:
        if value is not None and (not isinstance(value, str) or len(value) > limit):
            raise self.fail(f"{what} is not a string of at most {limit} characters")
        return value

    def _is_integer(self, value: Any, what: str) -> Any:
        if value is None:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # JavaScript has no other numbers
        if type(value) is not int or not 0 <= value <= MAX_INTEGER:
            raise self.fail(f"{what} is not an integer from 0 to 2^53")
        return value

    def key_text(self, map_: Mapping[str, Any], key: str, limit: int = MAX_TEXT) -> Any:
        value = map_.get(key)
        return None if value is None else self._is_text(value, key, limit)

    def key_integer(self, map_: Mapping[str, Any], key: str) -> Any:
        value = map_.get(key)
        return None if value is None else self._is_integer(value, key)

    def key_strings(self, map_: Mapping[str, Any], key: str) -> Mapping[str, str] | None:
        value = map_.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.fail(f"{key} is not a map")
        for item in value.values():
            if not isinstance(item, str):
                raise self.fail(f"{key} holds something that is not a string")
        return value

    def key_texts(self, map_: Mapping[str, Any], key: str, limit: int) -> tuple[str, ...]:
        """A list of strings, of at most `limit` characters in all."""
        value = map_.get(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.fail(f"{key} is not a list of strings")
        if sum(map(len, value)) > limit:
            raise self.fail(f"{key} has more than {limit} characters")
        return tuple(value)

    def required(self, map_: Mapping[str, Any], key: str, value: Any) -> Any:
        if value is None:
            raise self.fail(f"{key} is missing")
        return value


def _parse_hello(a: _Arguments) -> Hello:
    m = a.map(0)
    versions = m.get("protocol")
    if not (
        isinstance(versions, list) and len(versions) >= 2 and all(type(v) is int for v in versions)
    ):
        raise a.fail("protocol is not [lowest, highest]")
    texts = {
        key: a.required(m, key, a.key_text(m, key, 256))
        for key in ("worker_id", "boot", "name", "version")
    }
    if not texts["worker_id"] or not texts["boot"]:
        raise a.fail("worker_id or boot is empty")
    slots = a.required(m, "slots", a.key_integer(m, "slots"))
    return Hello(
        protocol=(versions[0], versions[1]),
        slots=slots,
        labels=a.key_strings(m, "labels") or {},
        token=a.key_text(m, "token"),
        features=a.key_texts(m, "features", MAX_TEXT),
        connection=a.key_integer(m, "connection") or 0,
        **texts,
    )


def _parse_attempts(a: _Arguments) -> Attempts:
    rows = a.values[0] if a.values else None
    if not isinstance(rows, list) or len(rows) > MAX_ATTEMPTS_PER_EVENT:
        raise a.fail(f"argument 1 is not a list of at most {MAX_ATTEMPTS_PER_EVENT} attempts")
    items: list[tuple[str, AttemptState, int]] = []
    for row in rows:
        if not isinstance(row, list) or len(row) < 3 or row[1] not in ("running", "ended"):
            raise a.fail("an attempt is not [id, running|ended, offset]")
        fields = _Arguments(a.event, row)
        items.append((fields.id(0), row[1], fields.integer(2)))
    return Attempts(tuple(items))


def _parse_close(a: _Arguments) -> Close:
    code = a.values[0] if a.values else None
    if code is not None and (type(code) is not int or not -MAX_INTEGER <= code <= MAX_INTEGER):
        raise a.fail("argument 1 is not an exit status")
    info = a.values[2] if len(a.values) > 2 else None
    if isinstance(info, dict):
        return Close(
            code,
            id=a.id(1),
            signal=a.key_text(info, "signal", 16),
            reason=a.key_text(info, "reason", 32),
            offset=a.key_integer(info, "offset"),
            duration_ms=a.key_integer(info, "duration_ms"),
            max_rss_kb=a.key_integer(info, "max_rss_kb"),
            cpu_ms=a.key_integer(info, "cpu_ms"),
            results=a.key_integer(info, "results"),
        )
    # The baseline: close(code) or close(nil, signal).
    return Close(code, signal=a.text(1, None, 16))


def _parse_spawn(a: _Arguments) -> Spawn:
    args = a.values[1] if len(a.values) > 1 else None
    if args is None:
        args = []
    if not isinstance(args, list) or not all(isinstance(arg, str) for arg in args):
        raise a.fail("argument 2 is not a list of strings")
    m = a.map(2)
    shell = m.get("shell")
    if not isinstance(shell, bool | str | None):
        raise a.fail("shell is neither a boolean nor a path")
    options = SpawnOptions(
        id=a.key_text(m, "id", MAX_ID),
        cwd=a.key_text(m, "cwd", 131_072),
        env=a.key_strings(m, "env"),
        set_env=a.key_strings(m, "setEnv"),
        shell=shell or False,
        argv0=a.key_text(m, "argv0", 131_072),
        uid=a.key_integer(m, "uid"),
        gid=a.key_integer(m, "gid"),
        timeout_ms=a.key_integer(m, "timeout"),
        kill_signal=a.key_text(m, "killSignal", 16),
        kill_grace_ms=a.key_integer(m, "killGrace"),
        stdin="pipe" if m.get("stdin") == "pipe" else "ignore",
        max_output=a.key_integer(m, "maxOutput"),
        detach_ms=a.key_integer(m, "detach"),
        max_results=a.key_integer(m, "maxResults"),
        mask=a.key_texts(m, "mask", MAX_MASK),
    )
    return Spawn(a.text(0, limit=131_072), tuple(args), options)


def _parse_welcome(a: _Arguments) -> Welcome:
    m = a.map(0)
    return Welcome(
        server_id=a.required(m, "server_id", a.key_text(m, "server_id")),
        **{
            key: a.required(m, key, a.key_integer(m, key))
            for key in ("protocol", "session", "heartbeat_ms", "detach_ms", "max_chunk")
        },
    )


def _parse_goodbye(a: _Arguments) -> Goodbye:
    m = a.map(0)
    return Goodbye(
        a.key_text(m, "reason") or "unknown",
        a.key_text(m, "message") or "",
        a.key_integer(m, "retry_after_ms"),
    )


_PARSERS: Final[dict[str, Callable[[_Arguments], Message]]] = {
    "stdout": lambda a: OutputChunk("stdout", a.data(0), a.id(1, None), a.integer(2, None)),
    "stderr": lambda a: OutputChunk("stderr", a.data(0), a.id(1, None), a.integer(2, None)),
    "result": lambda a: ResultChunk(a.data(0), a.id(1), a.integer(2)),
    "close": _parse_close,
    "started": lambda a: Started(a.id(0), *_pid_and_time(a)),
    "closed": lambda a: Closed(a.id(0)),
    "spawn": _parse_spawn,
    "ack": lambda a: Ack(a.id(0), a.integer(1)),
    "ping": lambda a: Ping(a.integer(0)),
    "pong": lambda a: Pong(a.integer(0)),
    "hello": _parse_hello,
    "attempts": _parse_attempts,
    "ready": lambda a: Ready(a.integer(0)),
    "refused": lambda a: Refused(a.id(0), a.text(1, "")),
    "draining": lambda a: Draining(),
    "welcome": _parse_welcome,
    "goodbye": _parse_goodbye,
    "resume": lambda a: Resume(a.id(0), a.integer(1), a.integer(2, 0)),
    "stale": lambda a: Stale(a.id(0)),
    "kill": lambda a: Kill(a.id(0, None), a.text(1, None, 16), a.integer(2, None)),
    "withdraw": lambda a: Withdraw(a.id(0)),
    "stdin": lambda a: Stdin(a.id(0), a.data(1)),
    "stdin_end": lambda a: StdinEnd(a.id(0)),
    "drain": lambda a: Drain(),
}


def _pid_and_time(a: _Arguments) -> tuple[int, int]:
    m = a.map(1)
    return (
        a.required(m, "pid", a.key_integer(m, "pid")),
        a.required(m, "at_ms", a.key_integer(m, "at_ms")),
    )


def parse(value: Any) -> Message | None:
    """The message in a decoded value; None for an event that this version does not know.

    Raises:
        RemoteProtocolError: it is not an event, or its arguments are not of the event's form.
    """
    if not isinstance(value, list) or not value:
        raise RemoteProtocolError("an event is an array that begins with its name")
    name = value[0]
    if not isinstance(name, str) or not name or len(name) > MAX_EVENT_NAME:
        raise RemoteProtocolError(f"an event's name is a string of 1 to {MAX_EVENT_NAME} bytes")
    parser = _PARSERS.get(name)
    return None if parser is None else parser(_Arguments(name, value[1:]))


def _without_none(**fields: Any) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}


def _spawn_to_wire(m: Spawn) -> list[Any]:
    o = m.options
    options = _without_none(
        id=o.id, cwd=o.cwd, env=o.env, setEnv=o.set_env, shell=o.shell or None, argv0=o.argv0,
        uid=o.uid, gid=o.gid, timeout=o.timeout_ms, killSignal=o.kill_signal,
        killGrace=o.kill_grace_ms, stdin=None if o.stdin == "ignore" else o.stdin,
        maxOutput=o.max_output, detach=o.detach_ms, maxResults=o.max_results,
        mask=list(o.mask) or None,
    )  # fmt: skip
    return ["spawn", m.command, list(m.args), options]


def _close_to_wire(m: Close) -> list[Any]:
    if m.id is None:
        return ["close", m.code] if m.signal is None else ["close", m.code, m.signal]
    info = _without_none(
        signal=m.signal, reason=m.reason, offset=m.offset, duration_ms=m.duration_ms,
        max_rss_kb=m.max_rss_kb, cpu_ms=m.cpu_ms, results=m.results,
    )  # fmt: skip
    return ["close", m.code, m.id, info]


def _output_to_wire(m: OutputChunk) -> list[Any]:
    return [m.stream, m.data] if m.id is None else [m.stream, m.data, m.id, m.offset]


def _hello_to_wire(m: Hello) -> list[Any]:
    fields = _without_none(
        protocol=list(m.protocol), worker_id=m.worker_id, boot=m.boot, name=m.name, slots=m.slots,
        labels=dict(m.labels), version=m.version, token=m.token,
        features=list(m.features) or None, connection=m.connection or None,
    )  # fmt: skip
    return ["hello", fields]


def _welcome_to_wire(m: Welcome) -> list[Any]:
    fields = _without_none(
        protocol=m.protocol, server_id=m.server_id, session=m.session,
        heartbeat_ms=m.heartbeat_ms, detach_ms=m.detach_ms, max_chunk=m.max_chunk,
    )  # fmt: skip
    return ["welcome", fields]


def _goodbye_to_wire(m: Goodbye) -> list[Any]:
    fields = _without_none(reason=m.reason, message=m.message, retry_after_ms=m.retry_after_ms)
    return ["goodbye", fields]


_WRITERS: Final[dict[type, Callable[[Any], list[Any]]]] = {
    OutputChunk: _output_to_wire,
    ResultChunk: lambda m: ["result", m.data, m.id, m.offset],
    Close: _close_to_wire,
    Started: lambda m: ["started", m.id, {"pid": m.pid, "at_ms": m.at_ms}],
    Closed: lambda m: ["closed", m.id],
    Spawn: _spawn_to_wire,
    Ack: lambda m: ["ack", m.id, m.offset],
    Ping: lambda m: ["ping", m.n],
    Pong: lambda m: ["pong", m.n],
    Hello: _hello_to_wire,
    Attempts: lambda m: ["attempts", [list(item) for item in m.items]],
    Ready: lambda m: ["ready", m.free_slots],
    Refused: lambda m: ["refused", m.id, m.reason],
    Draining: lambda m: ["draining"],
    Welcome: _welcome_to_wire,
    Goodbye: _goodbye_to_wire,
    Resume: lambda m: ["resume", m.id, m.offset, *([m.results] if m.results else [])],
    Stale: lambda m: ["stale", m.id],
    Kill: lambda m: ["kill", m.id, m.signal, m.grace_ms],
    Withdraw: lambda m: ["withdraw", m.id],
    Stdin: lambda m: ["stdin", m.id, m.data],
    StdinEnd: lambda m: ["stdin_end", m.id],
    Drain: lambda m: ["drain"],
}


def to_wire(message: Message) -> list[Any]:
    """The message as `[event, argument…]`."""
    return _WRITERS[type(message)](message)
