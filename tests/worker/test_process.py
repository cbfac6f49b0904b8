"""Real children: what they are given, what they write, how they end, and what is left of them."""

import os
import resource
import signal
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from remote_runner.types import Command, Outcome, Reason
from simple_worker import main_process
from simple_worker.launch import Launch, SpawnFailure
from simple_worker.machine import opened_machine, opened_own_machine
from simple_worker.process import Process
from simple_worker.scratch import remove_folder
from simple_worker.tree import own_children
from tests.commands import is_alive
from tests.worker.real import PATIENCE, pids_in, processes_with, run, start, until


@pytest.fixture(autouse=True, params=["clone", "Popen"])
def way(request, monkeypatch):
    """Of the two in which a main process is started."""
    if request.param == "Popen":
        monkeypatch.setattr("simple_worker.main_process._clone", None)
    elif main_process._clone is None:
        pytest.skip("there was nothing here to compile _clone.c with")


# --- what a child is given ---


async def test_output_status_and_usage(machine):
    done = await run(machine, "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.text("stdout"), done.text("stderr")) == ("out\n", "err\n")
    outcome = done.outcome
    assert (outcome.reason, outcome.exit_code, outcome.signal) == (Reason.EXIT, 7, None)
    assert outcome.output_bytes == 8
    assert 0 < outcome.duration < PATIENCE
    assert outcome.max_rss > 0
    assert outcome.cpu_time >= 0


async def test_the_environment_is_small_and_none_of_our_own(machine, monkeypatch):
    monkeypatch.setenv("SECRET", "s")
    done = await run(machine, "env", env={"MINE": "1", "LANG": "xx"})
    variables = dict(line.split("=", 1) for line in done.text().splitlines())
    assert set(variables) == {
        "PATH", "HOME", "LANG", "TMPDIR", "MINE", "JOB_COOKIE", "JOB_SCRATCH"
    }  # fmt: skip
    assert (variables["MINE"], variables["LANG"]) == ("1", "xx")


async def test_a_full_environment_replaces_it_even_when_it_is_empty(machine):
    done = await run(machine, "/usr/bin/env", full_env={})
    assert {line.partition("=")[0] for line in done.text().splitlines()} == {
        "JOB_COOKIE",
        "JOB_SCRATCH",
    }


async def test_a_shell_gets_command_and_args_joined_by_spaces(machine):
    assert (await run(machine, "echo", "a", "b  c;", "echo d", shell=True)).text() == "a b c\nd\n"
    assert (await run(machine, "echo $0", shell="/bin/bash")).text() == "/bin/bash\n"


async def test_argv0_and_working_directory(machine, tmp_path):
    script = 'echo "$0"; pwd'
    done = await run(machine, "sh", "-c", script, "x", argv0="me", cwd=str(tmp_path))
    assert done.text() == f"x\n{tmp_path}\n"
    done = await run(machine, "cat", "/proc/self/cmdline", argv0="me")
    assert done.text().startswith("me\0")


async def test_a_relative_command_is_looked_for_in_the_working_directory(machine, tmp_path):
    program = tmp_path / "tool"
    program.write_text("#!/bin/sh\necho here\n")
    program.chmod(0o755)
    assert (await run(machine, "./tool", cwd=str(tmp_path))).text() == "here\n"


async def test_it_leads_its_own_session_and_reads_from_nowhere(machine):
    script = "import os, sys; print(os.getsid(0) == os.getpid(), repr(sys.stdin.read()))"
    assert (await run(machine, sys.executable, "-c", script)).text() == "True ''\n"


async def test_it_inherits_no_descriptor_and_no_signal_handling(machine):
    script = (
        "import os, signal; print(sorted(int(fd) for fd in os.listdir('/proc/self/fd'))[:3]);"
        "print(len(os.listdir('/proc/self/fd')));"
        "print([n for n in (1, 2, 13, 15) if signal.getsignal(n) == signal.SIG_IGN])"
    )
    assert (await run(machine, sys.executable, "-S", "-c", script)).text() == "[0, 1, 2]\n4\n[13]\n"


@pytest.mark.parametrize("size", [0, 1, 65536, 3_000_000])
async def test_the_whole_input_arrives(machine, size):
    assert (await run(machine, "wc", "-c", stdin=bytes(size))).text().strip() == str(size)


async def test_input_that_nobody_reads_does_no_harm(machine):
    done = await run(machine, "sh", "-c", "exec <&-; exit 3", stdin=bytes(3_000_000))
    assert done.outcome.exit_code == 3


# --- what it writes ---


async def test_large_output_is_exact(machine):
    script = "import os; [os.write(1, bytes([n % 251]) * 9999) for n in range(1000)]"
    done = await run(machine, sys.executable, "-c", script)
    data = b"".join(data for _, data in done.chunks)
    assert data == b"".join(bytes([n % 251]) * 9999 for n in range(1000))
    assert done.outcome.output_bytes == len(data)


async def test_a_chunk_is_never_larger_than_asked(machine):
    running = start(machine, "head", "-c", "100000", "/dev/zero")
    await running.run(max_chunk=1000)
    assert max(len(data) for _, data in running.chunks) == 1000
    assert running.outcome.output_bytes == 100_000


async def test_both_streams_are_told_in_the_order_in_which_they_are_written(machine):
    script = "for n in 1 2 3 4 5; do echo o$n; read x; echo e$n >&2; read x; done"
    fifo = Path(machine.scratches.take(None, None)) / "turn"
    os.mkfifo(fifo)
    child = start(machine, "sh", "-c", f"exec <>{fifo}; {script}").child
    seen = []

    async def keep(stream, data):
        seen.append((stream, data))
        fifo.write_bytes(b"\n")  # it writes on only when this was read

    with trio.fail_after(PATIENCE):
        await child.run(keep, 65536)
    pairs = [(("stdout", f"o{n}\n"), ("stderr", f"e{n}\n")) for n in range(1, 6)]
    assert [(stream, data.decode()) for stream, data in seen] == [p for pair in pairs for p in pair]


@pytest.mark.parametrize("limit", [0, 1, 1000, 99_999, 100_000, 100_001])
async def test_what_is_beyond_the_limit_is_counted_and_dropped(machine, limit):
    script = "head -c 100000 /dev/zero; exit 3"
    running = start(machine, "sh", "-c", script, max_output=limit)
    with trio.fail_after(PATIENCE):
        await running.run(max_chunk=700)
    assert len(running.text()) == min(limit, 100_000)
    assert all(data for _, data in running.chunks)
    assert (running.outcome.exit_code, running.outcome.output_bytes) == (3, 100_000)


async def test_a_flood_leaves_room_for_other_tasks(machine):
    running = start(machine, "cat", "/dev/zero")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(running.run)
        with trio.fail_after(PATIENCE):
            for _ in range(100):
                await trio.lowlevel.checkpoint()
                await trio.sleep(0)
        running.child.kill(Reason.KILLED, "SIGKILL")
    assert running.outcome.reason is Reason.KILLED


async def test_what_a_slow_consumer_has_not_taken_yet_survives_the_end(tmp_path):
    """The pipe may be held for a moment only; a consumer may take as long as it likes."""
    async with opened_own_machine(tmp_path) as machine:
        machine.pipe_held = 0.05
        child = start(machine, "head", "-c", "60000", "/dev/zero").child
        sizes = []

        async def keep(stream, data):
            sizes.append(len(data))
            if len(sizes) == 1:
                await until(lambda: not is_alive(child.pid))
                await trio.sleep(0.5)

        with trio.fail_after(PATIENCE):
            outcome = await child.run(keep, 1000)
        assert (outcome.exit_code, sum(sizes)) == (0, 60_000)


# --- how it ends ---


@pytest.mark.parametrize(("number", "name"), [(9, "SIGKILL"), (15, "SIGTERM"), (40, "SIGRTMIN+6")])
async def test_an_end_by_a_signal_has_its_name(machine, number, name):
    outcome = (await run(machine, "sh", "-c", f"kill -{number} $$")).outcome
    assert (outcome.reason, outcome.exit_code, outcome.signal) == (Reason.SIGNAL, None, name)


async def kill_when_it_has_written(running, *kill):
    """Run it, and kill it once its first output is there."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(running.run)
        await until(lambda: running.chunks)
        running.child.kill(Reason.KILLED, *kill)
        await until(lambda: running.outcome is not None)
    return running.outcome


async def test_a_kill_sends_the_signal_of_the_command(machine):
    script = "trap 'echo bye; exit 5' USR1; echo up; while :; do sleep 0.01; done"
    running = start(machine, "sh", "-c", script, kill_signal="SIGUSR1", kill_grace=PATIENCE)
    outcome = await kill_when_it_has_written(running)
    assert (outcome.reason, outcome.exit_code) == (Reason.KILLED, 5)
    assert running.text("stdout") == "up\nbye\n"


async def test_what_ignores_the_signal_is_killed_after_the_grace(machine):
    running = start(machine, "sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.01; done")
    outcome = await kill_when_it_has_written(running, None, 0.1)
    assert (outcome.reason, outcome.signal) == (Reason.KILLED, "SIGKILL")


async def test_a_timeout_ends_it(machine):
    outcome = (await run(machine, "sleep", "1000", timeout=0.1)).outcome
    assert (outcome.reason, outcome.signal) == (Reason.TIMEOUT, "SIGTERM")
    assert outcome.duration < PATIENCE / 2


async def test_a_cancelled_run_leaves_nothing(machine, tmp_path):
    running = start(machine, "sh", "-c", f"echo $$ > {tmp_path}/pid; trap '' TERM; sleep 1000")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(running.run)
        pids = await pids_in(tmp_path / "pid", 1)
        nursery.cancel_scope.cancel()
    assert not any(is_alive(pid) for pid in pids)
    assert running.outcome is None


async def test_a_run_that_is_cancelled_before_it_began_leaves_nothing(machine):
    running = start(machine, "sleep", "1000")
    with trio.CancelScope() as scope:
        scope.cancel()
        await running.run()
    assert not is_alive(running.child.pid)


# --- what is left of it ---

# Scripts that begin something which is to outlive them; each writes its process ids into $FILE.
HOSTILE = {
    "background": "sleep 1000 &\necho $! >> $FILE",
    "setsid": "setsid sh -c 'echo $$ >> $FILE; exec sleep 1000' &",
    "double fork": "(setsid sh -c '(sleep 1000 & echo $! >> $FILE) &' &)",
    "deaf": "setsid sh -c 'trap \"\" TERM HUP; echo $$ >> $FILE; while :; do sleep 1; done' &",
    "holds no pipe": "setsid sh -c 'echo $$ >> $FILE; exec sleep 1000 <&- >&- 2>&-' &",
    "inner session": "setsid sh -c 'echo $$ >> $FILE; setsid sleep 1000 & wait' &",
}


@pytest.fixture(params=[opened_own_machine, opened_machine], ids=["worker", "program"])
async def any_machine(request, tmp_path):
    """Both kinds of process that run jobs: one that does nothing else, one that does."""
    async with request.param(tmp_path) as machine:
        machine.pipe_held = 0.2
        yield machine


@pytest.mark.parametrize("way", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("end", ["exit", "kill", "cancel"])
async def test_no_way_to_hide_survives(any_machine, tmp_path, way, end):
    file = tmp_path / "pids"
    last = "exit 3" if end == "exit" else "exec sleep 1000"
    script = f"{way}\nwhile [ ! -s $FILE ]; do sleep 0.01; done\n{last}"
    running = start(any_machine, "sh", "-c", script, env={"FILE": str(file)})
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(running.run)
            pids = await pids_in(file, 1)
            if end == "kill":
                running.child.kill(Reason.KILLED, None, 0.1)
            elif end == "cancel":
                nursery.cancel_scope.cancel()
    assert [pid for pid in pids if is_alive(pid)] == []
    assert processes_with(str(file)) == []
    if end == "exit":
        assert (running.outcome.reason, running.outcome.exit_code) == (Reason.EXIT, 3)


async def test_what_an_orphan_leaves_as_it_dies_during_the_look_is_found(tmp_path, monkeypatch):
    file = tmp_path / "pids"
    dies = []

    @contextmanager
    def own_children_of_which_one_dies():
        with own_children() as look:

            def look_and_kill():
                listed = look()
                while dies and dies[0] in listed:
                    os.kill(dies[0], signal.SIGKILL)
                    os.waitid(os.P_PID, dies.pop(), os.WEXITED | os.WNOWAIT)
                return listed

            yield look_and_kill

    monkeypatch.setattr("simple_worker.machine.own_children", own_children_of_which_one_dies)
    inner = "echo $$ >> $FILE; exec sleep 1000 >&- 2>&-"
    outer = f"echo $$ >> $FILE; setsid sh -c '{inner}' & wait"
    script = (
        'setsid sh -c "$OUTER" >&- 2>&- & until [ "$(wc -l < $FILE)" = 2 ]; do sleep 0.01; done'
    )
    async with opened_own_machine(tmp_path) as machine:
        file.touch()
        running = start(machine, "sh", "-c", script, env={"FILE": str(file), "OUTER": outer})
        outer_pid, inner_pid = await pids_in(file, 2)
        dies.append(outer_pid)
        with trio.fail_after(PATIENCE):
            await running.run()
    assert not dies
    assert not is_alive(inner_pid)


async def test_a_grandchild_may_write_on_for_a_while(machine):
    machine.pipe_held = PATIENCE
    done = await run(machine, "sh", "-c", "(sleep 0.3; echo late) & echo early; exit 4")
    assert done.text() == "early\nlate\n"
    assert done.outcome.exit_code == 4


async def test_what_ended_by_itself_while_the_worker_stood_still_has_no_timeout(machine):
    running = start(machine, "sleep", "0.01", timeout=0.2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(running.run)
        await trio.testing.wait_all_tasks_blocked()
        due = time.monotonic() + 0.3
        while is_alive(running.child.pid) or time.monotonic() < due:
            time.sleep(0.01)
    assert (running.outcome.reason, running.outcome.exit_code) == (Reason.EXIT, 0)


async def test_a_timeout_while_the_pipe_is_held_does_not_change_the_status(machine):
    machine.pipe_held = 0.5
    done = await run(machine, "sh", "-c", "sleep 1000 & exit 4", timeout=0.3)
    assert (done.outcome.reason, done.outcome.exit_code) == (Reason.EXIT, 4)


async def test_a_kill_while_the_pipe_is_held_does_not_wait_for_it(machine):
    machine.pipe_held = 1000.0
    running = start(machine, "sh", "-c", "sleep 1000 & echo up; exit 4")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(running.run)
        await until(lambda: not is_alive(running.child.pid))
        running.child.kill(Reason.KILLED)
        await until(lambda: running.outcome is not None)
    assert (running.outcome.reason, running.outcome.exit_code) == (Reason.EXIT, 4)


async def test_what_has_shed_its_marks_ends_with_the_last_job_it_may_belong_to(tmp_path):
    file = tmp_path / "pids"
    script = "prlimit --rttime=unlimited env -i setsid"
    script += f" sh -c 'echo $$ > {file}; exec sleep 1000 >&- 2>&-' &"
    script += f" while [ ! -s {file} ]; do sleep 0.01; done"
    async with opened_own_machine(tmp_path) as machine:
        neighbour = start(machine, "sleep", "1000")
        hider = start(machine, "sh", "-c", script)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(neighbour.run)
            with trio.fail_after(PATIENCE):
                await hider.run()
            [hidden] = await pids_in(file, 1)
            assert is_alive(hidden)  # it may be the neighbour's
            neighbour.child.kill(Reason.KILLED)
            await until(lambda: not is_alive(hidden))


async def test_orphans_that_end_by_themselves_are_buried_while_the_job_runs(tmp_path):
    file = tmp_path / "pids"
    script = f"(setsid sh -c 'echo $$ > {file}' &) ; exec sleep 1000"
    async with opened_own_machine(tmp_path) as machine:
        running = start(machine, "sh", "-c", script)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(running.run)
            [orphan] = await pids_in(file, 1)
            await until(lambda: not Path(f"/proc/{orphan}").exists())
            nursery.cancel_scope.cancel()


async def test_a_program_keeps_its_own_children(machine):
    own = await trio.lowlevel.open_process(["sleep", "1000"], start_new_session=True)
    dead = await trio.lowlevel.open_process(["true"])
    await until(lambda: not is_alive(dead.pid))
    await run(machine, "sh", "-c", "setsid sleep 1000 >&- 2>&- & exit 0")
    assert is_alive(own.pid)
    assert await dead.wait() == 0
    own.kill()
    assert await own.wait() == -signal.SIGKILL


# --- scratch ---


async def test_the_scratch_directory_is_private_and_removed(machine, tmp_path):
    script = 'stat -c %a "$JOB_SCRATCH"; echo "$JOB_SCRATCH"; mkdir -p "$JOB_SCRATCH/a/b"'
    script += '; touch "$JOB_SCRATCH/a/b/c"; chmod 000 "$JOB_SCRATCH/a/b" "$JOB_SCRATCH/a"'
    mode, path = (await run(machine, "sh", "-c", script)).text().split()
    assert mode == "700"
    assert Path(path).is_relative_to(tmp_path)
    assert not Path(path).exists()


@pytest.mark.parametrize(
    "trick",
    [
        'rmdir "$JOB_SCRATCH"',
        'rmdir "$JOB_SCRATCH"; ln -s / "$JOB_SCRATCH"',
        'rmdir "$JOB_SCRATCH"; touch "$JOB_SCRATCH"',
        'chmod 777 "$JOB_SCRATCH"',
        'touch "$JOB_SCRATCH/left"',
    ],
)
async def test_the_next_job_gets_a_fresh_one_whatever_was_done_to_the_last(machine, trick):
    await run(machine, "sh", "-c", trick)
    look = 'stat -c "%F %a" "$JOB_SCRATCH"; ls -A "$JOB_SCRATCH"'
    assert (await run(machine, "sh", "-c", look)).text() == "directory 700\n"


async def test_the_loop_runs_on_while_a_scratch_directory_is_removed(machine, monkeypatch):
    may_end = threading.Event()

    def slow(path):
        assert may_end.wait(PATIENCE)
        remove_folder(path)

    monkeypatch.setattr("simple_worker.process.remove_folder", slow)
    running = start(machine, "sh", "-c", 'touch "$JOB_SCRATCH/left"; echo up')
    async with trio.open_nursery() as nursery:
        nursery.start_soon(running.run)
        await until(lambda: running.chunks and not is_alive(running.child.pid))
        may_end.set()
    assert running.outcome.is_success


# --- what cannot be started ---


def fail(machine, *argv, **options):
    """Why it cannot be started."""
    launch = {key: options.pop(key) for key in ("uid", "gid") if key in options}
    failure = machine.start(Launch(Command(argv[0], argv[1:], **options), **launch))
    assert not isinstance(failure, Process)
    assert failure.output.count(b"\n") == 1
    assert failure.outcome == Outcome(
        Reason.SPAWN_ERROR, failure.status, output_bytes=len(failure.output), duration=0.0
    )
    return failure.status, failure.line


def write_program(path, text, mode=0o755):
    path.write_text(text)
    path.chmod(mode)
    return str(path)


async def test_a_command_that_does_not_exist(machine):
    for command in ("no-such-command", "/no/such/thing", "./no-such-thing"):
        assert fail(machine, command) == (127, f"{command}: command not found on this worker")
    assert fail(machine, "") == (127, "'': command not found on this worker")
    assert fail(machine, "two\nlines")[1].startswith("'two\\nlines': ")
    assert fail(machine, "ls", env={"PATH": "/no/such"})[0] == 127


async def test_a_command_that_is_not_executable(machine, tmp_path):
    plain = write_program(tmp_path / "plain", "x", 0o644)
    assert fail(machine, plain) == (126, f"{plain}: Permission denied")
    assert fail(machine, str(tmp_path)) == (126, f"{tmp_path}: is a directory")
    bare = write_program(tmp_path / "bare", "no first line\n")
    assert fail(machine, bare) == (
        126, f"{bare}: is not a program of this machine; a script begins with a #! line"
    )  # fmt: skip
    orphan = write_program(tmp_path / "orphan", "#!/no/such/interpreter\n")
    status, line = fail(machine, orphan)
    assert status == 126
    assert "interpreter" in line
    status, line = fail(machine, "./orphan", cwd=str(tmp_path))
    assert (status, "interpreter" in line) == (126, True)


async def test_a_working_directory_that_is_none(machine, tmp_path):
    file = tmp_path / "file"
    file.touch()
    assert fail(machine, "ls", cwd="/no/such") == (
        126, "the working directory /no/such does not exist on this worker"
    )  # fmt: skip
    assert fail(machine, "ls", cwd=str(file)) == (
        126, f"the working directory {file} is not a directory"
    )  # fmt: skip
    assert fail(machine, "no-such", cwd="/no/such")[0] == 126


@pytest.mark.parametrize(
    ("argv", "options"),
    [
        (("l\0s",), {}),
        (("ls", "a\0b"), {}),
        (("ls",), {"env": {"A": "\0"}}),
        (("ls",), {"cwd": "/\0"}),
    ],
)
async def test_nul_bytes(machine, argv, options):
    status, line = fail(machine, *argv, **options)
    assert (status, "NUL" in line) == (126, True)


async def test_things_no_machine_can_do(machine):
    assert fail(machine, "ls", "x" * 3_000_000) == (
        126, "ls: the arguments and the environment are too large"
    )  # fmt: skip
    assert fail(machine, "ls", env={"A=B": "x"})[0] == 126
    assert fail(machine, "ls", uid=1 << 50)[0] == 126
    assert fail(machine, "ls", gid=1 << 50)[0] == 126


async def test_a_failed_start_leaves_no_scratch_directory_and_no_descriptor(machine, tmp_path):
    fail(machine, "no-such-command")
    before = len(os.listdir("/proc/self/fd")), list(tmp_path.rglob("*"))
    for _ in range(20):
        fail(machine, "no-such-command")
    assert (len(os.listdir("/proc/self/fd")), list(tmp_path.rglob("*"))) == before


@pytest.mark.parametrize("left", range(12))
async def test_a_machine_without_room_refuses_and_does_not_blame_the_command(machine, left):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free + left, hard))
    try:
        child = machine.start(Launch(Command("true")))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if isinstance(child, SpawnFailure):
        assert child.outcome == Outcome(Reason.REFUSED)
    else:
        assert left > 2
        assert (await child.run(_ignore, 1000)).is_success
    assert (await run(machine, "true")).outcome.is_success


async def _ignore(stream, data):
    pass
