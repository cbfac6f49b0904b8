"""Where the output and the results of a queue lie: in a folder, or in a bucket. Opens it, and makes
sure that it is this queue's. Knows every kind of place, and nothing of what lies there.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from queued_runner import datadir
from queued_runner.config import Settings
from queued_runner.errors import DataDirUnusable
from queued_runner.log_files import LogFiles, LogFolder
from queued_runner.output_url import OutputURL
from queued_runner.result_files import ResultFiles, ResultFolder
from queued_runner.store.base import OutputAway, Store
from remote_runner.errors import UnusableSettings

if TYPE_CHECKING:
    from queued_runner.bucket import Bucket

INCOMING: Final = "incoming"
"""In the folder of a server: results on their way into a bucket."""


@dataclass(frozen=True, slots=True)
class OutputPlace:
    """A place that is open: in a `folder`, or in a `bucket`. `shown` is what people call it, and
    `mark` what it alone has, however it is reached."""

    logs: LogFiles
    results: ResultFiles
    shown: str
    folder: Path | None = None
    bucket: "Bucket | None" = None
    mark: str = ""


@contextmanager
def opened_output(settings: Settings, identity: str, *, is_shared: bool) -> Iterator[OutputPlace]:
    """The place that these settings name, which is that of the queue of this identity from now on,
    while entered. `is_shared`: other servers keep what is theirs there too.

    Raises:
        UnusableSettings: there is none, or this server may not use it.
        DataDirUnusable: it is another queue's, or it cannot be used.
        OutputAway: it cannot be reached.
        OSError: the data directory cannot be used.
    """
    with output_at_rest(settings) as place:
        if place.bucket is not None:
            _require_own(place.bucket, identity)
            with suppress(FileNotFoundError):
                shutil.rmtree(settings.own_dir / INCOMING)
            place = replace(place, mark=place.bucket.place)
        elif settings.logs is not None or is_shared:
            mark = datadir.require_own(settings.output_dir, identity)
            place = replace(place, mark=mark)
        yield place


def require_same(store: Store, place: OutputPlace) -> None:
    """Be sure that the servers of a queue keep output in one place: that of the first of them.

    Raises:
        DataDirUnusable: this is another one.
        StoreError: the store cannot be asked.
    """
    store.begin()
    try:
        mark, _, shown = store.keep_output_at(f"{place.mark} {place.shown}").partition(" ")
        store.commit()
    except BaseException:
        store.rollback()
        raise
    if mark != place.mark:
        raise DataDirUnusable(
            f"the servers of this queue keep its output in one place, which the first of them calls"
            f" {shown}, and {place.shown} is another one: give each of them the same --logs (where"
            f" it was moved, its file {datadir.OWNER!r} goes with it)"
        )


@contextmanager
def output_at_rest(settings: Settings) -> Iterator[OutputPlace]:
    """The same place, whosever it is, for those who look at a queue that no server has.

    Raises:
        UnusableSettings: there is none.
    """
    url = settings.output_url()
    if url is None:
        yield in_folder(settings.output_dir)
        return
    bucket = _opened_bucket(url)
    try:
        from queued_runner.log_objects import LogObjects
        from queued_runner.result_objects import ResultObjects

        results = ResultObjects(bucket, settings.own_dir / INCOMING)
        yield OutputPlace(LogObjects(bucket), results, bucket.place, bucket=bucket)
    finally:
        bucket.close()


def in_folder(folder: Path) -> OutputPlace:
    """A place in a folder, which need not be there."""
    return OutputPlace(
        LogFolder(folder / datadir.LOGS),
        ResultFolder(folder / datadir.RESULTS),
        str(folder),
        folder,
    )


def _opened_bucket(url: OutputURL) -> "Bucket":
    try:
        from queued_runner.bucket import Bucket
    except ImportError as error:
        raise UnusableSettings(
            "output in s3:// needs a client for it; install duplex-runner[s3]"
        ) from error
    return Bucket(url)


def _require_own(bucket: "Bucket", identity: str) -> None:
    """As `datadir.require_own`, and be sure that this server may write."""
    from queued_runner.bucket import OutputRefused

    try:
        owner = _owner(bucket)
        if owner is None:
            try:
                bucket.put(datadir.OWNER, f"{identity}\n".encode(), is_new=True)
            except OutputRefused:
                if _owner(bucket) is None:
                    raise
            owner = _owner(bucket)
    except OutputRefused as error:
        raise UnusableSettings(
            f"{error}; see that there is such a bucket, and that the credentials may read, write,"
            " list and delete there"
        ) from error
    except OutputAway as error:
        raise OutputAway(f"{error}; start again when it does") from error
    if owner != identity:
        raise DataDirUnusable(
            f"the output at {bucket.place} is that of another queue; choose another place with"
            " --logs (if this queue was copied from that one, which is no more, delete its object"
            f" {datadir.OWNER})"
        )


def _owner(bucket: "Bucket") -> str | None:
    try:
        return bucket.get(datadir.OWNER, 0, 100).decode(errors="replace").strip()
    except FileNotFoundError:
        return None
