"""The sans-I/O facade of one connection: bytes in, messages out; messages in, bytes out.

Owns the codec, the limits and the state of one connection; never touches a socket or a clock.
"""

from typing import Final

from remote_runner.errors import ConnectionLost, LocalProtocolError, RemoteProtocolError
from remote_runner.protocol.framing import (
    MAX_VALUE,
    MAX_VALUE_BEFORE_HELLO,
    Codec,
    Decoder,
    decoder,
    detect,
    encode,
)
from remote_runner.protocol.messages import (
    Goodbye,
    Message,
    Spawn,
)
from remote_runner.protocol.states import FROM_RUNNER, FROM_WORKER, ConnectionState, Role
from remote_runner.protocol.wire import parse, to_wire

_DEAD: Final = (ConnectionState.CLOSED, ConnectionState.ERROR)


class Connection:
    """One side of a connection.

    Args:
        role: which side we are.
        codec: how we speak until the peer has shown how it does.
    """

    def __init__(self, role: Role, codec: Codec = Codec.MSGPACK) -> None:
        self.role = role
        self.state = ConnectionState.CONNECTED
        self.codec = codec
        self._ours = FROM_RUNNER if role is Role.RUNNER else FROM_WORKER
        self._theirs = FROM_WORKER if role is Role.RUNNER else FROM_RUNNER
        self._decoder: Decoder | None = None

    @property
    def has_partial(self) -> bool:
        """Whether the peer has begun a value and not ended it."""
        return self._decoder is not None and self._decoder.has_partial

    @property
    def is_silent(self) -> bool:
        """Whether the peer has not sent a single byte yet."""
        return self._decoder is None

    def receive_data(self, data: bytes) -> list[Message]:
        """The messages that are complete now. After an error the connection is dead.

        Raises:
            RemoteProtocolError: the peer broke the protocol.
        """
        if not data or self.state in _DEAD:
            return []
        try:
            if self._decoder is None:
                self.codec = detect(data[0])
                self._decoder = decoder(self.codec, self._limit())
            messages = []
            if self.state is ConnectionState.CONNECTED:
                # The limit rises in the middle of a chunk, so the first values go one at a time.
                for start in range(0, len(data), MAX_VALUE_BEFORE_HELLO):
                    piece = data[start : start + MAX_VALUE_BEFORE_HELLO]
                    messages += self._accept(self._decoder.feed(piece))
            else:
                messages = self._accept(self._decoder.feed(data))
            return messages
        except RemoteProtocolError:
            self.state = ConnectionState.ERROR
            raise

    def _limit(self) -> int:
        early = self.role is Role.RUNNER and self.state is ConnectionState.CONNECTED
        return MAX_VALUE_BEFORE_HELLO if early else MAX_VALUE

    def _accept(self, values: list[object]) -> list[Message]:
        messages: list[Message] = []
        for value in values:
            message = parse(value)
            if message is None or self.state is ConnectionState.CLOSED:
                continue
            following = self._theirs[self.state].get(type(message))
            if following is None:
                raise RemoteProtocolError(
                    f"{to_wire(message)[0]} is not allowed while the connection is {self.state}"
                )
            self._move(following)
            messages.append(message)
        return messages

    def send(self, message: Message) -> bytes:
        """The bytes of a message, and the move it makes.

        Raises:
            ConnectionLost: one of the two has said goodbye, or broken the protocol.
            LocalProtocolError: the protocol does not allow it now.
        """
        if self.state in _DEAD:
            raise ConnectionLost("the connection has come to its end")
        following = self._ours[self.state].get(type(message))
        if following is None:
            raise LocalProtocolError(
                f"cannot send {type(message).__name__} while the connection is {self.state}"
            )
        if isinstance(message, Spawn) and (message.options.id is None) != self.is_baseline:
            raise LocalProtocolError("a spawn names its attempt, except to a baseline worker")
        data = encode(self.codec, to_wire(message))
        self._move(following)
        return data

    @property
    def is_baseline(self) -> bool:
        """Whether the worker speaks the baseline: one job at a time, no ids."""
        return self.state is ConnectionState.BASELINE

    def assume_baseline(self) -> None:
        """The peer has been silent for the baseline grace: it is a baseline worker.

        Raises:
            LocalProtocolError: it has already said something.
        """
        if self.role is not Role.RUNNER or self.state is not ConnectionState.CONNECTED:
            raise LocalProtocolError(f"a {self.state} connection cannot become a baseline worker")
        self._move(ConnectionState.BASELINE)

    def farewell(self, goodbye: Goodbye, reply: bytes = b"") -> bytes:
        """The last bytes to a peer, whatever the state: `reply`, or the goodbye in its codec."""
        if self.state is not ConnectionState.CLOSED:
            self._move(ConnectionState.CLOSED)
        return reply or encode(self.codec, to_wire(goodbye))

    def send_failed(self) -> None:
        """A write failed or was cancelled: what the peer has is unknown, so nothing may follow."""
        self.state = ConnectionState.ERROR

    def _move(self, state: ConnectionState) -> None:
        if state is not self.state:
            self.state = state
            if self._decoder is not None:
                self._decoder.max_value = self._limit()
