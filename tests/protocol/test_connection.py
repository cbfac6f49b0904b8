"""The typed vocabulary and the state machine, through two real connections facing each other."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_runner.errors import ConnectionLost, LocalProtocolError, RemoteProtocolError
from remote_runner.protocol.connection import Connection
from remote_runner.protocol.framing import Codec, encode
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
from remote_runner.protocol.states import FROM_RUNNER, FROM_WORKER, ConnectionState, Role, mermaid
from remote_runner.protocol.wire import parse, to_wire

HELLO = Hello((1, 1), "w-1", "b-1", "box", 4, {"gpu": "yes"}, "0.1.0", token="secret", connection=7)
WELCOME = Welcome(1, "s-1", 7, 10_000, 120_000, 65_536)

MESSAGES = [
    HELLO,
    WELCOME,
    Goodbye("bye", "A sentence.", 500),
    Spawn("make", ("test",), SpawnOptions(id="1.1", cwd="/src", set_env={"A": "b"}, shell=True)),
    Spawn("x", (), SpawnOptions(id="1.1", timeout_ms=5, kill_signal="SIGINT", stdin="pipe")),
    Resume("1.1", 10),
    Ack("1.1", 10),
    Closed("1.1"),
    Stale("1.1"),
    Kill("1.1", "SIGTERM", 100),
    Kill("1.1"),
    Withdraw("1.1"),
    Stdin("1.1", b"\x00\xff"),
    StdinEnd("1.1"),
    Drain(),
    Ping(3),
    Pong(3),
    Attempts((("1.1", "running", 5), ("2.1", "ended", 0))),
    Ready(4),
    Started("1.1", 4242, 1_700_000_000_000),
    Refused("1.1", "full"),
    OutputChunk("stdout", b"\xff\x00", "1.1", 12),
    OutputChunk("stderr", b"plain"),
    Close(0, "1.1", reason="exit", offset=3, duration_ms=1, max_rss_kb=2, cpu_ms=3),
    Close(None, "1.1", signal="SIGKILL", reason="killed", offset=3),
    Close(1),
    Close(None, signal="SIGTERM"),
    Draining(),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: to_wire(m)[0])
def test_a_message_survives_the_wire(message):
    assert parse(to_wire(message)) == message


@pytest.mark.parametrize("number", [0, 1, 1 << 53, 3.0])
def test_a_hello_may_number_its_connection(number):
    name, fields = to_wire(HELLO)
    assert parse([name, {**fields, "connection": number}]).connection == number


def test_a_hello_need_not_number_its_connection():
    name, fields = to_wire(HELLO)
    del fields["connection"]
    hello = parse([name, fields])
    assert hello.connection == 0
    assert to_wire(hello) == [name, fields]


@pytest.mark.parametrize("number", [-1, (1 << 53) + 1, 1.5, "1", True, [1]])
def test_the_number_of_a_connection_is_a_number(number):
    name, fields = to_wire(HELLO)
    with pytest.raises(RemoteProtocolError, match="connection is not an integer"):
        parse([name, {**fields, "connection": number}])


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)


@given(st.sampled_from([to_wire(m)[0] for m in MESSAGES]), st.lists(json_like, max_size=5))
def test_any_arguments_give_a_message_or_a_protocol_error(name, args):
    try:
        message = parse([name, *args])
    except RemoteProtocolError as error:
        assert str(error).startswith(name)
    else:
        assert message is not None
        assert parse(to_wire(message)) == message


def test_unknown_events_and_surplus_arguments_are_ignored():
    assert parse(["telepathy", 1]) is None
    assert parse(["ping", 1, "more", {}]) == Ping(1)


class Pair:
    """Two connections; what one sends the other receives, byte by byte."""

    def __init__(self):
        self.runner = Connection(Role.RUNNER)
        self.worker = Connection(Role.WORKER)

    def carry(self, sender, message):
        receiver = self.worker if sender is self.runner else self.runner
        received = []
        for byte in sender.send(message):
            received += receiver.receive_data(bytes([byte]))
        assert received == [message]
        assert self.runner.state == self.worker.state

    def ready(self):
        self.carry(self.worker, HELLO)
        self.carry(self.runner, WELCOME)
        self.carry(self.worker, Ready(4))
        return self


def test_a_whole_conversation():
    pair = Pair().ready()
    pair.carry(pair.runner, MESSAGES[3])
    pair.carry(pair.worker, Started("1.1", 1, 1))
    pair.carry(pair.worker, OutputChunk("stdout", b"x" * 60_000, "1.1", 0))
    pair.carry(pair.worker, Close(0, "1.1", reason="exit", offset=60_000))
    pair.carry(pair.runner, Closed("1.1"))
    pair.carry(pair.runner, Drain())
    assert pair.runner.state is ConnectionState.DRAINING


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: to_wire(m)[0])
@pytest.mark.parametrize("state", list(ConnectionState))
@pytest.mark.parametrize("role", list(Role))
def test_every_state_and_message_moves_as_the_table_says(role, state, message):
    connection = Connection(role)
    connection.state = state
    table = FROM_WORKER if role is Role.RUNNER else FROM_RUNNER
    following = table[state].get(type(message))
    data = encode(Codec.MSGPACK, to_wire(message))
    if state in (ConnectionState.CLOSED, ConnectionState.ERROR):
        assert connection.receive_data(data) == []
    elif following is None:
        with pytest.raises(RemoteProtocolError):
            connection.receive_data(data)
        assert connection.state is ConnectionState.ERROR
    else:
        assert connection.receive_data(data) == [message]
        assert connection.state is following


def test_sending_out_of_turn_is_our_bug():
    with pytest.raises(LocalProtocolError):
        Connection(Role.RUNNER).send(MESSAGES[3])


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("last", [b"\x92\xa7goodbye\x80", b"\xc1"], ids=["goodbye", "rubbish"])
def test_a_peer_that_has_come_to_its_end_hears_no_more(role, last):
    connection = Connection(role)
    try:
        connection.receive_data(last)
    except RemoteProtocolError:
        assert connection.state is ConnectionState.ERROR
    for message in MESSAGES:
        with pytest.raises(ConnectionLost):
            connection.send(message)


def test_before_hello_a_value_has_at_most_4_kib():
    connection = Connection(Role.RUNNER)
    with pytest.raises(RemoteProtocolError, match="larger than 4096"):
        connection.receive_data(encode(Codec.MSGPACK, ["stdout", b"x" * 5000]))


def test_a_silent_peer_becomes_a_baseline_worker():
    connection = Connection(Role.RUNNER, Codec.JSON_LINES)
    connection.assume_baseline()
    assert connection.send(Spawn("ls")) == b'["spawn", "ls", [], {}]\n'
    big = encode(Codec.JSON_LINES, ["stdout", "x" * 5000])
    assert connection.receive_data(big + b'["close", 0]\n') == [
        OutputChunk("stdout", b"x" * 5000),
        Close(0),
    ]


def test_the_diagram_in_the_docs_is_drawn_from_the_table():
    from pathlib import Path

    text = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
    assert mermaid() in text
