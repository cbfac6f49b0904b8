"""What a worker takes out of a results folder, and what it leaves there, whatever lies in it."""

import os
import socket
import threading
import tracemalloc

import pytest
import trio

from remote_runner.results import MAX_FILES, MAX_NAME, MAX_TOLD, parse_head
from simple_worker import results
from simple_worker.results import IN_MEMORY, MAX_DEPTH, MAX_SEEN, collect
from tests.worker.real import run, start

LIMIT = 1024 * 1024


@pytest.fixture
def scratch(tmp_path):
    folder = tmp_path / "job-1"
    (folder / "results").mkdir(parents=True)
    return folder


@pytest.fixture
def left(scratch):
    return scratch / "results"


def take(scratch, limit=LIMIT, owner=None, check=lambda: None):
    """The files that were taken, and of what was left out the names and reasons; None: nothing."""
    archive = collect(str(scratch), limit, str(scratch.parent), owner, check)
    if archive is None:
        return None
    try:
        return unpack(archive)
    finally:
        archive.close()


def unpack(archive):
    stream = b""
    while data := archive.read(len(stream), 1000):
        stream += data
    assert len(stream) == archive.size
    line, _, body = stream.partition(b"\n")
    head = parse_head(line + b"\n")
    files = {}
    for file in head.files:
        files[file.name] = body[: file.size]
        body = body[file.size :]
    assert body == b""
    assert head.left_out_count >= len(head.left_out)
    return files, {item.name: item.why for item in head.left_out}


def test_files_are_taken_with_their_names(scratch, left):
    (left / "a" / "b").mkdir(parents=True)
    (left / "junit.xml").write_bytes(b"<xml/>")
    (left / "a" / "b" / "ä €").write_bytes(b"\0\xff\n")
    (left / "empty").touch()
    assert take(scratch) == ({"a/b/ä €": b"\0\xff\n", "empty": b"", "junit.xml": b"<xml/>"}, {})


@pytest.mark.parametrize("make", ["nothing", "no results", "empty", "no scratch"])
def test_no_results_are_none(tmp_path, make):
    scratch = tmp_path / "job"
    if make != "no scratch":
        scratch.mkdir()
    if make == "no results":
        (scratch / "other").write_text("x")
    if make == "empty":
        (scratch / "results" / "a" / "b").mkdir(parents=True)
    assert take(scratch) is None


def test_large_ones_come_back_as_they_are(scratch, left):
    content = {f"{n}": os.urandom(IN_MEMORY // 2 + n) for n in range(5)}
    for name, data in content.items():
        (left / name).write_bytes(data)
    assert take(scratch, limit=LIMIT * 10) == (content, {})
    assert [path.name for path in scratch.parent.iterdir()] == ["job-1"]  # the copy has no name


@pytest.mark.parametrize("target", ["/etc/passwd", "junit.xml", ".", "missing"])
def test_links_are_left_out(scratch, left, target):
    (left / "junit.xml").write_bytes(b"x")
    (left / "link").symlink_to(target)
    files, why = take(scratch)
    assert files == {"junit.xml": b"x"}
    assert why == {"link": "it is a link, and no regular file"}


def test_a_link_in_place_of_the_folder_leads_nowhere(scratch, left, tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("secret")
    left.rmdir()
    left.symlink_to(tmp_path / "secret")
    assert take(scratch) == ({}, {"results": "it is not a folder; make one with mkdir -p"})


def test_a_file_in_place_of_the_folder_is_told(scratch, left):
    left.rmdir()
    left.write_text("junit")
    assert take(scratch) == ({}, {"results": "it is not a folder; make one with mkdir -p"})


def test_pipes_and_sockets_are_left_out_and_nothing_waits_for_them(scratch, left):
    os.mkfifo(left / "pipe")
    with socket.socket(socket.AF_UNIX) as sock:
        here = os.open(left, os.O_RDONLY)  # the path may be too long for the address of a socket
        sock.bind(f"/proc/self/fd/{here}/socket")
        os.close(here)
        (left / "ok").write_bytes(b"x")
        files, why = take(scratch)
    assert files == {"ok": b"x"}
    assert why == {
        "pipe": "it is a pipe, and no regular file",
        "socket": "it is a socket, and no regular file",
    }


def test_names_that_cannot_be_told_are_left_out(scratch, left):
    for name in (b"\xff", b"a\nb", b"\x1b[2J"):
        with open(os.path.join(os.fsencode(left), name), "wb"):
            pass
    files, why = take(scratch)
    assert files == {}
    assert sorted(why) == ["\\udcff", "\\x1b[2J", "a\\nb"]
    assert set(why.values()) == {
        "its name is not UTF-8", "its name has characters that cannot be printed",
    }  # fmt: skip


def test_a_file_that_does_not_fit_is_left_out_as_a_whole_and_smaller_ones_are_taken(scratch, left):
    (left / "a").write_bytes(b"x" * 60)
    (left / "b").write_bytes(b"x" * 60)
    (left / "c").write_bytes(b"x" * 40)
    files, why = take(scratch, limit=100)
    assert {name: len(data) for name, data in files.items()} == {"a": 60, "c": 40}
    assert why == {"b": "with its 60 bytes there are more than 100"}


def test_a_file_with_a_hole_as_large_as_a_disk_costs_nothing(scratch, left):
    with open(left / "hole", "wb") as file:
        file.truncate(1 << 40)
    files, why = take(scratch)
    assert files == {}
    assert list(why) == ["hole"]


def test_too_many_files_are_counted(scratch, left):
    for number in range(MAX_FILES + 30):
        (left / f"{number:05}").touch()
    archive = collect(str(scratch), LIMIT, str(scratch.parent), None, lambda: None)
    head = parse_head(archive.read(0, archive.size))
    assert len(head.files) == MAX_FILES
    assert head.left_out_count == 30
    assert len(head.left_out) == MAX_TOLD


def test_as_many_of_the_longest_names_as_may_be_fit_into_the_head(scratch, left):
    folder = left / ("\\" * 255) / ("\\" * 255) / ("\\" * 255)
    folder.mkdir(parents=True)
    for number in range(MAX_FILES):
        (folder / (f"{number:03}" + '"' * 252)).touch()
    files, why = take(scratch)
    assert len(files) == MAX_FILES
    assert max(map(len, files)) == MAX_NAME - 1
    assert why == {}


def test_a_deep_folder_ends_somewhere(scratch, left):
    here = os.open(left, os.O_RDONLY)
    for _ in range(MAX_DEPTH + 5):
        os.mkdir("d", dir_fd=here)
        there = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = there
    os.close(here)
    files, why = take(scratch)
    assert files == {}
    assert list(why.values()) == [f"it lies more than {MAX_DEPTH} folders deep"]


def test_a_flood_of_entries_is_not_read_to_its_end(scratch, left, monkeypatch):
    monkeypatch.setattr(results, "MAX_SEEN", 50)
    for number in range(80):
        (left / str(number)).symlink_to("x")
    (left / "zzz").write_text("never reached, perhaps")
    looked = []
    take(scratch, check=lambda: looked.append(1))
    assert len(looked) <= 50
    assert MAX_SEEN > MAX_FILES


def test_what_may_not_be_read_is_told(scratch, left, monkeypatch):
    (left / "a").write_text("x")
    (left / "d").mkdir()
    (left / "ok").write_text("y")
    real = os.open

    def refuse(path, *args, **given):  # to root the kernel refuses nothing
        if path in ("a", "d"):
            raise PermissionError(13, "Permission denied")
        return real(path, *args, **given)

    monkeypatch.setattr(results.os, "open", refuse)
    files, why = take(scratch)
    assert files == {"ok": b"y"}
    assert why == dict.fromkeys(("a", "d/"), "it cannot be kept or read: Permission denied")


def test_with_a_user_only_his_own_files_are_taken(scratch, left):
    (left / "own").write_text("x")
    assert take(scratch, owner=os.geteuid()) == ({"own": b"x"}, {})
    files, why = take(scratch, owner=os.geteuid() + 1)
    assert files == {}
    assert why == {"own": "it belongs to another user"}


def test_a_file_that_is_swapped_for_a_link_at_the_last_moment_is_not_followed(
    scratch, left, tmp_path, monkeypatch
):
    (tmp_path / "secret").write_text("secret")
    (left / "a").write_text("x")
    real = os.open

    def swap(path, flags, *args, **given):
        if path == "a":
            (left / "a").unlink()
            (left / "a").symlink_to(tmp_path / "secret")
        return real(path, flags, *args, **given)

    monkeypatch.setattr(results.os, "open", swap)
    files, why = take(scratch)
    assert files == {}
    assert list(why) == ["a"]


def test_a_file_that_is_swapped_for_a_pipe_at_the_last_moment_holds_nothing_up(
    scratch, left, monkeypatch
):
    (left / "a").write_text("x")
    real = os.open

    def swap(path, flags, *args, **given):
        if path == "a":
            (left / "a").unlink()
            os.mkfifo(left / "a")
        return real(path, flags, *args, **given)

    monkeypatch.setattr(results.os, "open", swap)
    assert take(scratch) == ({}, {"a": "it is a pipe, and no regular file"})


def test_a_file_that_grows_for_ever_is_taken_as_it_was(scratch, left, monkeypatch):
    (left / "log").write_bytes(b"x" * 1000)
    real = os.read

    def read(file, size):
        with open(left / "log", "ab") as log:
            log.write(b"y" * 1000)
        return real(file, min(size, 100))

    monkeypatch.setattr(results.os, "read", read)
    files, _ = take(scratch)
    assert files == {"log": b"x" * 1000}


def test_a_file_that_shrinks_is_taken_as_it_is(scratch, left, monkeypatch):
    (left / "log").write_bytes(b"x" * 1000)
    real = os.read

    def read(file, size):
        os.truncate(left / "log", 150)
        return real(file, min(size, 100))

    monkeypatch.setattr(results.os, "read", read)
    files, _ = take(scratch)
    assert files == {"log": b"x" * 150}


@pytest.mark.parametrize("size", [1000, IN_MEMORY * 3])
def test_a_file_that_fails_half_way_leaves_nothing_of_it(scratch, left, monkeypatch, size):
    (left / "a").write_bytes(b"a" * size)
    (left / "b").write_bytes(b"b" * size)
    (left / "c").write_bytes(b"c" * (size // 3))
    real = os.read
    served = {b"b": 0}

    def read(file, count):
        data = real(file, min(count, size // 2))
        if data[:1] == b"b":
            served[b"b"] += 1
            if served[b"b"] == 2:
                raise OSError(5, "Input/output error")
        return data

    monkeypatch.setattr(results.os, "read", read)
    files, why = take(scratch, limit=10 * LIMIT)
    assert files == {"a": b"a" * size, "c": b"c" * (size // 3)}
    assert why == {"b": "it cannot be kept or read: Input/output error"}


def test_a_full_disk_is_told(scratch, left, monkeypatch):
    (left / "big").write_bytes(b"x" * (IN_MEMORY + 1))
    (left / "small").write_bytes(b"y")

    def refuse(*args, **given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(results.tempfile, "TemporaryFile", refuse)
    files, why = take(scratch)
    assert files == {"small": b"y"}
    assert why == {"big": "it cannot be kept or read: No space left on device"}


def test_little_memory_is_taken_for_a_large_file(scratch, left):
    with open(left / "big", "wb") as file:
        file.truncate(64 * 1024 * 1024)
    tracemalloc.start()
    archive = collect(str(scratch), 1 << 30, str(scratch.parent), None, lambda: None)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    archive.close()
    assert archive.size > 64 * 1024 * 1024
    assert peak < 4 * 1024 * 1024


# --- with real processes ---


async def test_a_job_leaves_results(machine):
    running = await run(
        machine, "sh", "-c",
        'mkdir -p "$JOB_SCRATCH/results"; echo hi > "$JOB_SCRATCH/results/x"; exit 3',
        max_results=LIMIT,
    )  # fmt: skip
    assert running.outcome.exit_code == 3
    with running.child.results as archive:
        assert unpack(archive) == ({"x": b"hi\n"}, {})


async def test_whoever_wants_none_gets_none(machine):
    running = await run(
        machine, "sh", "-c", 'mkdir "$JOB_SCRATCH/results"; echo > "$JOB_SCRATCH/results/x"'
    )
    assert running.child.results is None


async def test_a_job_that_leaves_nothing_is_not_looked_at(machine, monkeypatch):
    def refuse(*args, **given):
        raise AssertionError("a job that leaves nothing costs nothing")

    monkeypatch.setattr("simple_worker.process.collect", refuse)
    running = await run(machine, "true", max_results=LIMIT)
    assert running.outcome.exit_code == 0
    assert running.child.results is None


async def test_what_the_tree_of_a_job_still_writes_is_over_before_they_are_taken(machine):
    running = await run(
        machine, "sh", "-c",
        'mkdir "$JOB_SCRATCH/results"; cd "$JOB_SCRATCH/results"; echo x > log;'
        " (while :; do echo x >> log; done) >/dev/null 2>&1 &",
        max_results=LIMIT,
    )  # fmt: skip
    with running.child.results as archive:
        files, why = unpack(archive)
    assert set(files) <= {"log"}
    assert why == {}


async def test_a_worker_that_leaves_does_not_wait_for_a_large_copy(machine, monkeypatch):
    begun = threading.Event()
    real = os.read

    def slow(file, size):
        begun.set()
        return real(file, 1)

    monkeypatch.setattr(results.os, "read", slow)
    running = start(
        machine, "sh", "-c",
        'mkdir "$JOB_SCRATCH/results"; truncate -s 1G "$JOB_SCRATCH/results/big"',
        max_results=1 << 31,
    )  # fmt: skip
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(running.run)
            while not begun.is_set():
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    assert running.child.results is None
