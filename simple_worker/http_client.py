"""Requests with JSON to one server over HTTP: as much as an agent needs, and no more.

Owns what a request is in bytes, its bounds in time and size, and TLS. HTTP/1.0, a connection for
each request: the end of the answer is the end of the connection, whatever is in between.
"""

import gzip
import json
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import trio

from remote_runner.errors import RunnerError

PATIENCE: Final = 30.0
"""Seconds for a whole request."""
MAX_ANSWER: Final = 8 * 1024 * 1024
SMALL: Final = 4096
"""Bytes of a body that is sent as it is; what is more is compressed, in a thread."""


class NoAnswer(RunnerError):
    """The server could not be asked, or what came back is no answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The status, and the JSON of the body; None where it is none."""

    status: int
    value: Any

    @property
    def is_good(self) -> bool:
        return 200 <= self.status < 300

    @property
    def is_passing(self) -> bool:
        """Whether the same request may be answered otherwise later."""
        return self.status >= 500 or self.status in (401, 403, 408, 421, 429)

    @property
    def why(self) -> str:
        """What the server says is wrong."""
        detail = self.value.get("detail") if isinstance(self.value, dict) else None
        return detail if isinstance(detail, str) else f"HTTP status {self.status}"


class HttpClient:
    """Asks one server.

    Args:
        url: `http://` or `https://`, with a path before all others where it has one.
        token: is sent with each request, if there is one.

    Raises:
        ValueError: this is not such a URL.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not a URL like http://127.0.0.1:8633")
        parts.hostname.encode("idna")
        self.url = url
        self._is_secure = parts.scheme == "https"
        self._host = parts.hostname
        self._port = parts.port or (443 if self._is_secure else 80)
        self._prefix = parts.path.rstrip("/")
        self._head = (
            f"Host: {parts.netloc.rpartition('@')[2]}\r\nContent-Type: application/json\r\n"
        )
        if token is not None:
            self._head += f"Authorization: Bearer {token}\r\n"

    async def call(self, method: str, path: str, body: object) -> Answer:
        """Send `body` as JSON, and wait for the answer.

        Raises:
            NoAnswer: there is none.
        """
        request = self._encode(method, path, json.dumps(body).encode())
        if len(request) > SMALL:
            request = await trio.to_thread.run_sync(self._encode_gzip, method, path, body)
        try:
            with trio.fail_after(PATIENCE):
                received = await self._exchange(request)
        except trio.TooSlowError:
            raise NoAnswer(f"{self.url} does not answer") from None
        except (OSError, trio.BrokenResourceError) as error:
            cause = error.__cause__ or error
            why = getattr(cause, "strerror", None) or str(cause) or "the connection was lost"
            raise NoAnswer(f"{self.url} cannot be asked: {why}") from error
        return self._decode(received)

    def _encode_gzip(self, method: str, path: str, body: object) -> bytes:
        data = gzip.compress(json.dumps(body).encode(), compresslevel=6)
        return self._encode(method, path, data, "Content-Encoding: gzip\r\n")

    def _encode(self, method: str, path: str, data: bytes, more: str = "") -> bytes:
        head = (
            f"{method} {self._prefix}{path} HTTP/1.0\r\n{self._head}{more}"
            f"Content-Length: {len(data)}\r\n\r\n"
        )
        return head.encode("latin-1") + data

    async def _exchange(self, request: bytes) -> bytes:
        stream: trio.abc.Stream
        if self._is_secure:
            stream = await trio.open_ssl_over_tcp_stream(
                self._host, self._port, https_compatible=True
            )
        else:
            stream = await trio.open_tcp_stream(self._host, self._port)
        received = bytearray()
        async with stream:
            await stream.send_all(request)
            while data := await stream.receive_some(65536):
                received += data
                if len(received) > MAX_ANSWER:
                    raise NoAnswer(f"{self.url} answers with more than {MAX_ANSWER:,} bytes")
        return bytes(received)

    def _decode(self, received: bytes) -> Answer:
        head, _, body = received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        version, _, rest = first.partition(" ")
        headers = {name.strip().lower(): value.strip() for name, _, value in
                   (line.partition(":") for line in lines)}  # fmt: skip
        length = headers.get("content-length", "")
        if not version.startswith("HTTP/") or not rest[:3].isdigit():
            raise NoAnswer(f"{self.url} does not speak HTTP")
        if length.isdigit() and int(length) != len(body):
            raise NoAnswer(f"the answer of {self.url} was cut off")
        try:
            return Answer(int(rest[:3]), json.loads(body) if body else None)
        except (ValueError, RecursionError):
            if rest[0] == "2":
                raise NoAnswer(f"{self.url} does not answer with JSON") from None
            return Answer(int(rest[:3]), None)
