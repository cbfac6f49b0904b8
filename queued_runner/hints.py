"""What servers of one queue tell each other, so that nobody has to look again and again.

Owns the words and their form on the wire. A hint may be lost, come late or twice: whatever it says
is in the store, and is found there without it, only later. A server that is alone tells nobody.
"""

from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

MAX_TEXT: Final = 7900
"""Bytes of one message; PostgreSQL takes 8,000 (its documentation of NOTIFY)."""
MAX_WAITING: Final = 10_000
"""Hints that wait to be sent; beyond them one says that there were too many."""


class Kind(StrEnum):
    """What a hint is about."""

    WORK = "w"
    """There may be a job to claim."""
    JOB = "j"
    """An attempt of a job has begun or ended, or somebody wants it to end."""
    WANTED = "f"
    """Somebody follows the output of a job at another server than the one that has it."""
    GROWN = "g"
    """There is more of the output of a job in its files."""
    DRAINS = "d"
    """Which workers are drained has changed."""
    LOST = "x"
    """There were more hints than could be told: look at everything."""


class Hint(NamedTuple):
    """A kind, and the job that it is about; 0: none."""

    kind: Kind
    job: int = 0


Heard = Callable[[Hint], None]


class Hints(Protocol):
    """The way to the other servers and back."""

    def send(self, hint: Hint) -> None:
        """Tell the others soon; returns at once."""
        ...

    async def run(self, heard: Heard) -> None:
        """Send, and hand on what the others tell, for ever. After an interruption it hands on a
        `LOST`."""
        ...


class NoHints:
    """Those of a server that is alone."""

    def send(self, hint: Hint) -> None:
        pass

    async def run(self, heard: Heard) -> None:
        pass


class Waiting:
    """Hints that wait to be sent, each once."""

    def __init__(self) -> None:
        self._hints: dict[Hint, None] = {}

    def __bool__(self) -> bool:
        return bool(self._hints)

    def add(self, hint: Hint) -> None:
        """Have it sent."""
        if len(self._hints) < MAX_WAITING:
            self._hints[hint] = None
        else:
            self._hints = {Hint(Kind.LOST): None}

    def take(self, sender: str) -> list[str]:
        """All of them, as messages of a sender."""
        hints, self._hints = self._hints, {}
        return list(_messages(sender, [f"{hint.kind}{hint.job}" for hint in hints]))


def _messages(sender: str, words: list[str]) -> Iterator[str]:
    message = sender
    for word in words:
        if len(message) + 1 + len(word) > MAX_TEXT:
            yield message
            message = sender
        message += f" {word}"
    if message != sender:
        yield message


def read_message(text: str) -> tuple[str, list[Hint]]:
    """The sender of a message and its hints; what is none is passed over."""
    sender, *words = text.split(" ")
    return sender, [hint for word in words if (hint := _hint(word)) is not None]


def _hint(word: str) -> Hint | None:
    kind, job = word[:1], word[1:]
    if kind not in set(Kind) or not (job.isascii() and job.isdigit()) or len(job) > 19:
        return None
    return Hint(Kind(kind), int(job))
