"""One end of a connection of the wire protocol that says what a test tells it, and nothing else.

For tests of the protocol itself: it answers no ping and keeps no state. What behaves as a worker
does, but for its processes, is `fake_worker.py`.
"""

from typing import TypeVar

from remote_runner.emitter import DuplexEmitter
from remote_runner.protocol.messages import Message

M = TypeVar("M", bound=Message)


class ScriptedPeer:
    """A worker or a runner, as its emitter's `Connection` is, with what it heard so far."""

    def __init__(self, emitter: DuplexEmitter[Message]) -> None:
        self.emitter = emitter
        self._heard: list[Message] = []

    async def say(self, *messages: Message) -> None:
        """Send messages, in this order."""
        for message in messages:
            await self.emitter.send(message)

    async def hear(self, kind: type[M] | tuple[type[M], ...]) -> M:
        """The next message of this kind; others before it are dropped.

        Raises:
            AssertionError: the connection ended before one came.
        """
        while True:
            while self._heard:
                message = self._heard.pop(0)
                if isinstance(message, kind):
                    return message
            batch = await self.emitter.receive_batch()
            if not batch:
                raise AssertionError(f"the connection ended before a {kind}")
            self._heard += batch

    def take_heard(self) -> list[Message]:
        """What has been read and not asked for yet."""
        heard, self._heard = self._heard, []
        return heard

    async def hear_end_or(self, kind: type[M]) -> M | None:
        """The next message of this kind, or None where the connection ends without one."""
        while batch := await self.emitter.receive_batch():
            for message in batch:
                if isinstance(message, kind):
                    return message
        return None

    async def hear_end(self) -> list[Message]:
        """Everything up to the end of the connection."""
        while batch := await self.emitter.receive_batch():
            self._heard += batch
        return self._heard
