"""P4: what 10,000 workers that have nothing to do cost the server.

Measures: how far the resident memory of the server grows for each worker that is connected, and
what share of a core it then takes at the default heartbeat, over half a minute. Fair because: the
workers are connections of the real protocol from another process, let in at the rate at which a
server lets any worker in, and answer its pings; no setting differs from the defaults. The memory of
the kernel for a connection (its buffers) is counted at neither side.
"""

import time
from pathlib import Path

from benchmarks.harness import allow_many_files, cpu_seconds, memory, open_files, process, service
from benchmarks.rows import Goal, Row


def run(folder: Path, quick: bool) -> list[Row]:
    count, seconds = (100, 0.5) if quick else (10_000, 30.0)
    allow_many_files(count + 500)
    with service(folder) as server:
        server.rows("/api/v1/workers")  # the first request loads what it needs
        pid = server.server.pid
        before = memory(pid)
        argv = ("benchmarks.workers", str(count), "1", str(server.info["port"]))
        with process(folder / "workers.log", *argv):
            # Without a request: the list of 10,000 workers would be in the memory that is measured.
            server.wait_for(lambda: open_files(pid) >= count, 300, "the workers")
            time.sleep(seconds / 3)  # the last handshakes, and a first heartbeat
            growth = (memory(pid) - before) / 1024 / count
            cpu, begin = cpu_seconds(pid), time.perf_counter()
            time.sleep(seconds)
            share = 100 * (cpu_seconds(pid) - cpu) / (time.perf_counter() - begin)
            joined = len(server.rows("/api/v1/workers"))
            assert joined == count, f"{joined} of {count} workers are there"
    return [
        Row("P4 memory of an idle worker", "KiB", [growth], goal=Goal(25, is_at_most=True)),
        Row(f"P4 {count:,} idle workers", "% of a core", [share], goal=Goal(25, is_at_most=True)),
    ]
