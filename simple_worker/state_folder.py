"""The state folder of a worker: its id, and where to find what its last life may have left.

Owns that one process at a time has it. What a killed worker ran its reaper ends; where both were
killed, nobody did, and the next life does before it takes a job: two attempts never overlap.
"""

import fcntl
import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from simple_worker.brand import brand_of, is_of
from simple_worker.family import end_family
from simple_worker.scratch import is_scratch_root, remove_folder
from simple_worker.tree import living

_LIFE: Final = "life.json"


class _Life(NamedTuple):
    """By what the processes of one life are known, and their scratch folder."""

    boot: str
    """The kernel's, of which process numbers and brands are."""
    herd: int
    scratch: str


class StateFolder:
    """One that this process holds; `worker_id` is the same in each of its lives."""

    def __init__(self, path: Path, worker_id: str) -> None:
        self.path = path
        self.worker_id = worker_id

    def end_last_life(self, say: Callable[[str], object]) -> None:
        """End what the last life has left, if it could not do so itself. It blocks: for the blink
        of an eye, or for as long as something does not end, for two seconds at most.

        Args:
            say: takes a line where there was something.
        """
        last = self._last_life()
        if last is not None and last.boot == _boot():
            is_branded = partial(is_of, last.herd)
            if any(is_branded(brand_of(pid)) for pid in living()):
                say("ending what the jobs of this worker's last life have left running")
                end_family({}, set(), is_branded, os.getpid())
        if last is not None and is_scratch_root(Path(last.scratch)):
            remove_folder(last.scratch)
        (self.path / _LIFE).unlink(missing_ok=True)

    @contextmanager
    def life(self, herd: int, scratch: Path) -> Iterator[None]:
        """Leave word of this life while entered: nothing of it is left afterwards."""
        file = self.path / _LIFE
        new = file.with_suffix(".new")
        new.unlink(missing_ok=True)
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as text:
            json.dump(_Life(_boot(), herd, str(scratch))._asdict(), text)
        new.rename(file)
        try:
            yield
        finally:
            file.unlink(missing_ok=True)

    def _last_life(self) -> _Life | None:
        # Where the machine has crashed, half of it may be there.
        with suppress(OSError, ValueError, TypeError, KeyError):
            said = json.loads((self.path / _LIFE).read_bytes())
            return _Life(str(said["boot"]), int(said["herd"]), str(said["scratch"]))
        return None


@contextmanager
def held_state(folder: Path) -> Iterator[StateFolder]:
    """The state in a folder while entered; a second worker gets its own below it.

    Raises:
        OSError: it cannot be made, or used.
    """
    number = 1
    while True:
        place = folder if number == 1 else folder / f"worker-{number}"
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = os.open(place / "worker-id", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            number += 1
            continue
        try:
            worker_id = os.pread(file, 100, 0).decode("ascii", "replace").strip()
            if not worker_id:
                worker_id = secrets.token_hex(16)
                os.pwrite(file, worker_id.encode(), 0)
                os.fsync(file)
            yield StateFolder(place, worker_id)
        finally:
            os.close(file)
        return


def _boot() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text()
    return ""
