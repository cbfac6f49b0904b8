"""One job prints as fast as it can: what that does to everybody else.

Measures the real commands on one machine. It owns the figures and the bounds they must keep.
"""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.commands import Service, resident

MIB: int = 1 << 20
GRACE = 1.0
TICKER = "import time\nwhile True: print(repr(time.time()), flush=True); time.sleep(0.05)"
FLOOD = "trap '' TERM; exec yes"
"""It ignores the first signal, so that its end takes the whole grace."""


@dataclass(frozen=True)
class Figure:
    """One measured number and what it may be at most."""

    name: str
    value: float
    most: float
    unit: str

    @property
    def is_kept(self) -> bool:
        return self.value <= self.most

    def __str__(self) -> str:
        verdict = "" if self.is_kept else "  MISSED"
        return f"{self.name:<44} {self.value:9.3f} {self.unit:<4} (<= {self.most:g}){verdict}"


def measure(folder: Path, seconds: float) -> list[Figure]:
    """Flood a service for so long. The stored flood takes its size on the disk below `folder`."""
    with Service(folder) as service:
        server = service.start_server()
        delays = folder / "heartbeats"
        worker = service.start_worker(
            slots=3, module="tests.pressure.worker", env={**service.env, "HEARTBEATS": str(delays)}
        )
        service.run("true")
        ticker = service.submit("python", "-c", TICKER)
        with following(service, ticker) as latencies, slow_reader(service, ticker):
            service.wait_for(lambda: len(latencies) > 20, "the first lines")
            latencies.clear()
            delays.write_text("")
            pids = {"server": server.pid, "worker": worker.pid}
            before = {name: resident(pid) for name, pid in pids.items()}
            flood = service.submit("sh", "-c", FLOOD, kill_grace=GRACE, max_log_size=1 << 40)
            with slow_reader(service, flood):
                grown = dict.fromkeys(pids, 0)
                end = time.monotonic() + seconds
                while time.monotonic() < end:
                    time.sleep(0.1)
                    for name, pid in pids.items():
                        grown[name] = max(grown[name], resident(pid) - before[name])
                begin = time.monotonic()
                service.cancel(flood)
                service.wait_for(lambda: service.job(flood)["finished_at"], "the end of the flood")
                cancelled = time.monotonic() - begin
        heartbeats = [float(line) for line in delays.read_text().split()]
        size = service.job(flood)["log_bytes"]
        assert service.job(flood)["state"] == "cancelled"
        assert service.job(ticker)["attempt"] == 1
    print(f"{size / seconds / MIB:.0f} MiB/s were stored for {seconds:g} s")
    return [
        Figure("memory growth of the server", grown["server"] / MIB, 64, "MiB"),
        Figure("memory growth of the worker", grown["worker"] / MIB, 64, "MiB"),
        Figure(f"heartbeat and back, p99 of {len(heartbeats)}", p99(heartbeats), 1.0, "s"),
        Figure(f"another job's line, p99 of {len(latencies)}", p99(latencies), 0.5, "s"),
        Figure("cancel of the flood", cancelled, GRACE + 1, "s"),
    ]


def p99(values: list[float]) -> float:
    """The 99th percentile."""
    return sorted(values)[min(len(values) - 1, len(values) * 99 // 100)]


@contextmanager
def following(service: Service, job_id: int) -> Iterator[list[float]]:
    """`logs -f` of the ticker: seconds from each line's print to its arrival."""
    latencies: list[float] = []
    client = service.start_verb("logs", "-f", job_id)
    assert client.stdout is not None
    lines = client.stdout

    def read() -> None:
        for line in lines:
            latencies.append(time.time() - float(line))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield latencies
    finally:
        client.kill()
        reader.join()


@contextmanager
def slow_reader(service: Service, job_id: int) -> Iterator[None]:
    """Somebody who asks for a live log over HTTP, and reads nothing of it."""
    facts = service.facts
    token = Path(facts["token_file"]).read_text().strip()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", facts["http_port"]))
        lines = (
            f"GET /api/v1/jobs/{job_id}/logs/stream HTTP/1.1",
            f"Host: 127.0.0.1:{facts['http_port']}",
            f"Authorization: Bearer {token}",
        )
        connection.sendall("".join(f"{line}\r\n" for line in (*lines, "")).encode())
        assert connection.recv(12) == b"HTTP/1.1 200"
        yield
