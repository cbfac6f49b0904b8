"""Secrets in the output of real children: hidden before it leaves the worker."""

import base64
import sys
from urllib.parse import quote

import pytest
import trio

from remote_runner.mask import READ
from remote_runner.types import Command, Reason
from simple_worker.launch import Launch, SpawnFailure
from simple_worker.local import LocalRunner
from tests.worker.real import PATIENCE, run, start, until

SECRET = "hunter2/with spaces"
SHOW = """
import base64, os, sys, time, urllib.parse
secret = os.environ["TOKEN"].encode()
forms = (secret, base64.b64encode(secret), urllib.parse.quote_from_bytes(secret).encode())
for descriptor in (1, 2):
    for form in forms:
        for byte in b"<" + form + b">":
            os.write(descriptor, bytes([byte]))
            time.sleep(0)
"""


async def test_it_is_hidden_on_both_streams_a_byte_at_a_time(machine):
    done = await run(machine, sys.executable, "-c", SHOW, env={"TOKEN": SECRET}, mask=(SECRET,))
    assert (done.text("stdout"), done.text("stderr")) == ("<***>" * 3, "<***>" * 3)
    assert done.outcome.output_bytes == 30  # sizes and offsets are those of what is kept


async def test_streams_are_apart(machine):
    script = "printf hun; printf ter2 >&2; printf ter2; printf ' hunt' >&2"
    done = await run(machine, "sh", "-c", script, mask=("hunter2",))
    assert (done.text("stdout"), done.text("stderr")) == ("***", "ter2 hunt")


async def test_a_secret_across_two_reads_is_hidden(machine):
    script = f"import os; os.write(1, b'x' * {READ - 3} + b'hunter2' + b'y' * {READ})"
    done = await run(machine, sys.executable, "-c", script, mask=("hunter2",))
    assert done.text() == "x" * (READ - 3) + "***" + "y" * READ


async def test_what_may_be_a_beginning_waits_for_more_or_for_the_end(machine, tmp_path):
    gate = tmp_path / "gate"
    script = f"printf 'password: h'; while [ ! -e {gate} ]; do sleep 0.01; done; printf '!  h'"
    running = start(machine, "sh", "-c", script, mask=("hunter2",))
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(running.run)
            await until(lambda: running.text() == "password: ")
            gate.touch()
    assert running.text() == "password: h!  h"


@pytest.mark.parametrize("limit", [0, 2, 5, 9, 10])
async def test_the_limit_is_one_of_what_is_kept(machine, limit):
    done = await run(machine, "printf", "<hunter2> -- tail", mask=("hunter2",), max_output=limit)
    whole = "<***> -- tail"
    assert (done.text(), done.outcome.output_bytes) == (whole[:limit], len(whole))


async def test_a_job_that_is_killed_in_the_middle_of_it_shows_no_half(machine):
    script = "import os, time; os.write(1, b'ok correct horse bat'); time.sleep(1000)"
    running = start(machine, sys.executable, "-c", script, mask=("correct horse battery",))
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(running.run)
            await until(lambda: running.text() == "ok ")
            running.child.kill(Reason.KILLED, "SIGKILL")
    assert running.text() == "ok ***"


@pytest.mark.parametrize(
    ("command", "options", "line"),
    [
        ("hunter2", {}, "duplex-runner: ***: command not found on this worker\n"),
        ("/tmp/hunter2\n", {}, "duplex-runner: '/tmp/***\\n': command not found on this worker\n"),
        ("/", {"argv0": "hunter2"}, "duplex-runner: /: is a directory\n"),
        (
            "true",
            {"cwd": "/no/hunter2"},
            "duplex-runner: the working directory /no/*** does not exist on this worker\n",
        ),
    ],
)
async def test_why_it_cannot_be_started_is_told_without_it(machine, command, options, line):
    failure = machine.start(Launch(Command(command, mask=("hunter2",), **options)))
    assert isinstance(failure, SpawnFailure)
    assert failure.output.decode() == line
    assert failure.outcome.output_bytes == len(line)


async def test_a_flood_of_secrets_holds_nobody_up(machine):
    script = "import os\nfor _ in range(200): os.write(1, b'hunter2' * 1000)"
    done = await run(machine, sys.executable, "-c", script, mask=("hunter2", "2hunt"))
    assert done.text() == "***"
    assert done.outcome.exit_code == 0


async def test_a_runner_in_this_program_hides_it_too(tmp_path):
    encoded = base64.b64encode(SECRET.encode()).decode()
    shown = []
    runner = LocalRunner(slots=1)
    async with runner.open():
        with trio.fail_after(PATIENCE):
            for argument in (SECRET, encoded, quote(SECRET, safe="")):
                command = Command("printf", ("%s\n", argument), mask=(SECRET,))
                assert (
                    await runner.run(command, on_output=lambda o: shown.append(o.data))
                ).is_success
            missing = Command(SECRET, mask=(SECRET,))
            assert (
                await runner.run(missing, on_output=lambda o: shown.append(o.data))
            ).exit_code == 127
        assert runner.workers()[0].can_mask
    assert (
        b"".join(shown) == b"***\n" * 3 + b"duplex-runner: ***: command not found on this worker\n"
    )
