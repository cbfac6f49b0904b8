"""The way to a server: requests, their errors as sentences, and trying again. Synchronous.

It owns the connection and the wording of what can go wrong on it. It knows no route.
"""

import json
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final, Self

import httpx2

from queued_runner.client.errors import ClientError, NotOurs, Refused, Unreachable
from queued_runner.client.locate import DETACH, START_HINT, Server
from queued_runner.client.patience import Patience

EVENTS: Final = "text/event-stream"

_AWAY: Final = frozenset({502, 503, 504})
"""What a server that stops answers, and a proxy before one that is gone."""


class Link:
    """A connection to a server that can be found anew when it went away.

    A server that has answered once is waited for when it goes away, and asked again: every request
    made here may be carried out twice. One that was never there is not. Where there are others of
    the same queue each of them is asked at once, before anybody waits.

    `relocate` finds it: it may come back on another port. `on_notice` gets a sentence when the
    server is away and when it is back; `detach` is for how many seconds it is then tried again:
    as long as its jobs wait for it, if nothing is given.
    """

    def __init__(
        self,
        server: Server,
        *,
        relocate: Callable[[], Server] | None = None,
        on_notice: Callable[[str], None] | None = None,
        detach: float | None = None,
    ) -> None:
        self._relocate = relocate
        self._on_notice = on_notice or (lambda text: None)
        self._detach = max(DETACH, server.detach) if detach is None else detach
        self._patience = Patience(self._detach)
        self._was_there = False
        self._is_away = False
        self._untried = len(server.others)
        """Other servers that have not been asked since one did what it was asked for."""
        self.repeats = 0
        """How often a request was made again, because nobody knows what became of it."""
        self.connect(server)

    def connect(self, server: Server) -> None:
        self.server = server
        secure = server.url.startswith("https:")
        try:
            self.http = httpx2.Client(
                base_url=server.url,
                headers={"Authorization": f"Bearer {server.token}"},
                timeout=httpx2.Timeout(30.0, connect=5.0),
                verify=secure,  # making a TLS context costs more than most requests
                trust_env=secure,  # a proxy for everything would break the way to this machine
            )
        except (httpx2.InvalidURL, ValueError) as error:
            raise Unreachable(f"{server.url!r} is not an address: {error}.") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self.http.close()

    def request(self, method: str, path: str, **given: Any) -> Any:
        """The JSON of an answer; `given` as for `respond`."""
        response = self.respond(method, path, **given)
        try:
            return response.json()
        except ValueError:
            raise self.not_understood() from None

    def respond(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        content: bytes | None = None,
        timeout: float = 30.0,
    ) -> httpx2.Response:
        """A whole answer that is no error. Parameters that are None are not sent.

        Raises:
            Unreachable: there was no answer, or the server stayed away for `detach` seconds.
            Refused: the answer is an error.
        """
        known = {key: value for key, value in (params or {}).items() if value is not None}
        while True:
            try:
                response = self._ask(method, path, params=known, content=content, timeout=timeout)
            except ClientError as error:
                if method == "POST" and isinstance(error, Unreachable) and error.was_sent:
                    self._was_there = True  # what became of it only asking again tells
                if not self.is_passing(error):
                    raise
                self.retry(error)
            else:
                self.progress()
                return response

    def _ask(self, method: str, path: str, **given: Any) -> httpx2.Response:
        try:
            response = self.http.request(method, path, **given)
        except httpx2.TransportError as error:
            raise self.unreachable(error) from None
        self.check(response)
        return response

    def check(self, response: httpx2.Response) -> None:
        """Raises Refused unless the answer is good."""
        status = response.status_code
        if response.is_success:
            kind = response.headers.get("content-type", "")
            if kind.startswith("text/") and not kind.startswith(EVENTS):
                raise self.not_understood()
            self._was_there = True
            return
        response.read()
        if status == 401:
            raise NotOurs(
                status,
                f"The server at {self.server.url} did not accept the token. Set"
                " DUPLEX_RUNNER_TOKEN to what stands in the file 'token' of its data directory.",
            )
        try:
            problem = response.json()
            detail = str(problem["detail"])
        except (ValueError, KeyError, TypeError):
            raise NotOurs(
                status, f"{self.server.url} answered {status}: is it a duplex-runner?"
            ) from None
        self._was_there = True
        raise Refused(status, detail, problem)

    def not_understood(self) -> NotOurs:
        """What to say of an answer that no server of this kind gives."""
        return NotOurs(200, f"{self.server.url} did not answer as a duplex-runner.")

    def unreachable(self, error: Exception) -> Unreachable:
        """What to say of a connection that failed."""
        where = f"{self.server.url} (from {self.server.source})"
        if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
            return Unreachable(f"No server answers at {where}; {START_HINT}.")
        if isinstance(error, httpx2.TimeoutException):
            return Unreachable(f"The server at {where} did not answer in time.", was_sent=True)
        why = str(error).rstrip(".") or type(error).__name__
        return Unreachable(f"The connection to {where} broke: {why}.", was_sent=True)

    def is_passing(self, error: ClientError) -> bool:
        """Whether the server that was here may answer better after a while."""
        if not self._was_there:
            return self._untried > 0 and isinstance(error, Unreachable)
        if isinstance(error, NotOurs) and not self._patience.is_fresh:
            return True  # it comes back elsewhere: another program has got its old port
        return isinstance(error, Unreachable) or (
            isinstance(error, Refused) and error.status in _AWAY
        )

    def seen(self) -> None:
        """The server is there, which says nothing yet of how long it stays."""
        if self._is_away:
            self._is_away = False
            self._on_notice("the server is back")

    def progress(self) -> None:
        """The server has done what it was asked for."""
        self.seen()
        self._patience.reset()
        self._untried = len(self.server.others)

    def retry(self, error: ClientError) -> None:
        """Go to the next server; after the last one wait a little and look for the first one again,
        or give up with `error`."""
        self.repeats += 1
        if self._untried:
            self._untried -= 1
            self._reconnect(self.server.next)
            return
        self._untried = len(self.server.others)
        is_first = self._patience.is_fresh
        pause = self._patience.next_pause()
        if pause is None:
            raise error
        if is_first:
            self._is_away = True
            self._on_notice(
                "the server is away; going on when it is back"
                f" (giving up after {self._detach:g} seconds)"
            )
        time.sleep(pause)
        if self._relocate is not None:
            try:
                server = self._relocate()
            except Unreachable:
                return
            if server != self.server:
                self._reconnect(server)

    def _reconnect(self, server: Server) -> None:
        self.http.close()
        self.connect(server)


def dump(value: Any) -> bytes:
    """A request's body.

    Raises:
        ClientError: there is text in it that is not Unicode: bytes of the command line.
    """
    try:
        return json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ClientError(
            "Something in the command line is not UTF-8 and cannot be sent as JSON; --stdin takes"
            " any bytes as the input of a job."
        ) from None
