"""A job shows its secrets wherever it can: nobody finds one, but in the database and the job."""

import sqlite3
import sys
from base64 import b64encode
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.commands import Service, is_alive

SECRET = "hunter2 & /more?"
FORMS = (
    SECRET,
    b64encode(SECRET.encode()).decode(),
    b64encode(b"user:" + SECRET.encode()).decode(),
    quote(SECRET, safe=""),
)
PARTS = ("hunter2", "more", FORMS[1].rstrip("="), FORMS[2][8:])
SHOWN = ("***", "***", FORMS[2][:7] + "***", "***")
"""Of the third a character stands before it that holds bits of what is before the secret too."""
ROUNDS = 40
SHOW = """
import os, sys
forms = sys.argv[1:]
for number in range(40):
    for descriptor in (1, 2):
        for form in forms:
            text = f"{number} {form} "
            for at in range(0, len(text), 1 + number % 7):
                os.write(descriptor, text[at : at + 1 + number % 7].encode())
os.write(1, b"x" * 65536)
print(*os.environ.values())
sys.exit(len(os.environ["TOKEN"]))
"""


@pytest.fixture(scope="module")
def shown(running: Service) -> list[bytes]:
    """Everything that comes out of `run`, and of every way to look at its job."""
    secret = {**running.env, "TOKEN": SECRET}
    options = ("--secret-env", "TOKEN", "--name", SECRET, "--group", SECRET, "--key", SECRET)
    done = running.verb("run", *options, "--", sys.executable, "-c", SHOW, *FORMS, env=secret)
    assert done.returncode == len(SECRET), done.stderr[-500:]
    missing = running.verb("run", *options[:2], "--", SECRET, env=secret)
    assert missing.returncode == 127
    assert b"***: command not found" in missing.stderr
    *_, first, last = sorted(job["id"] for job in running.jobs())
    paths = [f"/api/v1/jobs/{first}{rest}" for rest in ("", "/attempts", "/logs", "/logs/stream")]
    paths += ["/api/v1/jobs", f"/api/v1/jobs/{last}/logs", "/api/v1/events?follow=0"]
    needs = ("--needs", f"zone={SECRET}")
    waiting = running.verb("submit", *options[:2], *needs, "true", env=secret).stdout.decode()
    paths += [f"/api/v1/jobs/{waiting.strip()}{rest}" for rest in ("", "/explain")]
    look = running.verb("show", first)
    return [
        done.stdout, done.stderr, missing.stderr, look.stdout, look.stderr,
        *map(running.request, paths),
    ]  # fmt: skip


def leaks(data: bytes) -> list[str]:
    """What of the secret is in there."""
    return [part for part in PARTS if part.encode() in data]


def test_output_is_what_it_was_but_for_the_secrets(shown: list[bytes]) -> None:
    stdout, stderr, *_ = shown
    lines = "".join(f"{number} {form} " for number in range(ROUNDS) for form in SHOWN)
    assert stderr.decode() == lines
    rest = stdout.decode().removeprefix(lines)
    assert rest.startswith("x" * 65536)
    assert "***" in rest  # its environment


def test_no_answer_shows_one(shown: list[bytes]) -> None:
    assert [leaks(data) for data in shown if leaks(data)] == []


def test_no_log_and_no_file_of_output_holds_one(running: Service, shown: list[bytes]) -> None:
    assert leaks(running.logs().encode()) == []
    files = [file for file in running.folder.rglob("*") if file.is_file()]
    holding = {file.name for file in files if leaks(file.read_bytes())}
    assert holding <= {"queue.db", "queue.db-wal"}  # which hold what is to be run, for a retry
    segments = [file for file in (running.data_dir / "logs").rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in segments) > 65536
    with sqlite3.connect(f"file:{running.data_dir}/queue.db?mode=ro", uri=True) as database:
        rows = database.execute("SELECT * FROM attempts").fetchall()
    database.close()
    assert len(rows) >= 2
    assert leaks(repr(rows).encode()) == []
    assert all(file.stat().st_mode & 0o077 == 0 for file in running.data_dir.glob("queue.db*"))


def test_no_command_line_of_ours_holds_one(running: Service, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    secret = {**running.env, "TOKEN": SECRET}
    run = running.start_verb(
        "run", "--secret-env", "TOKEN", "sh", "-c", f"echo $$ > {pids}; exec sleep 100", env=secret
    )
    (job,) = running.read_pids(pids, 1)
    ours = [folder for folder in Path("/proc").glob("[0-9]*") if _is_of(folder, running)]
    assert len(ours) >= 4  # server, worker, reaper, job
    assert all(leaks((folder / "cmdline").read_bytes()) == [] for folder in ours)
    assert SECRET.encode() in Path(f"/proc/{job}/environ").read_bytes()
    run.terminate()
    run.wait()
    running.wait_for(lambda: not is_alive(job), "the end of the job")


def _is_of(folder: Path, service: Service) -> bool:
    try:
        return str(service.folder).encode() in (folder / "environ").read_bytes()
    except OSError:
        return False
