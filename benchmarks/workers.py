"""Workers that speak the protocol and run nothing: each answers a job at once with its end.

    python -m benchmarks.workers COUNT SLOTS PORT...

They are one process, spread over the ports, and stay until it is ended. They dial no faster than a
server lets workers in, and one that is turned away comes again when it was told to.
"""

import sys
from collections.abc import Sequence

import trio

from benchmarks.harness import allow_many_files
from remote_runner.door import RATE
from remote_runner.emitter import DuplexEmitter
from remote_runner.errors import ConnectionLost
from remote_runner.protocol.connection import Connection
from remote_runner.protocol.messages import (
    PROTOCOL_VERSION,
    Close,
    Goodbye,
    Hello,
    Message,
    Ping,
    Pong,
    Ready,
    Spawn,
    Started,
)
from remote_runner.protocol.states import Role


async def _work(port: int, name: str, slots: int) -> float | None:
    """Until the connection ends. Seconds after which to dial again, None: not at all."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    protocol = (PROTOCOL_VERSION, PROTOCOL_VERSION)
    async with DuplexEmitter[Message](stream, Connection(Role.WORKER)) as emitter:
        await emitter.send(Hello(protocol, name, name, name, slots, {}, "bench"))
        for message in await emitter.receive_batch():
            if isinstance(message, Goodbye) and message.retry_after_ms is not None:
                return message.retry_after_ms / 1000
        await emitter.send(Ready(slots))
        while batch := await emitter.receive_batch():
            for message in batch:
                match message:
                    case Ping(n):
                        emitter.send_nowait(Pong(n))
                    case Spawn():
                        run_id = message.options.id or ""
                        emitter.send_nowait(Started(run_id, 1, 0))
                        emitter.send_nowait(Close(0, run_id, reason="exit", offset=0))
    return None


async def _stay(port: int, name: str, slots: int) -> None:
    try:
        while (wait := await _work(port, name, slots)) is not None:
            await trio.sleep(wait)
    except ConnectionLost:
        pass


async def main(count: int, slots: int, ports: Sequence[int]) -> None:
    async with trio.open_nursery() as nursery:
        for index in range(count):
            nursery.start_soon(_stay, ports[index % len(ports)], f"w{index}", slots)
            if index >= 100:  # they are let in at once, the others one by one
                await trio.sleep(1 / RATE)


if __name__ == "__main__":
    allow_many_files(0)
    trio.run(main, int(sys.argv[1]), int(sys.argv[2]), [int(port) for port in sys.argv[3:]])
