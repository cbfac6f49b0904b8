"""`results`: the files that a job left, as a list or fetched; what is missing is told."""

import json
import os

import pytest

from remote_runner.results import LeftOut, ResultFile
from tests.cli.conftest import jobs

FILES = {"junit.xml": b"<xml/>", "a/b/c": b"", "big": os.urandom(300_000), "ä ?%#": b"x"}


@pytest.fixture
def left(service):
    """Job 1 has ended and left files."""
    service.do(service.queue.add, *jobs(2))
    service.do(service.queue.start, 1)
    service.do(service.queue.finish, 1, 3)
    service.queue.left[1, 1] = dict(FILES)
    return service.queue


def test_a_list_for_people(verb, left) -> None:
    done = verb("results", 1)
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "     SIZE  NAME", "      6 B  junit.xml", "      0 B  a/b/c", "293.0 KiB  big",
        "      1 B  ä ?%#",
    ]  # fmt: skip
    assert done.stderr == ""


def test_a_list_for_programs(verb, left) -> None:
    done = verb("results", 1, "--json")
    assert json.loads(done.stdout) == [
        {"name": name, "size": len(data)} for name, data in FILES.items()
    ]


def test_the_files(verb, left, tmp_path) -> None:
    folder = tmp_path / "new" / "out"
    (folder).mkdir(parents=True)
    (folder / "junit.xml").write_text("of an earlier run")
    for options in ((), ("--json",)):
        done = verb("results", 1, "-o", folder, *options)
        assert done.exit_code == 0
    assert {row["path"] for row in json.loads(done.stdout)} == {str(folder / n) for n in FILES}
    found = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*") if path.is_file()
    }  # fmt: skip
    assert found == FILES


def test_nothing_left_is_said(verb, service) -> None:
    service.do(service.queue.add, *jobs(1))
    done = verb("results", 1)
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == "queued-runner: job 1 has not ended; its results come with its end\n"
    service.do(service.queue.start, 1)
    service.do(service.queue.finish, 1)
    done = verb("results", "last", "--json")
    assert (done.exit_code, done.stdout) == (0, "[]\n")
    assert done.stderr == (
        "queued-runner: no results came of attempt 1 of job 1; a worker that pulls over HTTP sends"
        " none\n"
    )


def test_what_was_left_out_is_told(verb, left) -> None:
    left.left[1, 1] = {}
    left.left_out[1, 1] = [LeftOut("core", "it is a link"), LeftOut("\x1b[2J", "so")]
    done = verb("results", 1)
    assert done.exit_code == 0
    assert done.stderr.splitlines() == [
        "queued-runner: left out: core: it is a link", "queued-runner: left out: \\x1b[2J: so",
    ]  # fmt: skip
    shown = verb("show", 1)
    assert "\nleft out of the results: core: it is a link\n" in shown.stdout
    assert json.loads(verb("show", 1, "--json").stdout)["results_left_out"] == [
        {"name": "core", "why": "it is a link"}, {"name": "\x1b[2J", "why": "so"},
    ]  # fmt: skip


def test_show_tells_of_results(verb, left) -> None:
    words = "results: 4 with 293.0 KiB; fetch them with: queued-runner results 1 -o DIR\n"
    assert words in verb("show", 1).stdout
    assert len(json.loads(verb("show", 1, "--json").stdout)["results"]) == 4


def test_an_earlier_attempt(verb, left) -> None:
    left.start(1)
    assert verb("results", 1).stdout == ""
    assert "junit.xml" in verb("results", 1, "--attempt", 1).stdout
    done = verb("results", 1, "--attempt", 3)
    assert done.exit_code == 125
    assert "there is no 3 yet" in done.stderr


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a/../../evil", "x\n"])
def test_a_server_that_lies_writes_nowhere_else(verb, left, tmp_path, name, monkeypatch) -> None:
    async def results(job_id, *, attempt=None):
        head = await real(job_id, attempt=attempt)
        return type(head)((ResultFile(name, 1),))

    real = left.results
    monkeypatch.setattr(left, "results", results)
    folder = tmp_path / "out"
    done = verb("results", 1, "-o", folder)
    assert done.exit_code == 125
    assert "is not fetched" in done.stderr
    assert not folder.exists()


def test_a_file_that_cannot_be_written_is_told(verb, left, tmp_path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "a").write_text("in the way")
    done = verb("results", 1, "-o", folder)
    assert done.exit_code == 125
    assert f"{folder}/a/b/c cannot be written" in done.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["a", "junit.xml"]


def test_a_file_that_is_gone_leaves_no_part(verb, left, tmp_path) -> None:
    left.has_lost_results = True
    folder = tmp_path / "out"
    done = verb("results", 1, "-o", folder)
    assert done.exit_code == 125
    assert "does not have this result any more" in done.stderr
    assert list(folder.iterdir()) == []


def test_several_jobs_are_refused(verb, left) -> None:
    done = verb("results", "1-2")
    assert done.exit_code == 2
    assert "may name several jobs" in done.stderr
