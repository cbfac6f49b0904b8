"""The state folder of a worker: one process has it at a time, and ends what its last life left."""

import json
import subprocess
import sys

import pytest

from simple_worker.brand import branding
from simple_worker.state_folder import held_state
from tests.commands import is_alive


@pytest.fixture
def said():
    return []


@pytest.fixture
def branded():
    """The herd of a life that was killed, and a process of it."""
    with branding() as brands:
        brands.give()
        process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield brands.herd, process
    process.kill()
    process.communicate()


def leave(folder, herd, scratch, changes=None):
    """The word that a life has left which was killed; its process, and its lock, are gone."""
    with held_state(folder) as state, state.life(herd, scratch):
        record = json.loads((folder / "life.json").read_bytes())
    (folder / "life.json").write_text(json.dumps(record | (changes or {})))


def test_the_id_stays_and_two_workers_on_one_folder_have_two(tmp_path):
    with held_state(tmp_path) as first, held_state(tmp_path) as second:
        assert first.worker_id != second.worker_id
        assert first.path != second.path
    with held_state(tmp_path) as again:
        assert again.worker_id == first.worker_id


def test_a_life_that_ends_well_leaves_no_word(tmp_path, said):
    with held_state(tmp_path) as state:
        with state.life(5, tmp_path):
            assert (tmp_path / "life.json").stat().st_mode & 0o777 == 0o600
        assert [file.name for file in tmp_path.iterdir()] == ["worker-id"]
        state.end_last_life(said.append)
    assert said == []


def test_what_a_killed_life_has_left_is_ended_by_the_next(tmp_path, said, branded):
    herd, process = branded
    scratch = tmp_path / "duplex-worker-abc"
    (scratch / "job-1").mkdir(parents=True)
    leave(tmp_path, herd, scratch)
    with held_state(tmp_path) as state:
        state.end_last_life(said.append)
        assert process.poll() is not None
        assert not scratch.exists()
        assert len(said) == 1
        state.end_last_life(said.append)
    assert len(said) == 1


@pytest.mark.parametrize("changes", [{"boot": "another"}, {"herd": 0}, {"herd": 17}])
def test_what_is_not_of_that_life_is_left_alone(tmp_path, said, branded, changes):
    herd, process = branded
    other = tmp_path / "mine"
    other.mkdir()
    leave(tmp_path, herd, other, changes)
    with held_state(tmp_path) as state:
        state.end_last_life(said.append)
    assert is_alive(process.pid)
    assert other.exists()
    assert said == []


@pytest.mark.parametrize("kind", ["file", "link", "nothing"])
def test_only_a_folder_of_a_worker_is_removed(tmp_path, said, kind):
    scratch, other = tmp_path / "duplex-worker-abc", tmp_path / "other"
    (other / "precious").mkdir(parents=True)
    if kind == "file":
        scratch.touch()
    if kind == "link":
        scratch.symlink_to(other)
    leave(tmp_path, 0, scratch)
    with held_state(tmp_path) as state:
        state.end_last_life(said.append)
    assert (other / "precious").exists()
    assert scratch.exists() == (kind != "nothing")


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "7", "{}", '{"boot": 1, "herd": [], "scratch": 2}']
)
def test_half_a_word_is_none(tmp_path, said, content):
    (tmp_path / "life.json").write_text(content)
    with held_state(tmp_path) as state:
        state.end_last_life(said.append)
        assert not (tmp_path / "life.json").exists()
    assert said == []
