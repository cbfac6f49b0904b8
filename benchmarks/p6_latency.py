"""P6: from submit to the first byte at a follower, on an idle system.

Measures: over HTTP, from sending the submit to reading the first byte of the job's output with
`follow=1`, one job after the other, with one worker of one slot. Fair because: it is what a
person at a terminal waits for, with the real server, worker and process; the limit is the same
command started directly and read through a pipe.
"""

import subprocess
import time
from pathlib import Path

from benchmarks.harness import percentile, service
from benchmarks.rows import Goal, Row


def run(folder: Path, quick: bool) -> list[Row]:
    count = 20 if quick else 300
    ours, limits = [], []
    with service(folder) as server, server.worker(slots=1):
        for number in range(count + 5):
            begin = time.perf_counter()
            with subprocess.Popen(["/bin/echo", "hi"], stdout=subprocess.PIPE) as child:
                assert child.stdout is not None
                child.stdout.read(1)
                direct = (time.perf_counter() - begin) * 1000

            begin = time.perf_counter()
            answer = server.client.post(
                "/api/v1/jobs", json={"command": "/bin/echo", "args": ["hi"]}
            )
            url = f"/api/v1/jobs/{answer.json()['id']}/logs"
            with server.client.stream("GET", url, params={"follow": 1}) as response:
                response.raise_for_status()
                data = b""
                for chunk in response.iter_raw():
                    if not data and chunk:
                        first = (time.perf_counter() - begin) * 1000
                    data += chunk
            assert data == b"hi\n", data
            if number >= 5:  # the first ones warm both sides up
                ours.append(first)
                limits.append(direct)
    return [
        Row(f"P6 submit to first byte, p{percent}", "ms", [percentile(ours, percent)],
            "started directly", [percentile(limits, percent)], Goal(most, is_at_most=True))
        for percent, most in ((50, 10), (99, 50))
    ]  # fmt: skip
