"""The simulated disk of the server: a database that outlives each server, and files that lose at a
power cut what nobody has synced.
"""

import os
import shutil
import tempfile
from pathlib import Path

from queued_runner.store.base import Deposed, StoreAway
from queued_runner.store.sqlite import SQLiteStore
from tests.sim.actors import current

MEMORY = "/dev/shm"


class Files:
    """A folder in memory, of which is known how much of each file is synced. Files only grow."""

    def __init__(self, rng):
        self._rng = rng
        self.root = Path(tempfile.mkdtemp(dir=MEMORY if os.path.isdir(MEMORY) else None))
        self._durable = {}
        """Bytes that are safe, by the identity of the file."""
        self._writers = {}
        """The machine of the server that made a file, whose memory has what is not synced."""

    def close(self):
        shutil.rmtree(self.root)

    def durable_size(self, path):
        """Bytes of a file that a power cut leaves, at the least."""
        return self._durable.get(_identity(os.stat(path)), 0)

    def open(self, path, flags, mode=0o777):
        """In place of `os.open`."""
        file = os.open(path, flags, mode)
        if flags & os.O_CREAT:
            self._writers[_identity(os.fstat(file))] = current.get().server
        return file

    def cut_power(self, servers):
        """Of what these have not synced, any part may have reached the disk."""
        for path in sorted(path for path in self.root.rglob("*") if path.is_file()):
            if self._writers.get(_identity(path.stat())) not in servers:
                continue
            safe, size = self.durable_size(path), path.stat().st_size
            kept = min(size, self._rng.choice((safe, safe + 40, self._rng.randint(safe, size))))
            os.truncate(path, kept)
            self._durable[_identity(path.stat())] = kept

    def sync(self, file):
        """In place of `os.fdatasync` and `os.fsync`."""
        actor, status = current.get(), os.fstat(file)
        actor.world.note("file written", f"{status.st_size} bytes")
        actor.require_power()
        self._durable[_identity(status)] = status.st_size
        actor.world.note("file synced")
        actor.require_power()


def _identity(status):
    return status.st_dev, status.st_ino


class Database:
    """What is committed, for every server of one run. Only whole commits are ever in it."""

    def __init__(self):
        self.store = SQLiteStore(":memory:")

    def close(self):
        self.store.close()


class SimStore:
    """The store as one server has it: the real engine, watched, and gone with the server."""

    def __init__(self, world):
        self._world = world
        self._actor = current.get()
        self._engine = world.database.store
        self._own = None
        self._touched = {}
        self._revived = set()

    def __getattr__(self, name):
        self._require_contact()
        return getattr(self._engine, name)

    def _require_contact(self):
        self._actor.require_power()
        if self._actor.server in self._world.cut_off:
            raise StoreAway("the database does not answer")

    # --- servers ---

    def enlist(self, server, *args):
        self._world.checks.on_enlisted(server, self._actor)
        self._engine.enlist(server, *args)

    def bury(self, server, *args):
        self._world.checks.on_buried(self._own, server)
        self._engine.bury(server, *args)

    def take_over(self, *args):
        taken = self._engine.take_over(*args)
        if taken is not None:
            self._touched.update(dict.fromkeys((job.id for job in taken.jobs), "take"))
            self._world.checks.on_taken(self._actor, taken.jobs)
        return taken

    def rescue(self, *args):
        rescued = self._engine.rescue(*args)
        self._touched.update(dict.fromkeys((job.id for job in rescued.jobs), "rescue"))
        return rescued

    # --- jobs ---

    def add(self, *args):
        added = self._engine.add(*args)
        self._touched.update(dict.fromkeys(added.ids, "add"))
        return added

    def claim(self, *args):
        jobs = self._engine.claim(*args)
        self._world.checks.on_claim(self._own, jobs)
        self._touched.update(dict.fromkeys((job.id for job in jobs), "claim"))
        return jobs

    def finish(self, job_id, attempt, decide, outcome, *args):
        before = self._engine.get(job_id)
        after = self._engine.finish(job_id, attempt, decide, outcome, *args)
        self._world.checks.on_finish(
            self._actor, self._own, before, attempt, args[-1], outcome, after
        )
        self._touched[job_id] = f"finish of {attempt} ({outcome.reason})"
        return after

    def cancel(self, job_id, *args):
        self._touched[job_id] = "cancel"
        return self._engine.cancel(job_id, *args)

    def settle(self, *args):
        settled = self._engine.settle(*args)
        self._touched.update(dict.fromkeys(settled.failed + settled.released, "settle"))
        return settled

    def revive(self, job_id, now):
        job = self._engine.revive(job_id, now)
        self._touched[job_id] = "revive"
        self._revived.add(job_id)
        return job

    def begin(self):
        self._require_contact()
        self._touched = {}
        self._revived = set()
        self._engine.begin()
        self._engine._servers.own = self._own

    def rollback(self):
        self._own = self._engine._servers.own
        self._engine.rollback()

    def commit(self):
        own = self._engine._servers.own
        if own and own not in {server.id for server in self._engine.servers()}:
            raise Deposed("the other servers have buried this one")  # as PostgreSQL does it
        for job_id, what in self._touched.items():
            if what == "claim":
                self._world.checks.check_claimed(job_id)
        self._engine.commit()
        self._own = self._engine._servers.own
        for job_id, what in self._touched.items():
            self._world.on_commit(job_id, what, is_revived=job_id in self._revived)

    def close(self):
        pass
