"""What must be true of a connection whatever bytes a peer sends. `check` raises where it is not."""

from collections.abc import Iterable, Iterator

from remote_runner.errors import ConnectionLost, ProtocolError, RemoteProtocolError
from remote_runner.protocol.connection import Connection
from remote_runner.protocol.framing import Codec, decoder, encode
from remote_runner.protocol.messages import (
    Goodbye,
    Hello,
    Message,
    Ping,
    Ready,
    Welcome,
)
from remote_runner.protocol.states import ConnectionState, Role
from remote_runner.protocol.wire import parse, to_wire

HELLO = Hello((1, 1), "w", "b", "n", 2, {}, "0")
WELCOME = Welcome(1, "s", 1, 10_000, 120_000, 65_536)

SPOKEN = {
    codec: [encode(codec, to_wire(each)) for each in (HELLO, WELCOME, Ready(2))] for codec in Codec
}
SIZES = (0, 1, 16, 64)
"""Bytes of a piece; 0 for no pieces."""


def check(data: bytes) -> None:
    """`data`: a byte that chooses role, codec, state and chunking, then what the peer sends."""
    if not data:
        return
    choice, sent = data[0], data[1:]
    whole = _connection(choice)
    expected, error = _receive(whole, [sent])
    for message in expected:
        _travel(message)
    if size := SIZES[choice >> 6]:
        _compare(choice, _cut(sent, size), whole, expected, error)
    _end(whole)


def _compare(
    choice: int, cut: Iterable[bytes], whole: Connection, expected: list[Message], error: bool
) -> None:
    """In pieces the same is understood as in one."""
    pieces = _connection(choice)
    received, error_in_pieces = _receive(pieces, cut)
    if pieces.state is not ConnectionState.CLOSED:  # what comes behind a goodbye may not be read
        if error != error_in_pieces or whole.state is not pieces.state:
            raise AssertionError(f"chunks matter: {whole.state}, but {pieces.state}")
        if not error and expected != received:
            raise AssertionError(f"chunks matter: {expected!r}, but {received!r}")


def _connection(choice: int) -> Connection:
    role = Role.WORKER if choice & 1 else Role.RUNNER
    codec = Codec.JSON_LINES if choice & 2 else Codec.MSGPACK
    connection = Connection(role, codec)
    wanted = choice >> 2 & 3
    if role is Role.RUNNER and wanted == 1:
        connection.assume_baseline()
    elif role is Role.RUNNER and wanted > 1:
        connection.receive_data(SPOKEN[codec][0])
        connection.send(WELCOME)
        if wanted == 3:
            connection.receive_data(SPOKEN[codec][2])
    elif wanted:
        connection.send(HELLO)
        if wanted > 1:
            connection.receive_data(SPOKEN[codec][1])
        if wanted == 3:
            connection.send(Ready(2))
    return connection


def _cut(data: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def _receive(connection: Connection, pieces: Iterable[bytes]) -> tuple[list[Message], bool]:
    """The messages, and whether the peer has broken the protocol."""
    messages: list[Message] = []
    for piece in pieces:
        try:
            messages += connection.receive_data(piece)
        except RemoteProtocolError as error:
            if not str(error):
                raise AssertionError("an error without a sentence") from error
            return messages, True
    return messages, False


def _travel(message: Message) -> None:
    """What was understood can be said again, in either codec, and means the same."""
    for codec in Codec:
        (value,) = decoder(codec, 1 << 26).feed(encode(codec, to_wire(message)))
        again = parse(value)
        if again != message:
            raise AssertionError(f"{message!r} comes back as {again!r} in {codec}")


def _end(connection: Connection) -> None:
    """A connection can be ended in any state, and then neither hears nor says anything."""
    is_dead = connection.state in (ConnectionState.CLOSED, ConnectionState.ERROR)
    try:
        connection.send(Ping(1))
    except ConnectionLost:
        if not is_dead:
            raise
    except ProtocolError:
        pass  # not allowed in this state
    if not connection.farewell(Goodbye("end", "The end.")):
        raise AssertionError("no farewell")
    if connection.receive_data(b"\x92\xa4ping\x01"):
        raise AssertionError("a connection that has ended still hears")
