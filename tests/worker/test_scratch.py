"""The folder of scratch directories: made again where it was removed, and nobody else's instead."""

import os
import shutil
from pathlib import Path

import pytest

from simple_worker.scratch import TICK, NoScratch, Scratches, scratch_root


@pytest.fixture
def place(tmp_path):
    """A work directory, two folders deep."""
    place = tmp_path / "work" / "deep"
    place.mkdir(parents=True)
    return place


def mode_of(folder):
    return folder.lstat().st_mode & 0o777


@pytest.mark.parametrize("levels", [0, 1, 2])
def test_a_folder_that_was_removed_is_made_again_with_its_parents(place, levels):
    with scratch_root(place) as root:
        removed = (root.path, *root.path.parents)[: levels + 1]
        shutil.rmtree(removed[-1])
        root.restore()
        root.restore()
        assert [mode_of(folder) for folder in removed] == [0o700] * (levels + 1)
    assert not root.path.exists()


def test_jobs_get_directories_that_are_there(place):
    with scratch_root(place) as root:
        scratches = Scratches(root)
        paths = [scratches.take(None, None) for _ in range(3)]
        assert all(scratches.give_back(path) for path in paths)
        os.rmdir(paths[2])
        assert scratches.take(None, None) == paths[1]
        shutil.rmtree(place)
        again = {scratches.take(None, None) for _ in range(3)}
        assert len(again) == 3
        assert all(Path(path).is_dir() for path in again)


@pytest.mark.parametrize("what", ["link", "file", "link of the parent", "dangling link"])
def test_what_somebody_has_put_in_its_place_is_not_used(place, tmp_path, what):
    other = tmp_path / "other"
    other.mkdir()
    with scratch_root(place) as root:
        if what == "link of the parent":
            shutil.rmtree(place)
            place.symlink_to(other)
        else:
            shutil.rmtree(root.path)
            if what == "file":
                root.path.touch()
            else:
                root.path.symlink_to(other if what == "link" else other / "missing")
        with pytest.raises(OSError, match="somebody has put another"):
            root.restore()
        if what != "link":
            with pytest.raises(NoScratch, match="no scratch directory: "):
                Scratches(root).take(None, None)
    assert list(other.iterdir()) == []


@pytest.fixture
def strangers(monkeypatch):
    """The folders that belong to another user."""
    folders, real = set(), os.lstat

    def lstat(path, **options):
        fields = list(real(path, **options))
        if path in folders:
            fields[4] = 12345
        return os.stat_result(fields)

    monkeypatch.setattr("simple_worker.scratch.os.lstat", lstat)
    return folders


@pytest.mark.parametrize("level", [0, 1])
def test_a_folder_that_another_user_has_put_there_is_not_used(place, strangers, level):
    with scratch_root(place) as root:
        shutil.rmtree(place)
        other = (root.path, place)[level]
        other.mkdir(parents=True)
        strangers.add(other)
        with pytest.raises(OSError, match="somebody has put another"):
            root.restore()


def test_a_work_directory_may_be_another_users(place, strangers):
    strangers.add(place)
    with scratch_root(place) as root:
        shutil.rmtree(root.path)
        root.restore()
        assert root.path.is_dir()


class Times:
    """Seconds, and when directories were changed last; both as a test says."""

    def __init__(self):
        self.now = 100.0
        self.changed = 1

    def lstat(self, path):
        return os.stat_result(list(os.stat(path, follow_symlinks=False))[:10], self._ctime)

    @property
    def _ctime(self):
        return {"st_ctime_ns": self.changed}


@pytest.fixture
def times(monkeypatch):
    times = Times()
    monkeypatch.setattr("simple_worker.scratch.time.monotonic", lambda: times.now)
    monkeypatch.setattr("simple_worker.scratch.os.lstat", times.lstat)
    return times


@pytest.fixture
def scratches(place):
    with scratch_root(place) as root:
        yield Scratches(root)


@pytest.fixture
def given_away(times, monkeypatch):
    """The folders that another user has got, without a change of their time."""
    folders, real = [], times.lstat

    def lstat(path):
        facts = real(path)
        fields = list(facts)[:10]
        if Path(path) in folders:
            fields[4] = 12345
        return os.stat_result(fields, {"st_ctime_ns": facts.st_ctime_ns})

    monkeypatch.setattr("simple_worker.scratch.os.lstat", lstat)
    return folders


def use(scratches, act=lambda path: None):
    """Whether one that a job has done this to may serve another."""
    path = scratches.take(None, None)
    act(Path(path))
    return scratches.give_back(path)


def test_one_that_has_not_changed_for_long_is_not_read(scratches, times, monkeypatch):
    looks, real = [], os.listdir
    monkeypatch.setattr(
        "simple_worker.scratch.os.listdir", lambda path: looks.append(path) or real(path)
    )
    for _ in range(10):
        assert use(scratches)
        times.now += TICK / 2
    assert len(looks) == 2


@pytest.mark.parametrize("age", [0.0, TICK])
def test_one_to_which_anything_was_done_serves_no_other(scratches, times, age):
    """Also what is not looked at: an attribute, a list of who may use it."""
    assert use(scratches)
    times.now, times.changed = times.now + age, 2
    assert not use(scratches)


@pytest.mark.parametrize("act", [lambda path: (path / "left").touch(), lambda path: path.chmod(0)])
@pytest.mark.parametrize("age", [0.0, TICK / 2])
def test_a_change_in_the_moment_of_the_one_before_is_seen(scratches, times, age, act):
    """The clock of a file system may stand still for milliseconds, or seconds."""
    assert use(scratches)
    times.now += age
    assert not use(scratches, act)


def test_one_that_was_given_away_in_that_moment_serves_no_other(scratches, times, given_away):
    assert use(scratches)
    assert not use(scratches, given_away.append)
