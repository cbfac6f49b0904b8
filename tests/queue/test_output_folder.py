"""The folder of output of a queue: all its servers know it as one, and no other queue has it."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from queued_runner.datadir import require_own
from queued_runner.errors import DataDirUnusable

SERVERS = 8


def test_servers_that_start_at_the_same_moment_know_it_as_one(tmp_path):
    barrier = Barrier(SERVERS)

    def start(folder):
        barrier.wait()
        return require_own(folder, "queue-1")

    with ThreadPoolExecutor(SERVERS) as threads:
        for number in range(50):
            folder = tmp_path / str(number)
            folder.mkdir()
            assert len(set(threads.map(start, [folder] * SERVERS))) == 1
            assert [path.name for path in folder.iterdir()] == ["queue"]
            assert (folder / "queue").stat().st_mode & 0o777 == 0o600


def test_another_queue_may_not_have_it(tmp_path):
    mark = require_own(tmp_path, "queue-1")
    assert require_own(tmp_path, "queue-1") == mark
    with pytest.raises(DataDirUnusable, match="that of another queue"):
        require_own(tmp_path, "queue-2")
