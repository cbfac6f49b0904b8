"""The simple worker, which also writes down how long each heartbeat takes to the server and back.

It pings ten times a second, on the connection that carries the output, and appends the seconds to
the file in HEARTBEATS.
"""

import os
import time
from typing import Any

import trio

from remote_runner.protocol.messages import Message, Ping, Pong
from simple_worker.cli import main
from simple_worker.session import Session

FIRST = 1 << 40
"""Numbers above those of the worker's own pings."""


class MeasuringSession(Session):
    """A session with pings of its own."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._sent: dict[int, float] = {}

    async def _keep_alive(self, heartbeat: float) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(super()._keep_alive, heartbeat)
            for number in range(FIRST, 2 * FIRST):
                self._sent[number] = time.monotonic()
                self.send(Ping(number))
                await trio.sleep(0.1)

    def _receive(self, message: Message) -> None:
        if isinstance(message, Pong) and message.n in self._sent:
            with open(os.environ["HEARTBEATS"], "a", encoding="ascii") as file:
                file.write(f"{time.monotonic() - self._sent.pop(message.n)}\n")
        super()._receive(message)


if __name__ == "__main__":
    import simple_worker.worker

    simple_worker.worker.Session = MeasuringSession  # type: ignore[misc]
    main(prog_name="simple-worker")
