"""A pulled task in virtual time, over a scripted server and simulated processes."""

import math

import pytest
import trio

from remote_runner.types import Command, Reason
from simple_worker.http_client import Answer, HttpClient, NoAnswer
from simple_worker.launch import Launch, SpawnFailure
from simple_worker.pull import PullWorker
from simple_worker.pulled import FENCE, FLUSH, FLUSH_SECONDS, LEASE, Lane, PulledTask, chunk_body
from simple_worker.session import Identity
from tests.worker.simulation import SimulatedProcesses


class ScriptedServer:
    """Answers what a test says; keeps what was said to it, and when."""

    url = "http://server"

    def __init__(self):
        self.is_up = True
        self.answers = {}
        self.tasks = []
        self.said = []

    async def call(self, method, path, body):
        await trio.lowlevel.checkpoint()
        what = path.rpartition("/")[2]
        if not self.is_up:
            raise NoAnswer("nobody there")
        if what == "heartbeat" and what not in self.answers:
            await trio.sleep(body["wait"])
            return Answer(200, {})
        self.said.append((what, body, trio.current_time()))
        if what == "pull":
            return Answer(200, self.tasks.pop(0) if self.tasks else None)
        return self.answers.get(what, Answer(200, {}))

    def bodies(self, what):
        return [body for name, body, _ in self.said if name == what]


@pytest.fixture
def server():
    return ScriptedServer()


@pytest.fixture
def said():
    return []


def start(server, said, program):
    processes = SimulatedProcesses()
    processes.programs["bash"] = program
    child = processes.start(Launch(Command("bash")))
    return child, PulledTask(server, 7, child, lambda: 0.5, said.append)


async def test_output_goes_in_whole_chunks_or_when_it_is_old(server, said, autojump_clock):
    async def program(child):
        await child.write(b"first\n")
        await trio.sleep(FLUSH_SECONDS + 1)
        await child.write(b"x" * (FLUSH - 1) + b"\n" + b"y" * 10 + b"\n")
        await trio.sleep(1)
        await child.write(b"\xff", "stderr")
        return 3

    began = trio.current_time()
    _, task = start(server, said, program)
    await task.run()
    chunks = [(body["kind"], body["index"], len(body.get("content", "")), round(at - began))
              for what, body, at in server.said if what == "logs"]  # fmt: skip
    assert chunks[:2] == [("stdout", 0, 5, 5), ("stdout", 1, FLUSH - 1, 6)]
    assert sorted(chunks[2:]) == [("stderr", 0, 0, 7), ("stdout", 2, 10, 7)]
    assert {"kind": "stderr", "index": 0, "base64": "/w=="} in server.bodies("logs")
    assert server.said[-1][1] == {
        "status": "failed", "reason": "exit", "exit_code": 3, "signal": None, "complete": True,
    }  # fmt: skip


async def test_a_server_that_is_away_hears_all_of_it_later(server, said, autojump_clock):
    async def program(child):
        for number in range(10):
            await child.write(b"%d\n" % number * 100_000)
        return 0

    server.is_up = False
    _, task = start(server, said, program)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(task.run)
        await trio.sleep(15)
        assert server.said == []
        server.is_up = True
    text = "".join(body["content"] + "\n" for body in server.bodies("logs"))
    assert text == "".join(f"{number}\n" * 100_000 for number in range(10))
    assert [body["index"] for body in server.bodies("logs")] == list(range(len(server.said) - 1))
    assert server.bodies("status") == [{"status": "succeeded", "complete": True}]


async def test_out_of_contact_it_stops_before_the_server_gives_it_up(server, said, autojump_clock):
    began = trio.current_time()
    child, task = start(server, said, lambda child: trio.sleep(math.inf))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(task.run)
        await trio.sleep(100)
        assert child.kills == []
        server.is_up = False
        while not child.kills:
            await trio.sleep(0.1)
        assert child.kills[0][0] is Reason.ABANDONED
        assert FENCE * LEASE - 6 <= trio.current_time() - began - 100 <= FENCE * LEASE
        server.is_up = True
    assert server.bodies("status")[0]["reason"] == "abandoned"


@pytest.mark.parametrize("status", [404, 409])
async def test_a_task_that_is_not_ours_any_more_ends(server, said, autojump_clock, status):
    async def program(child):
        while True:
            await child.write(b"x" * FLUSH)

    server.answers["logs"] = Answer(status, {"detail": "Gone."})
    child, task = start(server, said, program)
    await task.run()
    assert child.kills[0][0] is Reason.ABANDONED
    assert server.bodies("status") == []
    assert "Gone." in said[0]


async def test_a_cancel_is_obeyed_once(server, said, autojump_clock):
    server.answers["heartbeat"] = Answer(200, {"cancel": True, "signal": "SIGINT", "grace": 2.5})
    child, task = start(server, said, lambda child: trio.sleep(math.inf))
    await task.run()
    assert child.kills == [(Reason.KILLED, "SIGINT", 2.5)]
    assert server.bodies("status")[0]["reason"] == "killed"


@pytest.mark.parametrize("grace", [float("nan"), -1, 10**400, True, "1", None, []])
async def test_a_cancel_with_a_senseless_grace_is_a_cancel(server, said, autojump_clock, grace):
    server.answers["heartbeat"] = Answer(200, {"cancel": True, "signal": 9, "grace": grace})
    child, task = start(server, said, lambda child: trio.sleep(math.inf))
    await task.run()
    reason, signal, seconds = child.kills[0]
    assert (reason, signal) == (Reason.KILLED, None)
    assert seconds is None or 0 <= seconds <= 86_400


async def test_what_cannot_be_started_is_reported(server, said, autojump_clock):
    failure = SpawnFailure(127, "bash: command not found on this worker")
    await PulledTask(server, 7, failure, lambda: 0.5, said.append).run()
    assert "command not found" in server.bodies("logs")[0]["content"]
    assert server.bodies("status")[0]["reason"] == "spawn-error"


@pytest.mark.parametrize("is_over", [False, True])
async def test_a_lane_bounds_what_it_holds(is_over, autojump_clock):
    lane = Lane("stdout")
    with trio.move_on_after(5) as waiting:
        await lane.add(b"x" * 3 * FLUSH)
    assert waiting.cancelled_caught
    if is_over:
        lane.drop()
        assert await lane.next() is None
    else:
        assert len(await lane.next()) == FLUSH


def test_only_whole_lines_of_text_are_text():
    assert chunk_body("stdout", 1, b"a\nb\n") == {"kind": "stdout", "index": 1, "content": "a\nb"}
    assert "base64" in chunk_body("stdout", 1, b"a")
    assert "base64" in chunk_body("stdout", 1, b"\xe4\n")


async def test_no_more_than_its_slots_run_and_each_pull_tells_what_is_held(
    server, said, autojump_clock
):
    processes = SimulatedProcesses()
    running = 0

    async def program(child):
        nonlocal running
        running += 1
        assert running <= 2
        await trio.sleep(1)
        running -= 1
        return 0

    processes.programs["bash"] = program
    server.tasks = [{"id": number, "command": "x"} for number in range(1, 6)]
    worker = PullWorker(
        Identity("id", "boot", "name", 2), server, processes, rng=lambda: 0.5, say=said.append,
        once=True,
    )  # fmt: skip
    await worker.run()
    assert len(processes.children) == 5
    assert [sorted(body["held"]) for body in server.bodies("pull")][:2] == [[], [1]]
    assert len(server.bodies("status")) == 5


@pytest.mark.parametrize(
    "answer",
    [b"", b"rubbish", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", b"HTTP/1.1 x\r\n\r\n",
     b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 100_000,
     b"HTTP/1.1 200 OK\r\n\r\n<html>",
     b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (9 << 20)],
)  # fmt: skip
async def test_what_is_no_answer_is_told_so(answer):
    async def serve(stream):
        async with stream:
            await stream.receive_some()
            try:
                await stream.send_all(answer)
            except trio.BrokenResourceError:
                pass  # it has heard enough

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        port = listeners[0].socket.getsockname()[1]
        with pytest.raises(NoAnswer):
            await HttpClient(f"http://127.0.0.1:{port}").call("POST", "/x", {})
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("url", ["", "127.0.0.1:8633", "ftp://x", "http://", "http://x:y"])
def test_what_is_no_url_is_refused(url):
    with pytest.raises(ValueError):
        HttpClient(url)
