"""The simulated disk of the server: a database that outlives each server, and files that lose at a
power cut what nobody has synced.
"""

import os
from types import SimpleNamespace

from queued_runner.store.sqlite import SQLiteStore
from tests.sim.actors import current


class Files:
    """Files by their path; only what `queued_runner/logs.py` asks of a file system."""

    def __init__(self, rng):
        self._rng = rng
        self._volatile = {}
        self._durable = {}
        self._open = {}
        self.os = self._as_os()
        """What stands for the module `os`."""

    def durable_below(self, folder):
        """The same for all files of a folder, by path."""
        folder = f"{folder}/"
        return {path: bytes(d) for path, d in self._durable.items() if path.startswith(folder)}

    def cut_power(self):
        """Of what was not synced, any part may have reached the disk."""
        for path, data in list(self._volatile.items()):
            kept = len(self._durable.get(path, b""))
            data[:] = data[: self._rng.randint(min(kept, len(data)), len(data))]
            if path not in self._durable and not data:
                del self._volatile[path]
        self._durable = {path: bytearray(data) for path, data in self._volatile.items()}

    # --- as the module `os`, and `open` ---

    def _as_os(self):
        return SimpleNamespace(
            **{name: getattr(os, name) for name in dir(os) if name.startswith("O_")},
            open=self._os_open,
            close=lambda file: self._open.pop(file) and None,
            write=lambda file, data: self._write(file, [data]),
            writev=self._write,
            fdatasync=self._sync,
            fsync=self._sync,
            truncate=self._truncate,
        )

    def _os_open(self, path, flags, mode=0o777):
        current.get().require_power()
        self._volatile.setdefault(str(path), bytearray())
        number = 10 + len(self._open)
        while number in self._open:
            number += 1
        self._open[number] = str(path)
        return number

    def _write(self, file, pieces):
        data = self._volatile[self._open[file]]
        for piece in pieces:
            data += piece
        return sum(map(len, pieces))

    def _sync(self, file):
        path = self._open[file]
        self._durable[path] = bytearray(self._volatile[path])
        actor = current.get()
        actor.world.note("file synced", path.rpartition("logs/")[2])
        actor.require_power()

    def _truncate(self, path, size):
        del self._volatile[str(path)][size:]

    def open_to_read(self, path, mode):
        data = self._volatile.get(str(path))
        if data is None:
            raise FileNotFoundError(path)
        return _Reader(data)

    def names(self, folder):
        folder = f"{folder}/"
        return [path[len(folder) :] for path in self._volatile if path.startswith(folder)]


class _Reader:
    """An open file."""

    def __init__(self, data):
        self._data = data
        self._at = 0

    def seek(self, at):
        self._at = at

    def read(self, size):
        data = bytes(self._data[self._at : self._at + size])
        self._at += len(data)
        return data

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        pass


class SimPath:
    """A path into `Files`; as much of `pathlib.Path` as is needed."""

    def __init__(self, files, text):
        self._files = files
        self._text = text

    def __truediv__(self, name):
        return SimPath(self._files, f"{self._text}/{name}")

    def __str__(self):
        return self._text

    @property
    def stem(self):
        return self._text.rpartition("/")[2].rpartition(".")[0]

    def mkdir(self, mode=0o777, parents=False, exist_ok=False):
        pass

    def glob(self, pattern):
        assert pattern == "*.seg"
        return [self / name for name in self._files.names(self)]


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
        self._touched = {}

    def __getattr__(self, name):
        self._actor.require_power()
        return getattr(self._engine, name)

    def add(self, specs, now):
        ids = self._engine.add(specs, now)
        self._touched.update(dict.fromkeys(ids, "add"))
        return ids

    def claim(self, offers, now, limit):
        jobs = self._engine.claim(offers, now, limit)
        self._touched.update(dict.fromkeys((job.id for job in jobs), "claim"))
        return jobs

    def finish(self, job_id, attempt, decide, outcome, output, now):
        before = self._engine.get(job_id)
        after = self._engine.finish(job_id, attempt, decide, outcome, output, now)
        self._world.checks.on_finish(self._actor, before, attempt, outcome, after)
        self._touched[job_id] = f"finish of {attempt} ({outcome.reason})"
        return after

    def cancel(self, job_id, now):
        self._touched[job_id] = "cancel"
        return self._engine.cancel(job_id, now)

    def begin(self):
        self._actor.require_power()
        self._touched = {}
        self._engine.begin()

    def commit(self):
        self._engine.commit()
        for job_id, what in self._touched.items():
            self._world.on_commit(job_id, what)

    def close(self):
        pass
