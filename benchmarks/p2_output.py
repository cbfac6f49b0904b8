"""P2: how fast one job's output reaches the disk, and what memory that costs.

Measures: one job that prints 2 GB, from submit to its durable end, and how far the
resident memory of server and worker rises above what they used before. Fair because: the limit
is the same command through two C programs that only copy (pipe to TCP, TCP to file with
256 KiB reads and one fdatasync at the end): what `socat` does, measured in turn with ours on the
same disk. The stored output is counted afterwards.
"""

import shutil
import subprocess
import time
from pathlib import Path

from benchmarks.harness import Row, limits_program, memory, service

GOAL = 0.4
MAX_GROWTH = 64


def run(folder: Path, quick: bool) -> list[Row]:
    size, rounds = (50_000_000, 1) if quick else (2_000_000_000, 3)
    program = limits_program(folder)
    command = f"head -c {size} /dev/zero"  # nothing compresses: what it prints makes no difference
    ours, limits, server_growth, worker_growth = [], [], [], []
    for number in range(rounds):
        limits.append(size / 1e6 / _copy(program, folder / "sink", command))
        here = folder / f"round-{number}"
        here.mkdir()
        with service(here) as server, server.worker(slots=1) as worker:
            server.submit([{"command": "/bin/true", "group": "warm"}])
            server.wait_for(lambda: server.is_done("warm"), 60, "the warm-up")
            before = memory(server.server.pid), memory(worker.pid)

            job = {"command": command, "shell": True, "group": "p2", "max_log_size": 1 << 40}
            begin = time.perf_counter()
            (job_id,) = server.submit([job])
            server.wait_for(lambda: server.is_done("p2"), 600, "the job")
            ours.append(size / 1e6 / (time.perf_counter() - begin))

            stored = server.client.get(f"/api/v1/jobs/{job_id}").json()["log_bytes"]
            assert stored == size, f"{stored} of {size} bytes are stored"
            server_growth.append((memory(server.server.pid, "VmHWM") - before[0]) / (1 << 20))
            worker_growth.append((memory(worker.pid, "VmHWM") - before[1]) / (1 << 20))
        shutil.rmtree(here)
    row = Row("P2 one job's output", "MB/s", ours, "pipe, TCP, file in C", limits)
    reached = (row.ratio or 0) >= GOAL
    goal = f"<= {MAX_GROWTH} MiB"
    return [
        Row(row.name, "MB/s", ours, row.limit_name, limits, f">= {GOAL} x limit", reached),
        Row("P2 server memory growth", "MiB", server_growth, goal=goal,
            reached=max(server_growth) <= MAX_GROWTH),
        Row("P2 worker memory growth", "MiB", worker_growth, goal=goal,
            reached=max(worker_growth) <= MAX_GROWTH),
    ]  # fmt: skip


def _copy(program: str, target: Path, command: str) -> float:
    """Seconds that the limit needs for the same bytes."""
    begin = time.perf_counter()
    with subprocess.Popen([program, "sink", target], stdout=subprocess.PIPE, text=True) as sink:
        assert sink.stdout is not None
        port = sink.stdout.readline().strip()
        subprocess.run([program, "send", port, command], check=False)
    seconds = time.perf_counter() - begin
    target.unlink()
    return seconds
