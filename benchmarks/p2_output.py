"""P2: how fast one job's output reaches the disk, and what memory that costs.

Measures: one job that prints 2 GB, from submit to its durable end, and how far the
resident memory of server and worker rises above what they used before. Fair because: the limit
is the same command through two `socat` that only copy (pipe to TCP, TCP to file, 256 KiB at a time,
and one fdatasync at the end), in turn with ours on the same disk; where there is no `socat`, two
programs in C do the same. The stored output is counted afterwards. Peers print as much as they take
in ten seconds.
"""

import re
import shutil
import subprocess
import time
from pathlib import Path

from benchmarks.beside import Beside
from benchmarks.harness import Service, limits_program, memory, service
from benchmarks.rows import Goal, Row

MEASURE = "output_rate"
SCALE = 1_000_000
GOAL = 0.4
MAX_GROWTH = 64
COMMAND = "head -c {} /dev/zero"
"""Nothing compresses: what it prints makes no difference."""


def run(folder: Path, quick: bool, peers: Beside) -> list[Row]:
    size, rounds = (50_000_000, 1) if quick else (2_000_000_000, 3)
    socat = shutil.which("socat")
    command = COMMAND.format(size)
    ours, limits, server_growth, worker_growth = [], [], [], []
    for number in range(rounds):
        copy = (
            _copy_with_socat(socat, folder / "sink", command)
            if socat
            else _copy_with_c(limits_program(folder), folder / "sink", command)
        )
        limits.append(size / 1e6 / copy)
        here = folder / f"round-{number}"
        here.mkdir()
        with service(here) as server, server.worker(slots=1) as worker:
            server.submit([{"command": "/bin/true", "group": "warm"}])
            server.wait_for(lambda: server.is_done("warm"), 60, "the warm-up")
            before = memory(server.server.pid), memory(worker.pid)

            ours.append(size / 1e6 / seconds(server, size))
            server_growth.append((memory(server.server.pid, "VmHWM") - before[0]) / (1 << 20))
            worker_growth.append((memory(worker.pid, "VmHWM") - before[1]) / (1 << 20))
        shutil.rmtree(here)
        peers.round(size)
    row = Row("P2 one job's output", "MB/s", ours, "socat" if socat else "pipe, TCP, file in C",
              limits, Goal(GOAL, is_ratio=True))  # fmt: skip
    bound = Goal(MAX_GROWTH, is_at_most=True, each=True)
    return [
        row,
        *peers.rows(row, {}),
        Row("P2 server memory growth", "MiB", server_growth, goal=bound),
        Row("P2 worker memory growth", "MiB", worker_growth, goal=bound),
    ]


def seconds(server: Service, size: int) -> float:
    """From the submit of a job that prints `size` bytes to its end; all of them are stored."""
    job = {"command": COMMAND.format(size), "shell": True, "max_log_size": 1 << 40}
    group = f"output-{time.monotonic_ns()}"
    begin = time.perf_counter()
    (job_id,) = server.submit([{**job, "group": group}])
    server.wait_for(lambda: server.is_done(group), 600, "the job")
    result = time.perf_counter() - begin
    stored = server.client.get(f"/api/v1/jobs/{job_id}").json()["log_bytes"]
    assert stored == size, f"{stored} of {size} bytes are stored"
    return result


def _copy_with_socat(socat: str, target: Path, command: str) -> float:
    """Seconds that socat needs for the same bytes, onto the disk."""
    begin = time.perf_counter()
    listen = [socat, "-d", "-d", "-u", "-b", "262144", "TCP-LISTEN:0,bind=127.0.0.1"]
    with subprocess.Popen([*listen, f"CREATE:{target}"], stderr=subprocess.PIPE, text=True) as sink:
        assert sink.stderr is not None
        lines = (re.search(r"listening on .*:([0-9]+)", line) for line in sink.stderr)
        port = next(filter(None, lines))[1]
        send = f"{command} | {socat} -u -b 262144 - TCP:127.0.0.1:{port}"
        subprocess.run(send, shell=True, check=True)
        sink.stderr.read()
    subprocess.run(["sync", "--data", target], check=True)
    result = time.perf_counter() - begin
    target.unlink()
    return result


def _copy_with_c(program: str, target: Path, command: str) -> float:
    """Seconds that the limit needs for the same bytes."""
    begin = time.perf_counter()
    with subprocess.Popen([program, "sink", target], stdout=subprocess.PIPE, text=True) as sink:
        assert sink.stdout is not None
        port = sink.stdout.readline().strip()
        subprocess.run([program, "send", port, command], check=False)
    result = time.perf_counter() - begin
    target.unlink()
    return result
