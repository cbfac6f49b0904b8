"""Results as objects in a bucket: one an attempt and owner, made when it is whole.

Owns their names, and the folder where they are collected until then. What lies in that counts for
nothing after a restart: workers send again what was not kept.
"""

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path

from queued_runner.bucket import Bucket
from queued_runner.result_files import OpenResult, ResultFile, ResultFolder, parse_file


def _beginning(job_id: int) -> str:
    return f"results/{job_id // 1000}/{job_id}/"


def _name(file: ResultFile) -> str:
    return _beginning(file.job_id) + file.name


class _OpenObject:
    def __init__(self, bucket: Bucket, name: str) -> None:
        self._bucket = bucket
        self._name = name

    def read(self, size: int, offset: int) -> bytes:
        return self._bucket.get(self._name, offset, size)

    def close(self) -> None:
        pass


class ResultObjects:
    """Results in a bucket, which several servers may share; see `ResultFiles`.

    Args:
        bucket: where they are kept.
        incoming: a folder of this server's own, in which nothing lies yet.
    """

    def __init__(self, bucket: Bucket, incoming: Path) -> None:
        self._bucket = bucket
        self._incoming = ResultFolder(incoming)

    def append(self, file: ResultFile, data: bytes, size: int) -> None:
        """As `ResultFiles`."""
        self._incoming.append(file, data, size)

    def read_head(self, file: ResultFile) -> bytes:
        """As `ResultFiles`."""
        return self._incoming.read_head(file)

    def keep(self, file: ResultFile) -> None:
        """As `ResultFiles`."""
        with self._incoming.path_of(file).open("rb") as body:
            self._bucket.put(_name(file), body)
        self._forget(file)

    def discard(self, file: ResultFile) -> None:
        """As `ResultFiles`."""
        self._bucket.delete([_name(file)])
        self._forget(file)

    def _forget(self, file: ResultFile) -> None:
        self._incoming.discard(file)
        with suppress(OSError):  # it is not there, or another attempt's are
            self._incoming.path_of(file).parent.rmdir()

    def open(self, file: ResultFile) -> OpenResult:
        """As `ResultFiles`."""
        return _OpenObject(self._bucket, _name(file))

    def tidy(self, kept: Collection[ResultFile]) -> None:
        """As `ResultFiles`."""
        self._delete("results/", lambda file: file not in kept)

    def remove_older(self, file: ResultFile) -> None:
        """As `ResultFiles`."""
        self._delete(
            _beginning(file.job_id),
            lambda other: other.attempt == file.attempt and other.epoch < file.epoch,
        )

    def _delete(self, beginning: str, which: Callable[[ResultFile], bool]) -> None:
        found = []
        for name, _ in self._bucket.names(beginning):
            *_, job_id, last = name.split("/")
            file = parse_file(job_id, last)
            if file is not None and _name(file) == name and which(file):
                found.append(name)
        self._bucket.delete(found)

    def remove(self, job_ids: Sequence[int]) -> None:
        """As `ResultFiles`."""
        self._bucket.clear([_beginning(job_id) for job_id in job_ids])
