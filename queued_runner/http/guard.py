"""The guard in front of every route and method: who may talk to this server, and how much.

It owns the checks of `Host` (DNS rebinding), `Origin` and `Sec-Fetch-Site` (other people's pages),
the bearer token, and the bounds of the body. It never looks at routes but for the few that need no
token and what it is told to open, and never lets an exception of the application reach the
connection.
"""

import hmac
import ipaddress
import logging
from collections.abc import Collection
from http import HTTPStatus
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from queued_runner.config import is_loopback
from queued_runner.http.body import MAX_BODY, BodyRefused, ClientLeft, read_body
from queued_runner.http.problem import MEDIA_TYPE, problem_body
from queued_runner.http.stream import AnswerCut

log = logging.getLogger("queued_runner.http")

OPEN_PATHS: Final = frozenset({"/healthz", "/readyz", "/docs"})
"""What needs no token: what a load balancer asks, and a page that holds nothing of this server."""

LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")

SERVER_FAILED: Final = "The server failed on this request; its log says why."

_CORS_ANSWER: Final = (
    (b"access-control-allow-methods", b"GET, POST, PATCH, DELETE"),
    (
        b"access-control-allow-headers",
        b"authorization, content-type, content-encoding, idempotency-key, last-event-id",
    ),
    (b"access-control-max-age", b"600"),
)
_CORS_EXPOSE = (
    b"x-log-attempt, x-log-offset, x-log-next, x-log-complete,"
    b" x-results-attempt, x-results-left-out"
)


class _Refused(Exception):
    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class Guard:
    """An ASGI application that lets only good requests through to `app`.

    `port` is the one that was bound, `hosts` further names (with or without a port) under which
    people reach this server, `cors_origins` pages (`https://ci.example`) that may call it. What is
    below `open_prefix` asks programs of this machine for no token; pages always need one.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: str,
        port: int,
        hosts: Collection[str] = (),
        cors_origins: Collection[str] = (),
        open_prefix: str | None = None,
        max_body: int = MAX_BODY,
    ) -> None:
        if not token:
            raise ValueError("an empty token would open the API to everyone; create one first")
        self.app = app
        self._token = token.encode()
        self._port = port
        self._authorities = frozenset(
            authority for host in (*LOOPBACK, *hosts) for authority in _with_port(host, port)
        )
        self._cors_origins = frozenset(origin.rstrip("/").lower() for origin in cors_origins)
        self._open_prefix = open_prefix
        self._max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return
        answer = _Answer(send)
        try:
            await self._handle(scope, receive, answer)
        except _Refused as refused:
            await answer.problem(refused.status, refused.detail)
        except BodyRefused as refused:
            await answer.problem(refused.status, refused.detail)
        except ClientLeft:
            pass
        except AnswerCut:
            raise
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            if answer.has_begun and not answer.is_complete:
                raise  # only the end of the connection can still say that it is not whole
            if not answer.is_complete:
                await answer.problem(500, SERVER_FAILED)

    async def _handle(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        headers = _Headers(scope)
        self._check_host(headers, scope)
        origin = self._check_origin(headers)
        if origin is not None:
            answer.cors_origin = origin
            if scope["method"] == "OPTIONS" and headers.one(b"access-control-request-method"):
                await answer.empty(204, _CORS_ANSWER)
                return
        if scope["path"] not in OPEN_PATHS and not self._is_open(headers, scope):
            self._check_token(headers)
        body = await read_body(
            receive,
            encoding=headers.one(b"content-encoding").strip().lower(),
            declared=headers.length(),
            limit=self._max_body,
        )
        await self.app(scope, _Replay(body, receive), answer)

    def _check_host(self, headers: "_Headers", scope: Scope) -> None:
        hosts = headers.all(b"host")
        if len(hosts) == 1:
            authority = hosts[0].strip().lower()
            if authority in self._authorities or authority in _own_address(scope):
                return
        raise _Refused(
            421,
            "The Host header does not name this server. Use the address that the server printed at"
            " its start. Through a forward the port must be the same on both sides, as in ssh -L"
            f" {self._port}:127.0.0.1:{self._port}.",
        )

    def _check_origin(self, headers: "_Headers") -> str | None:
        """The origin if it is another one that is on the list."""
        origins = headers.all(b"origin")
        if origins:
            origin = origins[0].strip().lower()
            if len(origins) == 1 and origin in self._cors_origins:
                return origins[0].strip()
            scheme, separator, authority = origin.partition("://")
            if (
                len(origins) > 1
                or scheme not in ("http", "https")
                or not separator
                or authority not in {*self._authorities, headers.one(b"host").strip().lower()}
            ):
                raise _Refused(
                    403,
                    "A page of another origin asked for this. Use a page of this server, or a"
                    " program that sends no Origin header.",
                )
        site = headers.one(b"sec-fetch-site").strip().lower()
        if site not in ("", "none", "same-origin", "same-site"):
            raise _Refused(
                403,
                "The browser says that another site asked for this. Open the page of this server"
                " instead.",
            )
        return None

    def _is_open(self, headers: "_Headers", scope: Scope) -> bool:
        if self._open_prefix is None or not scope["path"].startswith(self._open_prefix):
            return False
        client = scope.get("client")
        return client is not None and is_loopback(client[0]) and not headers.all(b"origin")

    def _check_token(self, headers: "_Headers") -> None:
        given = headers.all(b"authorization")
        if len(given) == 1:
            scheme, _, token = given[0].strip().partition(" ")
            if scheme.lower() == "bearer" and hmac.compare_digest(
                token.strip().encode("latin-1"), self._token
            ):
                return
            reason = "The token is not the one of this server."
        else:
            reason = "A token is needed."
        raise _Refused(
            401,
            f"{reason} Send 'Authorization: Bearer TOKEN'; TOKEN stands in the file 'token' in the"
            " data directory of the server.",
        )


class _Headers:
    """The headers of a request as text; HTTP's own encoding, so nothing can fail."""

    def __init__(self, scope: Scope) -> None:
        self._pairs = scope["headers"]

    def all(self, name: bytes) -> list[str]:
        return [value.decode("latin-1") for key, value in self._pairs if key.lower() == name]

    def one(self, name: bytes) -> str:
        """The value if it is there once, else an empty text."""
        values = self.all(name)
        return values[0] if len(values) == 1 else ",".join(values)

    def length(self) -> int | None:
        text = self.one(b"content-length")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


class _Replay:
    """`receive` for the application: the body that was read, then what the server still says."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


class _Answer:
    """`send` that knows whether the answer has begun, and adds what every answer carries."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.has_begun = False
        self.is_complete = False
        self.cors_origin: str | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_begun = True
            headers = [*message.get("headers", ()), (b"x-content-type-options", b"nosniff")]
            if not any(key.lower() == b"cache-control" for key, _ in headers):
                headers.append((b"cache-control", b"no-store"))
            if self.cors_origin is not None:
                headers += [
                    (b"access-control-allow-origin", self.cors_origin.encode("latin-1")),
                    (b"access-control-expose-headers", _CORS_EXPOSE),
                    (b"vary", b"Origin"),
                ]
            message = {**message, "headers": headers}
        await self._send(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.is_complete = True

    async def empty(self, status: int, headers: Collection[tuple[bytes, bytes]]) -> None:
        await self({"type": "http.response.start", "status": status, "headers": list(headers)})
        await self({"type": "http.response.body", "body": b""})

    async def problem(self, status: int, detail: str) -> None:
        body = problem_body(status, detail)
        headers = [
            (b"content-type", MEDIA_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
        ]
        if status == HTTPStatus.UNAUTHORIZED:
            headers.append((b"www-authenticate", b'Bearer realm="duplex-runner"'))
        if status in (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.REQUEST_TIMEOUT):
            headers.append((b"connection", b"close"))
        await self({"type": "http.response.start", "status": status, "headers": headers})
        await self({"type": "http.response.body", "body": body})


def _with_port(host: str, port: int) -> list[str]:
    """The forms in which `host` may stand in a Host header."""
    host = host.lower()
    if host.count(":") > 1 and not host.startswith("["):
        host = f"[{host}]"
    if host.rpartition("]")[2].count(":"):
        return [host]
    return [f"{host}:{port}", host] if port in (80, 443) else [f"{host}:{port}"]


def _own_address(scope: Scope) -> list[str]:
    """The address on which this connection arrived: an address cannot be rebound."""
    server = scope.get("server")
    if not server or server[1] is None:
        return []
    try:
        address = ipaddress.ip_address(str(server[0]).partition("%")[0])
    except ValueError:
        return []
    return _with_port(str(address), int(server[1]))
