"""`keep_processes` as a process of its own, which tests kill: `… DATA_DIR COUNT COMMAND…`."""

import signal
import sys
from pathlib import Path

import trio

from queued_runner.config import Settings
from queued_runner.processes import keep_processes
from tests.processes.conftest import SHARED


async def main(folder, count, *command):
    settings = Settings(Path(folder), port=0, http_port=0, store=SHARED, processes=int(count))
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        return await keep_processes(settings, command, signals)


if __name__ == "__main__":
    sys.exit(trio.run(main, *sys.argv[1:]))
