"""Runs in HyperQueue's environment, not in ours: hyperqueue_cluster.py FOLDER TOTAL COMMAND...

Starts a cluster in FOLDER, runs COMMAND as TOTAL tasks of one job and prints the seconds of that.
"""

import sys
import time
from pathlib import Path

from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig


def run(client, folder: Path, total: int, command: list[str]) -> float:
    job = Job(default_workdir=str(folder))
    begin = time.time()  # not the monotonic clock: it is compared with times of files
    for _ in range(total):
        job.program(command)
    client.wait_for_jobs([client.submit(job)])
    files = list(folder.iterdir())
    assert len(files) == 2 * total, f"{total} tasks have left {len(files)} files"
    return max(file.stat().st_mtime for file in files) - begin


folder, total, command = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
with LocalCluster(str(folder / "server"), WorkerConfig(cores=8)) as cluster:
    client = cluster.client()
    run(client, folder / "warm", 50, ["/bin/true"])
    print(run(client, folder / "work", total, command))
