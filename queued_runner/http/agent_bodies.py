"""What agents send, as JSON that may come from anybody.

It owns the fields of each body and their bounds. Decoding stops at the first error and skips what
is unknown: however a body is made, it takes no more memory than a few times its size, and
milliseconds. It decides nothing about what a body means.
"""

from typing import Annotated, Final, Literal, TypeVar

import msgspec

from remote_runner.types import Reason, StreamName

MAX_TOLD: Final = 256 * 1024
"""Bytes of a body that is no output: a pull names at most 10,000 tasks."""
MAX_WAIT: Final = 20.0
"""Seconds that a heartbeat may wait for news: less than the lease that it renews."""

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f]*\Z")]


class Malformed(Exception):
    """It is not JSON; the message says why."""


class Invalid(Exception):
    """It is JSON, of which `field` may not be as it is; the message says why.

    It never repeats a value that was sent: it may be a secret, and long.
    """

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(detail)
        self.field = field


class PullRequest(msgspec.Struct, frozen=True):
    """Who pulls; agents of the ancestor say nothing."""

    id: Name | None = None
    boot: Name = "-"
    held: Annotated[frozenset[int], msgspec.Meta(max_length=10_000)] = frozenset()
    name: Name | None = None
    slots: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1
    labels: Annotated[
        dict[Name, Annotated[str, msgspec.Meta(max_length=256)]], msgspec.Meta(max_length=64)
    ] = {}


class Chunk(msgspec.Struct, frozen=True):
    """Lines of one stream, or, where it is no text or its last line has no end, `base64`."""

    kind: StreamName
    index: Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]
    content: str | None = None
    """Lines joined by newlines."""
    base64: Annotated[bytes, msgspec.Meta(min_length=1)] | None = None
    """Not empty: no bytes are no piece on the disk, where pieces are counted for the next index."""

    def __post_init__(self) -> None:
        if (self.content is None) == (self.base64 is None):
            raise ValueError("either content or base64 is needed")

    def data(self) -> bytes:
        """Its bytes. The last line of `content` ends with a newline too."""
        return f"{self.content}\n".encode() if self.base64 is None else self.base64


class StatusRequest(msgspec.Struct, frozen=True):
    """How a task has ended; what is beyond `status` only ours say."""

    status: Literal["succeeded", "failed"]
    reason: Reason | None = None
    exit_code: Annotated[int, msgspec.Meta(ge=0, le=255)] | None = None
    signal: Annotated[str, msgspec.Meta(max_length=32)] | None = None
    complete: bool = False

    def __post_init__(self) -> None:
        if self.reason in (Reason.WORKER_LOST, Reason.UNHEARD, Reason.GIVEN_BACK, Reason.STOPPED):
            raise ValueError(f"an agent cannot say {self.reason.value!r}")


class HeartbeatRequest(msgspec.Struct, frozen=True):
    """`wait`: seconds that the answer may take, for the news that the task is to end."""

    wait: Annotated[float, msgspec.Meta(ge=0, le=MAX_WAIT)] = 0.0


Body = TypeVar("Body", PullRequest, Chunk, StatusRequest, HeartbeatRequest)


def decode(kind: type[Body], body: bytes) -> Body:
    """The body, which is one of this kind.

    Raises:
        Malformed: it is not JSON.
        Invalid: something in it is missing, or may not be as it is.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$")
        if text.startswith("Invalid enum value"):
            text = "There is no such value"
        raise Invalid(path.rstrip("`").lstrip(".") or "body", text[:1].lower() + text[1:]) from None
    except RecursionError:
        raise Malformed("it is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(str(error)) from None
