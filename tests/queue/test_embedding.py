"""`open_runner` and plugs in somebody's program: what its mistakes and errors look like."""

import pytest
import trio

from queued_runner import open_runner
from remote_runner import RemoteRunner
from remote_runner.errors import UnusableSettings
from remote_runner.lone_error import lone_error
from simple_worker.local import LocalRunner


class Mine(Exception):
    pass


@pytest.mark.parametrize(
    "opened",
    [
        lambda folder: open_runner(folder, local_slots=1),
        lambda folder: LocalRunner(slots=1).open(),
        lambda folder: RemoteRunner(port=0).open(),
    ],
)
async def test_an_error_of_the_block_comes_out_as_itself(tmp_path, opened):
    mine = Mine()
    mine.__cause__ = cause = ValueError()
    with pytest.raises(Mine) as caught:
        async with opened(tmp_path):
            raise mine
    assert caught.value is mine
    assert (mine.__cause__, mine.__context__) == (cause, None)


async def test_several_errors_stay_in_their_group():
    async def fail():
        raise Mine

    with pytest.RaisesGroup(Mine, Mine), lone_error():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            nursery.start_soon(fail)


async def test_one_text_is_no_list_of_arguments(tmp_path):
    async with open_runner(tmp_path, local_slots=1) as queue, LocalRunner(slots=1).open():
        for start in (queue.submit, LocalRunner(slots=1).run):
            with pytest.raises(TypeError, match=r"write \['-l'\], not '-l'"):
                await start("echo", "abc")
            with pytest.raises(TypeError, match="an argument is a text: write '5', not 5"):
                await start("echo", [5])


async def test_what_is_no_id_of_a_job(tmp_path):
    async with open_runner(tmp_path, local_slots=1) as queue:
        for verb in (queue.get, queue.wait, queue.cancel):
            with pytest.raises(TypeError, match="the id of a job is a number"):
                await verb("1")


async def test_slots_that_there_cannot_be(tmp_path):
    for slots in (-1, 0):
        with pytest.raises(UnusableSettings, match="1 or more"):
            LocalRunner(slots=slots)
    with pytest.raises(UnusableSettings, match="1 or more, and not -1"):
        async with open_runner(tmp_path, local_slots=-1):
            pass
