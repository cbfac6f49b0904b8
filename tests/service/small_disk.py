"""The whole service on a disk of 64 MiB that others fill: `python -m tests.service.small_disk DIR`.

Run in a mount namespace of its own, as `test_full_disk.py` does. Says nothing if all is well.
"""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from tests.commands import PATIENCE, Service

MIB = 1 << 20
SCRIPT = """
seq -f %07g 1 20000; touch talking; while [ ! -e go ]; do sleep 0.02; done; seq -f %07g 20001 40000
"""
OUTPUT = b"".join(b"%07d\n" % number for number in range(1, 40001))


def fill(file: Path, leave: int) -> None:
    """Take all of the disk but so many bytes."""
    with file.open("ab") as filler, suppress(OSError):
        while (free := room(file.parent)) > leave:
            filler.write(b"x" * min(MIB, free - leave))
            filler.flush()


def room(folder: Path) -> int:
    """Free bytes."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def main(folder: Path) -> None:
    """Fill the disk under a server that has a job, in two steps; then make room again."""
    with Service(folder) as service:
        service.data_dir.mkdir()
        mount = ("mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", service.data_dir)
        subprocess.run(mount, check=True)
        server = service.start_server()
        service.start_worker(slots=3)
        talker = service.submit("sh", "-c", SCRIPT, cwd=str(folder))
        quiet = service.submit(
            "sh", "-c", "while [ ! -e go ]; do sleep 0.02; done", cwd=str(folder)
        )
        service.wait_for((folder / "talking").exists, "the first output")
        filler = service.data_dir / "filler"

        fill(filler, leave=MIB)
        refused = service.verb("submit", "--", "true")
        assert refused.returncode != 0
        assert b"The disk of the server is nearly full" in refused.stderr, refused.stderr
        (folder / "go").touch()
        service.wait_for(lambda: service.job(quiet)["finished_at"], "the end of a small job")
        service.wait_for(lambda: "output waits for room" in service.logs(), "that output waits")
        assert service.job(talker)["state"] == "running"

        fill(filler, leave=0)
        assert service.verb("submit", "--", "true").returncode != 0
        assert server.poll() is None, service.logs()

        filler.unlink()
        service.wait_for(lambda: service.job(talker)["finished_at"], "the end of the talker")
        assert service.output(talker) == OUTPUT
        job, _ = service.run("true")
        assert job["state"] == "succeeded"
        assert [service.job(each)["attempt"] for each in (talker, quiet)] == [1, 1]
        assert "disk has room again" in service.logs()
        server.terminate()
        assert server.wait(PATIENCE) == 0

        fill(filler, leave=0)
        server = service.start("late", sys.executable, "-m", "remote_runner")
        assert server.wait(PATIENCE) == 74
        assert "the disk has no room for the queue" in service.logs()
        filler.unlink()
        service.start_server()
        assert service.job(talker)["state"] == "succeeded"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
