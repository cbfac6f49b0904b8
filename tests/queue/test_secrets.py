"""Why a job with secrets waits, in words."""

import pytest
import trio

from queued_runner.service import open_runner
from tests.worker.real import PATIENCE


async def test_it_runs_in_slots_of_this_program_and_its_output_is_stored_without_them(tmp_path):
    async with open_runner(tmp_path, local_slots=1) as runner:
        job_id = await runner.submit("echo 'the hunter2 is'", shell=True, mask=["hunter2"])
        with trio.fail_after(PATIENCE):
            assert [chunk.data async for chunk in runner.output(job_id)] == [b"the *** is\n"]
            job = await runner.wait(job_id)
        assert (job.exit_code, job.log_bytes) == (0, 11)


@pytest.mark.parametrize("needs", [{}, {"os": "linux"}])
async def test_it_waits_for_a_worker_that_can_hide_them(tmp_path, needs):
    async with open_runner(tmp_path, port=0) as runner:
        job = await runner.get(await runner.submit("x", mask=["hunter2"], needs=needs))
        assert "no worker is connected" in await runner.pending_reason(job)
        stream = await trio.open_tcp_stream("127.0.0.1", runner._runners[0].port)
        async with stream:
            with trio.fail_after(PATIENCE):
                while not runner.workers():
                    await trio.sleep(0.01)
            reason = await runner.pending_reason(job)
    if needs:
        assert reason == "no connected worker has the labels os=linux"
    else:
        assert "can hide its secrets" in reason
