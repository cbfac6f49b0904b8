"""Queues at rest in both engines, and the verbs that move them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pytest

from queued_runner.config import Settings
from queued_runner.output_places import in_folder
from queued_runner.stores import opened_at_rest
from queued_runner.transfer.export import Exported, export_queue
from queued_runner.transfer.importing import import_queue
from tests.postgres import Postgres


@dataclass(frozen=True)
class Place:
    """Where a queue may lie."""

    folder: Path
    store: str | None

    @property
    def settings(self) -> Settings:
        return Settings(data_dir=self.folder, store=self.store)

    @property
    def options(self) -> list[str]:
        """What names it on the command line."""
        return ["--data-dir", str(self.folder), *(["--store", self.store] if self.store else [])]

    def export(self) -> bytes:
        return self.export_and_tell()[0]

    def export_and_tell(self) -> tuple[bytes, Exported]:
        file = BytesIO()
        with opened_at_rest(self.settings, is_new=False) as queue:
            done = export_queue(queue, in_folder(self.folder), file.write)
        return file.getvalue(), done

    def fill(self, data: bytes, detach: float = 120.0) -> int:
        with opened_at_rest(self.settings, is_filled=True) as queue:
            return import_queue(queue, BytesIO(data), in_folder(self.folder), detach)

    def files(self) -> dict[str, bytes]:
        """What lies in its folder besides the store."""
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in self.folder.rglob("*")
            if path.is_file() and not path.name.startswith(("lock", "queue.db"))
        }


NewPlace = Callable[[str], Place]


@pytest.fixture
def new_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NewPlace]:
    """A new place of an engine."""
    made: list[Place] = []
    cluster: list[Postgres] = []

    def make(engine: str) -> Place:
        folder = tmp_path / f"{engine}-{len(made)}"
        store = None
        if engine == "postgres":
            if not cluster:
                cluster.append(request.getfixturevalue("postgres"))
            store = cluster[0].new_queue()
        made.append(Place(folder, store))
        return made[-1]

    yield make
    for each in cluster:
        each.drop_queues()
