"""A protocol of its own on `DuplexEmitter`: a room, where everybody hears what anybody says.

    python examples/chat.py 7000                     # the room; port 0 picks a free one
    python examples/chat.py 7000 anna                # a member: lines of stdin are said

It speaks MessagePack and JSON lines, as each member does: `nc 127.0.0.1 7000` is a member too,

    ["join", "nell"]
    ["say", "hello"]

and so is a JavaScript program with the npm module duplex-emitter.
"""

import sys
from contextlib import suppress
from functools import partial

import trio

from remote_runner import DuplexEmitter
from remote_runner.errors import ConnectionLost, RemoteProtocolError


class Room:
    """Who is here. An event goes to all of them, or to those who still read."""

    def __init__(self):
        self.members = {}

    async def welcome(self, stream):
        """One connection, from `join` to its end."""
        async with DuplexEmitter(stream) as emitter:
            try:
                await self.converse(emitter)
            except RemoteProtocolError as error:  # neither codec, or too large: it costs them this
                with suppress(ConnectionLost):
                    emitter.emit_nowait("refused", str(error))
            finally:
                if self.members.pop(emitter, None) is not None:
                    self.tell("left", len(self.members))

    async def converse(self, emitter):
        async for name, args in emitter:
            match name, args:
                case "join", (str(who), *_) if who:
                    self.members[emitter] = who[:40]
                    self.tell("joined", who[:40])
                case "say", (str(text), *_) if emitter in self.members:
                    self.tell("said", self.members[emitter], text)
                case _:  # a later version may know it
                    pass

    def tell(self, event, *args):
        for member in list(self.members):
            try:
                member.emit_nowait(event, *args)
            except ConnectionLost:
                del self.members[member]  # it has left, or lets megabytes pile up


async def serve(port):
    room = Room()
    async with trio.open_nursery() as nursery:
        listen = partial(trio.serve_tcp, room.welcome, port, host="127.0.0.1")
        listeners = await nursery.start(listen)
        print("the room is on port", listeners[0].socket.getsockname()[1], flush=True)


async def take_part(port, name):
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with DuplexEmitter(stream) as room, trio.open_nursery() as nursery:
        room.on("said", lambda who, text: print(f"{who}: {text}", flush=True))
        nursery.start_soon(room.listen)  # somebody has to read, or no handler is called
        await room.emit("join", name)
        async for line in trio.wrap_file(sys.stdin):
            await room.emit("say", line.rstrip("\n"))
        await room.flush()
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or not sys.argv[1].isdecimal():
        sys.exit("usage: chat.py PORT [NAME]")
    main, *args = (serve, int(sys.argv[1])) if len(sys.argv) == 2 else (
        take_part, int(sys.argv[1]), sys.argv[2],
    )  # fmt: skip
    try:
        trio.run(main, *args)
    except KeyboardInterrupt:
        pass
