"""What a server is called: kept, its owner's alone, and fit to be shown."""

from pathlib import Path

import pytest

from queued_runner.config import NAME, Settings
from queued_runner.datadir import server_name
from queued_runner.service import build_runners
from remote_runner.errors import UnusableSettings

SHARED = "postgresql://nobody@127.0.0.1:1/none"


def test_a_name_is_kept_and_no_other_folder_has_it(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
    names = [server_name(folder) for folder in folders]
    assert [server_name(folder) for folder in folders] == names
    assert names[0].place != names[1].place
    for name in names:
        assert NAME.fullmatch(name.name)
        assert name.name.endswith(f"-{name.place[:4]}")
    assert (folders[0] / "name").stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_none_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "name").write_text("")
    assert NAME.fullmatch(server_name(tmp_path).name)


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "a\n", "é", "a@b"])
def test_names_that_could_not_be_shown_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnusableSettings, match="--server-name"):
        Settings(tmp_path, server_name=name).require_name()


def test_the_slots_of_each_of_several_servers_are_a_worker_of_its_own(tmp_path: Path) -> None:
    def worker_ids(**more: object) -> list[str]:
        settings = Settings(tmp_path, port=None, local_slots=1, **more)  # type: ignore[arg-type]
        runners, _ = build_runners(settings, owns_process=False)
        return [worker.id for runner in runners for worker in runner.workers()]

    assert worker_ids() == ["local"]
    assert worker_ids(store=SHARED, server_name="one") == ["local@one"]
    assert worker_ids(store=SHARED) == [f"local@{server_name(tmp_path).name}"]
