"""The state folder of a worker: one process has it at a time, and ends what its last life left."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from simple_worker.brand import branding
from simple_worker.state_folder import StateUnusable, held_state
from tests.commands import is_alive

SCRATCH = Path("/tmp/duplex-worker-never-made")


@pytest.fixture
def said():
    return []


@pytest.fixture
def branded():
    """The herd of a life that was killed, and a process of it."""
    with branding() as brands:
        brands.give()
        process = started()
    yield brands.herd, process
    end(process)


def started(*arguments, **env):
    return subprocess.Popen(
        [sys.executable, "-c", "input()", *arguments], stdin=subprocess.PIPE, env=env
    )


def end(process):
    process.kill()
    process.communicate()


def leave(folder, herd, scratch, changes=None):
    """The word that a life has left which was killed; its process, and its lock, are gone."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    with held_state(folder, print) as state, state.life(herd, scratch):
        record = json.loads((folder / "life.json").read_bytes())
    record |= {"pid": gone.pid, **(changes or {})}
    (folder / "life.json").write_text(json.dumps(record))


def test_the_id_stays_and_two_workers_on_one_folder_have_two(tmp_path):
    with held_state(tmp_path, print) as first, held_state(tmp_path, print) as second:
        assert first.worker_id != second.worker_id
    with held_state(tmp_path, print) as again:
        assert again.worker_id == first.worker_id


def test_a_life_that_ends_well_leaves_no_word(tmp_path, said):
    with held_state(tmp_path, said.append) as state:
        with state.life(5, SCRATCH):
            assert (tmp_path / "life.json").stat().st_mode & 0o777 == 0o600
        assert [file.name for file in tmp_path.iterdir()] == ["worker-id"]
        state.end_last_life()
    assert said == []


def test_what_a_killed_life_has_left_is_ended_by_the_next(tmp_path, said, branded):
    herd, process = branded
    scratch = tmp_path / "duplex-worker-abc"
    (scratch / "job-1").mkdir(parents=True)
    leave(tmp_path, herd, scratch)
    with held_state(tmp_path, said.append) as state:
        state.end_last_life()
        assert process.poll() is not None
        assert not scratch.exists()
    assert len(said) == 1


def test_what_bears_no_brand_is_known_by_its_scratch_directory(tmp_path, said):
    """As where somebody has limited realtime processes, or a job has lifted the limit."""
    scratch = tmp_path / "duplex-worker-abc"
    process = started(JOB_SCRATCH=str(scratch / "job-1"))
    other = started(JOB_SCRATCH=str(tmp_path / "duplex-worker-abcd" / "job-1"))
    leave(tmp_path, 0, scratch)
    with held_state(tmp_path, said.append) as state:
        state.end_last_life()
    assert process.poll() is not None
    assert is_alive(other.pid)
    end(process)
    end(other)


def test_the_reaper_of_the_last_life_has_its_time(tmp_path, said, branded, monkeypatch):
    """It knows more than what is written down, and ends itself afterwards."""
    herd, process = branded
    scratch = tmp_path / "duplex-worker-abc"
    reaper = started(str(scratch))
    leave(tmp_path, herd, scratch)

    def sleep(seconds):
        end(process)
        end(reaper)

    monkeypatch.setattr("simple_worker.state_folder.time.sleep", sleep)
    with held_state(tmp_path, said.append) as state:
        state.end_last_life()
    assert reaper.poll() is not None
    assert said == []


def test_a_life_that_is_not_over_is_left_alone_and_keeps_its_id(tmp_path, said, branded):
    """Its folder has been copied: a server would take the copy for that worker, started again."""
    herd, process = branded
    scratch = tmp_path / "duplex-worker-abc"
    scratch.mkdir()
    with held_state(tmp_path, said.append) as state, state.life(herd, scratch):
        copy = tmp_path / "copy"
        copy.mkdir()
        for name in ("worker-id", "life.json"):
            (copy / name).write_bytes((tmp_path / name).read_bytes())
        with held_state(copy, said.append) as other:
            other.end_last_life()
            assert other.worker_id != state.worker_id
            with other.life(herd, scratch):
                pass
        with held_state(copy, said.append) as again:
            again.end_last_life()
            assert again.worker_id == other.worker_id
    assert is_alive(process.pid)
    assert scratch.exists()
    (line,) = said
    assert f"{copy} is a copy of the folder of a worker that runs" in line


def test_each_of_several_workers_on_one_folder_has_the_same_id_again(tmp_path):
    """Whichever comes first: what was said of one of them, as to drain, is not another's."""
    with held_state(tmp_path, print, "a") as a, held_state(tmp_path, print, "b") as b:
        ids = a.worker_id, b.worker_id
    with held_state(tmp_path, print, "b") as b, held_state(tmp_path, print, "a") as a:
        assert (a.worker_id, b.worker_id) == ids
    with held_state(tmp_path, print, "renamed") as alone:
        assert alone.worker_id == ids[0]


@pytest.mark.parametrize("content", [b"\0" * 32, b"a" * 3000, bytes(range(128, 256)), b"a b"])
def test_rubbish_is_no_id(tmp_path, said, content):
    (tmp_path / "worker-id").write_bytes(content)
    with held_state(tmp_path, said.append) as state:
        assert len(state.worker_id) == 32
    with held_state(tmp_path, said.append) as again:
        assert again.worker_id == state.worker_id
    (line,) = said
    assert str(tmp_path / "worker-id") in line


@pytest.mark.parametrize("kind", ["a file", "a link to nothing", "a folder as id", "a pipe as id"])
def test_a_folder_that_cannot_be_used_is_named_and_what_to_do(tmp_path, kind):
    folder = tmp_path / "state"
    if kind == "a file":
        folder.touch()
    elif kind == "a link to nothing":
        folder.symlink_to(tmp_path / "nowhere")
    else:
        folder.mkdir()
        make = os.mkfifo if kind == "a pipe as id" else os.mkdir
        make(folder / "worker-id")
    with pytest.raises(StateUnusable, match=f"{folder} cannot be used: .*--state-dir"):
        with held_state(folder, print):
            pass


def test_what_cannot_be_ended_is_named(tmp_path, said, branded, monkeypatch):
    herd, process = branded
    leave(tmp_path, herd, tmp_path / "duplex-worker-abc")
    monkeypatch.setattr("simple_worker.state_folder.end_family", lambda *_: None)
    with held_state(tmp_path, said.append) as state:
        state.end_last_life()
    assert str(process.pid) in said[-1]


@pytest.mark.parametrize(
    "changes", [{"boot": "another"}, {"herd": 0}, {"herd": 17}, {"scratch": ""}, {"scratch": "/"}]
)
def test_what_is_not_of_that_life_is_left_alone(tmp_path, said, branded, changes):
    herd, process = branded
    leave(tmp_path, herd, tmp_path / "duplex-worker-abc", changes)
    with held_state(tmp_path, said.append) as state:
        state.end_last_life()
    assert is_alive(process.pid)
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
    with held_state(tmp_path, said.append) as state:
        state.end_last_life()
    assert (other / "precious").exists()
    assert scratch.exists() == (kind != "nothing")


GOOD = {"boot": "b", "pid": 1, "start": 1, "herd": 0, "scratch": "/tmp/duplex-worker-a"}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "7",
        "{}",
        "[" * 10_000,
        json.dumps(GOOD | {"herd": []}),
        json.dumps(GOOD | {"herd": float("inf")}),
        json.dumps(GOOD | {"more": 1}),
        json.dumps(GOOD | {"scratch": "/tmp/duplex-worker-\0"}),
        json.dumps(GOOD | {"scratch": "/tmp/duplex-worker-\ud800"}),
        " " * (1 << 20),
    ],
)
def test_what_is_no_word_of_a_life_is_none(tmp_path, said, content):
    (tmp_path / "life.json").write_text(content)
    with held_state(tmp_path, said.append) as state:
        state.end_last_life()
        with state.life(0, SCRATCH):
            pass
        assert not (tmp_path / "life.json").exists()
    assert said == []


def test_nobody_waits_for_a_pipe(tmp_path, said):
    os.mkfifo(tmp_path / "life.json")
    with held_state(tmp_path, said.append) as state:
        state.end_last_life()
    assert said == []


def test_where_no_word_can_be_left_the_worker_says_so_and_works(tmp_path, said):
    (tmp_path / "life.json").mkdir()
    with held_state(tmp_path, said.append) as state:
        state.end_last_life()
        with state.life(0, SCRATCH):
            pass
    (line,) = said
    assert str(tmp_path / "life.json") in line
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["worker-id"]
