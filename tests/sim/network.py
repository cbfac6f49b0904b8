"""The simulated network: connections with latency, windows and ragged reads, which can be held up,
cut, or go dark. Nothing here knows what is said.
"""

import math
from collections import deque

import trio

from tests.sim.actors import Crashed, current

DIAL_TIMEOUT = 5.0
"""Seconds after which a dial into a partition gives up."""


class Link:
    """The way between one worker and one server. A direction that is held delivers nothing: what
    is on its way arrives once it is released, as TCP repeats it."""

    def __init__(self, network, name, server):
        self.network = network
        self.name = name
        self.server = server
        self.held = {"up": False, "down": False}
        self.is_slow = False
        self.connections = []

    def hold(self, *directions):
        for direction in directions:
            self.held[direction] = True

    def release(self):
        self.held = dict.fromkeys(self.held, False)
        self.is_slow = False
        for connection in self.connections:
            connection.wake()

    @property
    def is_held(self):
        return any(self.held.values())

    def current_connections(self):
        self.connections = [c for c in self.connections if not c.is_over]
        return self.connections


class Pipe:
    """One direction of a connection."""

    def __init__(self, link, direction, latency, window):
        self._link = link
        self._direction = direction
        self._latency = latency
        self._window = window
        self._chunks = deque()
        self._size = 0
        self._last_due = 0.0
        self._lot = trio.lowlevel.ParkingLot()
        self.end_due = None
        """When the reader sees the end, after all data."""
        self.is_reader_gone = False
        self.is_reset = False
        self.is_dark = False

    @property
    def is_broken(self):
        return self.is_reset or self.is_dark

    @property
    def _moves(self):
        return not self.is_dark and not self._link.held[self._direction]

    def wake(self):
        self._lot.unpark_all()

    def finish(self):
        """The writer has closed."""
        if self.end_due is None:
            self.end_due = self._due()
            self.wake()

    def drop(self):
        """What is on its way is lost, and nothing follows."""
        self._chunks.clear()

    def _due(self):
        self._last_due = max(self._last_due, trio.current_time() + self._latency)
        return self._last_due

    async def write(self, data, is_closed):
        await trio.lowlevel.checkpoint()
        while data:
            if is_closed():
                raise trio.ClosedResourceError
            if self.is_reset or (self.is_reader_gone and self._moves):
                raise trio.BrokenResourceError("reset by peer")
            room = self._window - self._size
            if room <= 0:
                await self._lot.park()
                continue
            piece, data = data[:room], data[room:]
            self._size += len(piece)
            self._chunks.append((self._due(), bytes(piece)))
            self.wake()

    async def read(self, limit, is_closed):
        await trio.lowlevel.checkpoint()
        network = self._link.network
        while True:
            if is_closed():
                raise trio.ClosedResourceError
            if self.is_reset:
                raise trio.BrokenResourceError("reset by peer")
            due = math.inf
            if self._moves:
                if self._chunks:
                    due = self._chunks[0][0]
                    if due <= trio.current_time():
                        return await self._take(limit, network)
                elif self.end_due is not None:
                    due = self.end_due
                    if due <= trio.current_time():
                        return b""
            with trio.CancelScope(deadline=due):
                await self._lot.park()

    async def _take(self, limit, network):
        if self._link.is_slow:
            limit = min(limit, 200)
            await trio.sleep(0.2)
        elif network.rng.random() < 0.2:
            limit = min(limit, network.rng.randint(1, 200))
        now, parts = trio.current_time(), []
        while limit and self._chunks and self._chunks[0][0] <= now:
            due, data = self._chunks.popleft()
            parts.append(data[:limit])
            if len(data) > limit:
                self._chunks.appendleft((due, data[limit:]))
            limit -= len(parts[-1])
        taken = b"".join(parts)
        self._size -= len(taken)
        self.wake()
        return taken


class SimStream(trio.abc.Stream):
    """One end of a connection, in the hands of one actor."""

    def __init__(self, connection, actor, incoming, outgoing):
        self._connection = connection
        self._actor = actor
        self._incoming = incoming
        self._outgoing = outgoing
        self.is_closed = False

    @property
    def socket(self):
        return self

    def getpeername(self):
        return (self._connection.link.name, self._connection.number)

    def _is_closed(self):
        return self.is_closed or not self._actor.is_on

    async def send_all(self, data):
        await self._outgoing.write(data, self._is_closed)

    async def wait_send_all_might_not_block(self):
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes=None):
        return await self._incoming.read(max_bytes or 65536, self._is_closed)

    def close(self):
        if not self.is_closed and self._actor.is_on:
            self.is_closed = True
            self._outgoing.finish()
            self._incoming.is_reader_gone = True
        self.is_closed = True
        self._connection.wake()

    async def aclose(self):
        self.close()
        await trio.lowlevel.checkpoint()


class Connection:
    """Two pipes between a worker and a server."""

    def __init__(self, link, number, worker, server, latency, window):
        self.link = link
        self.number = number
        self.up = Pipe(link, "up", latency, window)
        self.down = Pipe(link, "down", latency, window)
        self.at_worker = SimStream(self, worker, self.down, self.up)
        self.at_server = SimStream(self, server, self.up, self.down)

    def wake(self):
        self.up.wake()
        self.down.wake()

    @property
    def is_over(self):
        return self.at_worker.is_closed and self.at_server.is_closed

    def reset(self):
        """Both ends see it break; what is on its way is lost."""
        for pipe in (self.up, self.down):
            pipe.is_reset = True
        self.wake()

    def go_dark(self):
        """Nothing arrives any more at either end, and neither is told."""
        for pipe in (self.up, self.down):
            pipe.is_dark = True

    def half_open(self, direction):
        """The end that reads in this direction sees it break; the other one is not told."""
        self.go_dark()
        (self.up if direction == "up" else self.down).is_reset = True
        self.wake()

    def lose_end(self, outgoing, incoming, how):
        """The process at one end is dead: `how` its machine, or its kernel, leaves the other."""
        if how == "vanish":
            self.go_dark()
        elif how == "reset":
            outgoing.drop()
            outgoing.finish()
            incoming.is_reader_gone = True
        else:
            outgoing.finish()
            incoming.is_reader_gone = True
        self.wake()


class Listener(trio.abc.Listener):
    """Where one server accepts."""

    def __init__(self, actor):
        self.actor = actor
        self._send, self._calls = trio.open_memory_channel(math.inf)
        self.is_open = True

    @property
    def socket(self):
        return self

    def getsockname(self):
        return ("server", 1)

    def ring(self, stream):
        self._send.send_nowait(stream)

    async def accept(self):
        return await self._calls.receive()

    async def aclose(self):
        self.is_open = False
        await trio.lowlevel.checkpoint()


class Network:
    """All links, and where the servers of the moment listen."""

    def __init__(self, rng):
        self.rng = rng
        self.links = {}
        self._listeners = {}
        self._dialled = 0

    def link(self, name, server):
        """The way between this worker and this server."""
        if (name, server) not in self.links:
            self.links[name, server] = Link(self, name, server)
        return self.links[name, server]

    async def listen(self, port, *, host=None):
        """In place of `trio.open_tcp_listeners`."""
        await trio.lowlevel.checkpoint()
        actor = current.get()
        self._listeners[actor.server] = Listener(actor)
        return [self._listeners[actor.server]]

    async def dial(self, link):
        """As a worker, over its link.

        Raises:
            OSError: nobody listens, or nothing comes through.
        """
        actor = current.get()
        latency = self.rng.choice((0.0, 0.001, 0.01, 0.05))
        await trio.sleep(latency)
        if link.is_held:
            await trio.sleep(DIAL_TIMEOUT)
            if link.is_held:
                raise TimeoutError("timed out")
        listener = self._listeners.get(link.server)
        if listener is None or not listener.is_open or not listener.actor.is_on:
            raise ConnectionRefusedError("connection refused")
        if not actor.is_on:
            raise Crashed(actor.name)
        self._dialled += 1
        window = self.rng.choice((300, 4000, 100_000))
        connection = Connection(link, self._dialled, actor, listener.actor, latency, window)
        link.current_connections().append(connection)
        listener.ring(connection.at_server)
        return connection.at_worker

    def lose(self, actor, how):
        """An actor has crashed: what becomes of its connections."""
        for link in self.links.values():
            for connection in link.current_connections():
                if connection.at_worker._actor is actor:
                    connection.at_worker.is_closed = True
                    connection.lose_end(connection.up, connection.down, how)
                if connection.at_server._actor is actor:
                    connection.at_server.is_closed = True
                    connection.lose_end(connection.down, connection.up, how)
