"""What ties a server, one of several processes behind the same ports, to the one that started it.

It is a pair of sockets: the process says when it is ready, and goes on saying that it is there;
the other one says when it is to stop. If the other one dies, its end closes, and the process stops
as if it had been told: nothing is left behind.
"""

import json
import os
import socket
from collections.abc import MutableMapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Final, Self

import trio

from remote_runner.errors import UnusableSettings

VARIABLE: Final = "DUPLEX_RUNNER_PLACE"
"""The environment variable by which a process learns its place."""
READY: Final = b"r"
BEAT: Final = 1.0
"""Seconds between two signs of life."""


class Word(Enum):
    """What a process is told: to stop as at its first signal, or as at its second."""

    STOP = b"s"
    AT_ONCE = b"n"


@dataclass(frozen=True, slots=True)
class Place:
    """Which of the processes one is, counted from 1, and the ports that it shares.

    `lifeline` is the descriptor of its end.
    """

    number: int
    lifeline: int
    port: int | None
    http_port: int | None
    json_port: int | None

    def to_text(self) -> str:
        """As the environment carries it."""
        return json.dumps(asdict(self))

    @classmethod
    def take(cls, environment: MutableMapping[str, str]) -> Self | None:
        """This process's place, which nothing that it starts inherits; None: it is the only one.

        Raises:
            UnusableSettings: somebody else has set the variable.
        """
        text = environment.pop(VARIABLE, None)
        if text is None:
            return None
        try:
            place = cls(**json.loads(text))
            os.set_inheritable(place.lifeline, False)
        except (ValueError, TypeError, OSError):
            raise UnusableSettings(
                f"the environment variable {VARIABLE} is for the processes of --processes alone;"
                " unset it"
            ) from None
        return place


class Lifeline:
    """The end of the process that was started; leaving it closes it."""

    def __init__(self, place: Place) -> None:
        self._socket = trio.socket.from_stdlib_socket(socket.socket(fileno=place.lifeline))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    async def keep_telling(self) -> None:
        """Say that this process serves, for ever: who hears nothing of it ends it."""
        with suppress(OSError):  # who would hear it is gone; so says `word`
            while True:
                await self._socket.send(READY)
                await trio.sleep(BEAT)

    async def word(self) -> Word | None:
        """What is said next; None: nobody is there any more."""
        with suppress(OSError):
            if data := await self._socket.recv(1):
                return Word(data)
        return None
