"""A durable queue inside your own trio program: no server to start, no worker to connect.

    python examples/embed.py

Jobs run in this process's own slots. Give `open_runner` a port instead of `local_slots`, and
workers on other machines take them.
"""

import sys
import tempfile

import trio

from queued_runner import open_runner


async def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        async with open_runner(data_dir=folder, local_slots=2) as runner:
            script = "import sys; print('computed', 6 * 7); print('done', file=sys.stderr)"
            job = await runner.submit(sys.executable, ["-c", script], retries=2, timeout=60)
            async for chunk in runner.output(job):
                print(f"{chunk.stream}: {chunk.data.decode().rstrip()}")
            outcome = await runner.wait(job)
            print(f"job {job} {outcome.state}, exit code {outcome.exit_code}")
            return outcome.exit_code if outcome.exit_code is not None else 1


if __name__ == "__main__":
    sys.exit(trio.run(main))
