"""The real commands as processes, as these tests want them: from this source, without a warning.

Processes, ports and requests are those of `queued_runner.testing`. What the kernel says about a
process's memory is read here.
"""

import os
import signal
import subprocess
from pathlib import Path
from types import TracebackType

from queued_runner.testing.service import PATIENCE, RunningService, is_alive

__all__ = ["PATIENCE", "ROOT", "Service", "is_alive", "kill", "resident"]

ROOT = Path(__file__).resolve().parents[1]


class Service(RunningService):
    """A service of this source; leaving it looks for tracebacks in all that was printed."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.cwd = ROOT
        self.env["PYTHONWARNINGS"] = "error"

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, traceback)
        if error is None:
            assert "Traceback" not in self.logs(), self.logs()

    def read_pids(self, file: Path, count: int) -> list[int]:
        """The process ids that a job writes into a file, once it has written all of them."""
        self.wait_for(lambda: file.exists() and len(file.read_text().split()) == count, "the job")
        return [int(pid) for pid in file.read_text().split()]


def kill(process: subprocess.Popen[bytes], number: int = signal.SIGKILL) -> int:
    """Signal a process and wait for its end: its exit code."""
    process.send_signal(number)
    return process.wait(PATIENCE)


def resident(pid: int) -> int:
    """Bytes of resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
