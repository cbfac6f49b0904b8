"""Servers behind one port: all are started, kept alive, stopped together, and none is left."""

import os
import signal
import socket

import pytest
import trio

from queued_runner.datadir import hold
from queued_runner.errors import DataDirUnusable
from queued_runner.processes import CEILING, FIRST, restart_delay
from remote_runner.errors import CannotListen, UnusableSettings
from tests.commands import PATIENCE, is_alive
from tests.processes.conftest import Kept, gone, server, who_answers


async def test_all_serve_behind_one_port_that_server_json_tells(kept):
    kept.start(server(), processes=3, http_port=0, json_port=0)
    port = await kept.ready()
    pids = await kept.everybody(3)
    assert sorted(pids) == [1, 2, 3]
    facts = kept.facts
    assert facts["pid"] == os.getpid()
    assert facts["port"] == port
    assert facts["url"] == f"http://127.0.0.1:{facts['http_port']}"
    assert facts["json_port"] not in (0, port, facts["http_port"])
    token = kept.folder / "token"
    assert facts["token_file"] == str(token)
    assert token.stat().st_mode & 0o777 == 0o600
    with pytest.raises(DataDirUnusable), hold(kept.folder):
        pass
    kept.signal()
    assert await kept.end() == 0
    assert not any(is_alive(pid) for pid in pids.values())
    assert not (kept.folder / "server.json").exists()
    with hold(kept.folder):
        pass


async def test_one_that_dies_is_started_again_in_its_place(kept):
    kept.start(server())
    port = await kept.ready()
    pids = await kept.everybody()
    os.kill(pids[2], signal.SIGKILL)
    await gone([pids[2]])
    # Whoever connects meanwhile reaches the one that lives, as soon as the kernel knows.
    again = {}
    with trio.fail_after(PATIENCE):
        while again.get(2, pids[2]) == pids[2]:
            try:
                number, pid = await who_answers(port)
            except (OSError, ValueError):
                continue  # it was given to the one that has just died
            again[number] = pid
    assert again.get(1, pids[1]) == pids[1]
    assert kept.facts["port"] == port
    kept.signal()
    assert await kept.end() == 0


async def test_one_that_hangs_is_killed_and_started_again(kept, monkeypatch):
    """The kernel would give it its share of all connections for ever."""
    monkeypatch.setattr("queued_runner.processes.LOOK", 1.5)
    kept.start(server())
    await kept.ready()
    pids = await kept.everybody()
    hanging = pids[2]
    os.kill(hanging, signal.SIGSTOP)
    await gone([hanging])
    while pids[2] == hanging:
        pids = await kept.everybody()
    kept.signal()
    assert await kept.end() == 0


async def test_one_signal_ends_all_though_one_of_them_hangs(kept, monkeypatch):
    monkeypatch.setattr("queued_runner.processes.LOOK", 1.5)
    kept.start(server())
    await kept.ready()
    pids = await kept.everybody()
    os.kill(pids[2], signal.SIGSTOP)
    kept.signal()
    assert await kept.end() == 128 + signal.SIGKILL


async def test_one_that_ends_by_itself_is_started_again_too(kept):
    kept.start(server())
    await kept.ready()
    pids = await kept.everybody()
    for _ in range(3):
        os.kill(pids[1], signal.SIGTERM)
        await gone([pids[1]])
        before = pids[1]
        while pids[1] == before:
            pids = await kept.everybody()
    kept.signal()
    assert await kept.end() == 0


@pytest.mark.parametrize("manner", ["fails=78", "fails=78@2"])
async def test_what_cannot_start_ends_all_with_its_status(kept, manner):
    kept.start(server(manner))
    assert await kept.end() == 78
    assert not (kept.folder / "server.json").exists()


async def test_they_drain_until_a_second_signal(kept):
    kept.start(server("drains"))
    await kept.ready()
    pids = await kept.everybody()
    kept.signal()
    assert await kept.everybody() == pids
    assert not kept.ended.is_set()
    kept.signal()
    assert await kept.end() == 0


async def test_nothing_that_dies_while_all_stop_is_started_again(kept):
    kept.start(server("drains"))
    await kept.ready()
    pids = await kept.everybody()
    kept.signal()
    await trio.testing.wait_all_tasks_blocked(0.01)
    for pid in pids.values():
        os.kill(pid, signal.SIGKILL)
    assert await kept.end() == 128 + signal.SIGKILL


async def test_one_that_obeys_no_word_is_killed(kept, monkeypatch):
    monkeypatch.setattr("queued_runner.processes.LAST_MOMENT", 0.1)
    kept.start(server("stubborn"))
    await kept.ready()
    pids = await kept.everybody()
    kept.signal()
    kept.signal()
    assert await kept.end() == 128 + signal.SIGKILL
    assert not any(is_alive(pid) for pid in pids.values())


async def test_a_signal_before_they_serve_stops_them_as_well(kept):
    kept.signal()
    kept.start(server())
    assert await kept.end() == 0


async def test_an_error_of_the_one_that_keeps_them_leaves_nothing(tmp_path, monkeypatch):
    pids = {}
    async with trio.open_nursery() as nursery:
        kept = Kept(tmp_path, nursery)
        kept.start(server())
        await kept.ready()
        pids = await kept.everybody()
        nursery.cancel_scope.cancel()
    assert pids
    assert not any(is_alive(pid) for pid in pids.values())
    assert not (tmp_path / "server.json").exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
async def test_they_end_by_themselves_when_their_keeper_is_killed(keeper, kept, number):
    process = keeper(*server())
    await kept.ready()
    pids = await kept.everybody()
    os.killpg(process.pid, number)  # as a terminal would: they are in groups of their own
    await gone(pids.values())


def said(process, word):
    for line in process.stdout:
        if word in line:
            return


async def test_ctrl_c_reaches_them_once(keeper, kept):
    process = keeper(*server("drains"))
    await kept.ready()
    pids = await kept.everybody()
    os.killpg(process.pid, signal.SIGINT)
    await trio.to_thread.run_sync(said, process, b"stopping")
    assert await kept.everybody() == pids
    process.send_signal(signal.SIGTERM)
    assert await trio.to_thread.run_sync(process.wait, PATIENCE) == 0
    assert not any(is_alive(pid) for pid in pids.values())


async def test_a_port_that_another_server_has_is_refused(kept, tmp_path, nursery):
    kept.start(server())
    port = await kept.ready()
    with pytest.raises(BaseExceptionGroup) as caught:
        async with trio.open_nursery() as second:
            Kept(tmp_path / "other", second).start(server(), port=port)
    assert caught.group_contains(CannotListen, match=f"port {port}")
    with socket.socket() as plain, pytest.raises(OSError, match="in use"):
        plain.bind(("127.0.0.1", port))
    kept.signal()
    assert await kept.end() == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"store": None}, "--processes needs --store postgresql://"),
        ({"store": "sqlite:///q.db"}, "--processes needs --store postgresql://"),
        ({"agent_api": True}, "cannot be had with --agent-api"),
        ({"local_slots": 1}, "--local-slots"),
        ({"runner": "local"}, "--runner"),
        ({"host": "0.0.0.0"}, "--host 127.0.0.1"),
    ],
)
async def test_what_cannot_be_shared_is_refused_at_once(tmp_path, options, words):
    with pytest.raises(BaseExceptionGroup) as caught:
        async with trio.open_nursery() as nursery:
            Kept(tmp_path / "state", nursery).start(server(), **options)
    assert caught.group_contains(UnusableSettings, match=words)
    assert not (tmp_path / "state").exists()


def test_it_waits_longer_after_each_short_life():
    delays = [restart_delay(failures) for failures in range(1, 1000)]
    assert delays[0] == FIRST
    assert delays == sorted(delays)
    assert delays[-1] == CEILING
