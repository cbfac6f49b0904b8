"""How a program that embeds the runner is tested: with a played worker, and with real commands.

pytest examples/embedded_tests
"""

import pytest
import trio


async def nightly(runner):
    """The program under test: a backup that is tried again minutes after it failed."""
    job = await runner.submit("backup", ["--all"], retries=1, backoff=300, name="nightly")
    outcome = await runner.wait(job)
    return f"{outcome.state}, exit code {outcome.exit_code}"


@pytest.mark.trio
async def test_a_backup_is_tried_again_minutes_later(virtual_service, autojump_clock):
    said = []

    async def program():
        said.append(await nightly(virtual_service.runner))

    async with virtual_service.worker() as worker, trio.open_nursery() as nursery:
        nursery.start_soon(program)
        first = await worker.next_run()
        assert (first.command, first.args, first.env["JOB_ATTEMPT"]) == ("backup", ("--all",), "1")
        await first.write(b"the disk is away\n", "stderr")
        await first.end(2)

        second = await worker.next_run()  # they pass at once
        assert 100 < trio.current_time() < 400
        await second.end(0)
    assert said == ["succeeded, exit code 0"]


@pytest.mark.trio
async def test_a_worker_that_dies_loses_nothing(virtual_service, autojump_clock):
    runner = virtual_service.runner
    job = await runner.submit("build")
    async with virtual_service.worker() as worker:
        await (await worker.next_run()).write(b"half of it")
    async with virtual_service.worker("another") as worker:
        run = await worker.next_run()  # once the first one has been away for too long
        assert run.env["JOB_ATTEMPT"] == "2"
        await run.end(0)
    assert (await runner.wait(job)).exit_code == 0


def test_the_real_commands(running_service):
    done = running_service.verb("run", "--", "sh", "-c", "echo hello; exit 3")
    assert (done.returncode, done.stdout) == (3, b"hello\n")
