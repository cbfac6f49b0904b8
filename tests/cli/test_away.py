"""Verbs while the server is away: each request goes on where it was, nothing is lost or doubled.

Faults are put between the client and a real server: before a request, after it, within its answer.
"""

import random
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator

import httpx2
import pytest

from queued_runner.cli import status_line
from queued_runner.client.api import Chunk, Client
from queued_runner.client.locate import find_server
from queued_runner.jobs import JobSpec
from tests.cli.conftest import StartVerb, Verb, jobs
from tests.cli.service_thread import PATIENCE, ServiceThread

AWAY = "queued-runner: the server is away; going on when it is back (giving up after 120 seconds)\n"
BACK = "queued-runner: the server is back\n"

Send = Callable[[httpx2.Request], httpx2.Response]
Fault = Callable[[httpx2.Request, Send], httpx2.Response]


def well(request: httpx2.Request, send: Send) -> httpx2.Response:
    return send(request)


def gone(request: httpx2.Request, send: Send) -> httpx2.Response:
    raise httpx2.ConnectError("refused")


def killed_afterwards(request: httpx2.Request, send: Send) -> httpx2.Response:
    send(request).close()
    raise httpx2.ReadError("reset")


def stopping(request: httpx2.Request, send: Send) -> httpx2.Response:
    return httpx2.Response(503, json={"detail": "The server is stopping."})


def another_server(request: httpx2.Request, send: Send) -> httpx2.Response:
    return httpx2.Response(401, json={"detail": "The token is not right."})


def another_program(request: httpx2.Request, send: Send) -> httpx2.Response:
    return httpx2.Response(404, text="<html>")


def no_program_of_ours(request: httpx2.Request, send: Send) -> httpx2.Response:
    return httpx2.Response(200, text="<html>", headers={"content-type": "text/html"})


def cut_after(size: int) -> Fault:
    """The connection breaks within the answer."""

    def fault(request: httpx2.Request, send: Send) -> httpx2.Response:
        response = send(request)
        return httpx2.Response(
            response.status_code, headers=response.headers, stream=_Cut(response.stream, size)
        )

    return fault


class _Cut(httpx2.SyncByteStream):
    def __init__(self, stream: httpx2.SyncByteStream, left: int) -> None:
        self._stream = stream
        self._left = left

    def __iter__(self) -> Iterator[bytes]:
        for data in self._stream:
            yield data[: self._left]
            self._left -= len(data)
            if self._left <= 0:
                raise httpx2.ReadError("reset")

    def close(self) -> None:
        self._stream.close()


class Network:
    """Between every client in this process and its server; `faults` befall the next requests."""

    def __init__(self, send: Callable[[httpx2.HTTPTransport, httpx2.Request], httpx2.Response]):
        self._send = send
        self.faults: Iterator[Fault] = iter(())

    def handle(self, transport: httpx2.HTTPTransport, request: httpx2.Request) -> httpx2.Response:
        fault = next(self.faults, well)
        return fault(request, lambda request: self._send(transport, request))


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    network = Network(httpx2.HTTPTransport.handle_request)
    monkeypatch.setattr(
        httpx2.HTTPTransport, "handle_request", lambda *given: network.handle(*given)
    )
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr(status_line, "PERIOD", PATIENCE)  # it would take faults of the verb
    return network


def two_jobs(service: ServiceThread) -> None:
    """The first has failed with 7 at its second try, and lost output; the second succeeded."""
    service.do(service.queue.add, *jobs(2, group="g"))
    for text, end in ((b"first\n", {"retry": True}), (b"a\nb\xff\n", {"dropped": 3})):
        service.do(service.queue.start, 1)
        service.do(service.queue.write, 1, "stdout", text)
        service.do(service.queue.write, 1, "stderr", b"err\n")
        service.do(service.queue.finish, 1, 7, **end)
    service.do(service.queue.start, 2)
    service.do(service.queue.finish, 2)


def test_a_retry_whose_answer_is_lost_is_no_conflict(
    service: ServiceThread, network: Network, verb: Verb
) -> None:
    two_jobs(service)
    network.faults = iter([well, killed_afterwards])
    done = verb("retry", "1", "2")
    assert done.exit_code == 0
    assert service.queue.retries == [1, 2]
    assert verb("retry", "1").exit_code == 125  # it is queued, and nobody lost an answer


@pytest.mark.parametrize("fault", [gone, killed_afterwards, stopping])
@pytest.mark.parametrize(
    "arguments",
    [
        "logs -f 1", "logs -f 1 --attempt 1", "logs 1 --tail 1", "logs last", "wait 1", "wait 1-2",
        "wait last", "wait --group g", "show 1", "cancel 1 2",
    ],
)  # fmt: skip
def test_every_request_but_the_first_is_made_again(
    service: ServiceThread, network: Network, verb: Verb, arguments: str, fault: Fault
) -> None:
    two_jobs(service)
    expected = verb(*arguments.split())
    network.faults = (each for _ in range(50) for each in (well, fault))
    done = verb(*arguments.split())
    assert (done.exit_code, done.stdout_bytes) == (expected.exit_code, expected.stdout_bytes)
    assert done.stderr.replace(AWAY + BACK, "") == expected.stderr


@pytest.mark.parametrize("fault", [gone, killed_afterwards, stopping])
@pytest.mark.parametrize("arguments", ["logs -f 1", "wait 1-2", "show 1", "cancel 1 2", "submit x"])
def test_another_server_of_the_queue_is_asked_at_once(
    service: ServiceThread,
    network: Network,
    verb: Verb,
    monkeypatch: pytest.MonkeyPatch,
    arguments: str,
    fault: Fault,
) -> None:
    two_jobs(service)
    expected = verb(*arguments.replace("submit", "submit --key k").split())
    url = find_server().url
    monkeypatch.setenv("DUPLEX_RUNNER_URL", f"{url},{url.replace('127.0.0.1', 'localhost')}")
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("the client paused"))
    network.faults = (each for _ in range(50) for each in (fault, well))
    done = verb(*arguments.replace("submit", "submit --key k").split())
    assert done.exit_code == expected.exit_code
    assert (done.stdout_bytes, done.stderr) == (expected.stdout_bytes, expected.stderr)


def test_servers_of_which_none_was_ever_there_are_not_waited_for(
    service: ServiceThread, network: Network, verb: Verb, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DUPLEX_RUNNER_URL", "http://127.0.0.1:1,http://127.0.0.1:2")
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("the client paused"))
    network.faults = iter([gone] * 9)
    done = verb("ps")
    assert done.exit_code == 125
    assert done.stderr.startswith("queued-runner: No server answers at http://127.0.0.1:2 ")


@pytest.mark.parametrize("key", [(), ("--key", "k")])
@pytest.mark.parametrize("fault", [killed_afterwards, stopping, cut_after(3)])
def test_a_job_whose_submit_was_not_answered_is_sent_again_and_is_one(
    service: ServiceThread, network: Network, verb: Verb, key: tuple[str, ...], fault: Fault
) -> None:
    async def worker(service: ServiceThread) -> None:
        await service.queue.until(lambda: service.queue.followers)
        service.queue.start(1)
        service.queue.write(1, "stdout", b"once")
        service.queue.finish(1, 4)

    service.play(worker)
    network.faults = iter([fault, gone])
    done = verb("run", *key, "make")
    assert (done.exit_code, done.stdout, done.stderr) == (4, "once", AWAY + BACK)
    assert list(service.queue.jobs) == [1]


def test_two_jobs_without_a_key_are_two(service: ServiceThread, verb: Verb) -> None:
    assert [verb("submit", "make").stdout for _ in range(2)] == ["1\n", "2\n"]


@pytest.mark.parametrize("seed", range(30))
def test_a_stream_that_breaks_at_any_byte_goes_on_behind_it(
    service: ServiceThread, network: Network, seed: int
) -> None:
    rng = random.Random(seed)
    service.do(service.queue.add, *jobs(1))
    written = []
    for exit_code in (1, 0):
        service.do(service.queue.start, 1)
        for _ in range(20):
            chunk = (rng.choice(("stdout", "stderr")), rng.randbytes(rng.randint(1, 40)))
            written.append(chunk)
            service.do(service.queue.write, 1, *chunk)
        service.do(service.queue.finish, 1, exit_code, retry=bool(exit_code))
    network.faults = iter([cut_after(rng.randint(1, 300)) for _ in range(20)])
    with Client(find_server(), relocate=find_server) as client:
        items = list(client.follow(1))
    received = [(item.stream, item.data) for item in items if isinstance(item, Chunk)]
    assert received == written
    assert len(items) == len(received) + 1


@pytest.mark.parametrize("stranger", [another_server, another_program, no_program_of_ours])
@pytest.mark.parametrize("arguments", ["wait 1", "logs -f 1"])
def test_a_stranger_on_the_port_of_a_server_that_is_away_is_not_believed(
    service: ServiceThread, network: Network, verb: Verb, stranger: Fault, arguments: str
) -> None:
    two_jobs(service)
    expected = verb(*arguments.split())
    network.faults = iter([well, gone, stranger, gone, stranger])
    done = verb(*arguments.split())
    assert (done.exit_code, done.stdout_bytes) == (expected.exit_code, expected.stdout_bytes)


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        *((verb, gone) for verb in ("run make", "submit make", "logs -f 1", "wait 1", "ps")),
        *((verb, another_server) for verb in ("run make", "logs -f 1", "wait 1")),
        *((verb, another_program) for verb in ("run make", "logs -f 1", "wait 1")),
        ("ps", killed_afterwards),
    ],
)
def test_a_server_that_was_never_there_is_not_waited_for(
    service: ServiceThread,
    network: Network,
    verb: Verb,
    monkeypatch: pytest.MonkeyPatch,
    arguments: str,
    fault: Fault,
) -> None:
    service.do(service.queue.add, *jobs(1))
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("the client paused"))
    network.faults = iter([fault] * 3)
    done = verb(*arguments.split())
    assert (done.exit_code, done.stdout) == (125, "")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("arguments", ["logs -f 1", "wait 1", "wait 1-2"])
def test_ctrl_c_leaves_while_the_server_is_away(
    service: ServiceThread, start_verb: StartVerb, arguments: str
) -> None:
    service.do(service.queue.add, JobSpec(command="true"), JobSpec(command="true"))
    client = start_verb(*arguments.split())
    service.wait_until(lambda: service.queue.followers or service.queue.waiters)
    service.stop()
    assert client.stderr is not None
    assert client.stderr.readline().decode() == AWAY
    client.send_signal(signal.SIGINT)
    stdout, stderr = client.communicate(timeout=PATIENCE)
    assert (client.returncode, stdout, stderr) == (130, b"", b"")


def test_ctrl_c_leaves_where_a_submit_is_not_answered(
    start_verb: StartVerb, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("DUPLEX_RUNNER_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("DUPLEX_RUNNER_TOKEN", "x")

        def die_with_each_request() -> None:
            while True:
                try:
                    connection = server.accept()[0]
                except OSError:
                    return
                with connection:
                    connection.recv(65536)

        dying = threading.Thread(target=die_with_each_request)
        dying.start()
        client = start_verb("run", "make")
        assert client.stderr is not None
        assert client.stderr.readline().decode() == AWAY
        client.send_signal(signal.SIGINT)
        stdout, stderr = client.communicate(timeout=PATIENCE)
        server.shutdown(socket.SHUT_RDWR)
        dying.join(PATIENCE)
    assert (client.returncode, stdout) == (125, b"")
    assert re.search(b"the job may be in the queue none the less, where 'queued-runner ps'", stderr)
