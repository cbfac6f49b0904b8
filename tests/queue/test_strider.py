"""The Strider plug: what a host hears of its jobs, in which order, and with which data."""

from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import memory_stream_pair

from queued_runner.jobs import JobState
from queued_runner.strider import MAX_BUILDS, RUNNER_ID, attach
from queued_runner.strider_build import KEPT
from queued_runner.testing.virtual import EPOCH, open_virtual_service
from remote_runner.emitter import DuplexEmitter, EventWire
from remote_runner.protocol.framing import Codec


def wall():
    return EPOCH + trio.current_time()


class StriderHost:
    """Emits what a test says, and keeps what comes back."""

    def __init__(self, emitter):
        self.emitter = emitter
        self.heard = []

    async def new(self, build_id="b1", kind="TEST_ONLY", options=None, config=None, **phases):
        given = {
            "runner": {"id": RUNNER_ID, "config": options or {}},
            "plugins": [{"id": "custom", "enabled": True, "config": phases}],
            **(config or {}),
        }
        job = {"_id": build_id, "type": kind, "project": {"name": "me/it"}}
        await self.emitter.emit("job.new", job, given)

    async def until(self, name):
        """Everything up to an event of this name, whose arguments are returned."""
        async for event in self.emitter:
            self.heard.append(event)
            if event.name == name:
                return event.args
        raise AssertionError(f"the connection ended before {name}: {self.heard}")

    def names(self):
        return [event.name.removeprefix("job.").removeprefix("status.") for event in self.heard]

    def data_of(self, name):
        return [event.args[1] for event in self.heard if event.name == f"job.status.{name}"]


@asynccontextmanager
async def connected(service, codec=Codec.MSGPACK):
    """A host that is attached to the runner of a service, until it hangs up."""
    ours, theirs = memory_stream_pair()

    async def serve():
        async with DuplexEmitter(theirs) as emitter:
            await attach(service.runner, emitter, now=wall)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        async with DuplexEmitter(ours, EventWire(codec)) as emitter:
            yield StriderHost(emitter)


@pytest.fixture
async def host(virtual_service):
    async with connected(virtual_service) as host:
        yield host


@pytest.fixture
async def worker(virtual_service):
    async with virtual_service.worker(slots=4) as worker:
        yield worker


@pytest.mark.parametrize("codec", Codec)
async def test_a_job_from_new_to_done(virtual_service, worker, autojump_clock, codec):
    async with connected(virtual_service, codec) as host:
        await host.new(
            kind="TEST_AND_DEPLOY",
            options={"cwd": "/src", "env": {"A": "b"}, "timeout": 60},
            prepare="npm install", test=["cd it", "npm test"], deploy="false", shell="bash",
        )  # fmt: skip
        run = await worker.next_run()
        assert (run.command, run.args) == ("bash", ("-e", "-x", "-c", "npm install"))
        assert (run.options.cwd, run.options.timeout_ms) == ("/src", 60_000)
        assert (run.env["A"], run.env["PAAS_NAME"]) == ("b", "strider")
        await run.write(b"caf\xc3")
        await trio.sleep(2)
        await run.write(b"\xa9\xff\n")
        await run.write(b"a warning\n", "stderr")
        await run.end()
        run = await worker.next_run()
        assert run.args[-1] == "cd it\nnpm test"
        await run.end()
        await (await worker.next_run()).end(3)
        [data] = await host.until("job.done")

    assert host.names() == [
        "queued", "phase.done",  # environment
        "started", "command.start", "stdout", "stdout", "stderr", "command.done", "phase.done",
        "command.start", "command.done", "tested", "phase.done",
        "command.start", "command.done", "deployed", "phase.done",
        "phase.done", "done",  # cleanup
    ]  # fmt: skip
    assert all(event.args[0] == "b1" for event in host.heard[:-1])
    assert "".join(host.data_of("stdout")) == "café\ufffd\n"
    assert host.data_of("stderr") == ["a warning\n"]
    start = host.data_of("command.start")[0]
    assert (start["command"], start["plugin"]) == ("npm install", "custom")
    assert start["started"] == start["time"] == host.data_of("started")[0]
    assert start["time"].startswith("2023-11-14T22:13:2")
    assert host.data_of("command.done")[0]["elapsed"] == 2000
    assert [done["exitCode"] for done in host.data_of("command.done")] == [0, 0, 3]
    phases = host.data_of("phase.done")
    assert [(done["phase"], done["exitCode"], done["next"]) for done in phases] == [
        ("environment", 0, "prepare"), ("prepare", 0, "test"), ("test", 0, "deploy"),
        ("deploy", 3, "cleanup"), ("cleanup", 0, None),
    ]  # fmt: skip
    assert host.data_of("tested")[0]["exitCode"] == 0
    assert host.data_of("deployed")[0]["exitCode"] == 3

    assert (data["id"], data["test_status"], data["deploy_status"]) == ("b1", 0, 3)
    assert "errored" not in data
    assert data["queued"] <= data["started"] < data["finished"]
    assert data["std"] == {
        "out": "café\ufffd\n", "err": "a warning\n", "merged": "café\ufffd\na warning\n",
    }  # fmt: skip
    [command] = data["phases"]["prepare"]["commands"]
    assert (command["command"], command["exitCode"], command["duration"]) == (
        "npm install",
        0,
        2000,
    )
    assert command["merged"] == data["std"]["merged"]
    assert data["phases"]["environment"]["commands"] == []


async def test_a_failed_test_is_cleaned_up_and_not_deployed(host, worker, autojump_clock):
    await host.new(kind="TEST_AND_DEPLOY", test="npm test", deploy="never", cleanup="rm -r it")
    await (await worker.next_run()).end(2)
    run = await worker.next_run()
    assert run.args[-1] == "rm -r it"
    await run.end()
    [data] = await host.until("job.done")
    assert (data["test_status"], data["deploy_status"]) == (2, -1)
    assert [done["phase"] for done in host.data_of("phase.done")] == [
        "environment", "prepare", "test", "cleanup",
    ]  # fmt: skip


async def test_a_job_is_cancelled_while_it_runs(host, worker, virtual_service, autojump_clock):
    await host.new(test="sleep 1000", cleanup="never")
    run = await worker.next_run()
    await host.until("job.status.command.start")
    await host.emitter.emit("job.cancel", "another")
    await host.emitter.emit("job.cancel", "b1")
    await host.emitter.emit("job.cancel", "b1")
    await run.killed.wait()
    await trio.testing.wait_all_tasks_blocked()
    assert "cancelled" not in host.names()  # its processes are still there
    await run.end(signal="SIGTERM")
    [data] = await host.until("job.done")
    assert host.names()[-3:] == ["cancelled", "cancelled", "done"]
    build_id, told = host.heard[-2].args
    assert (build_id, told["id"]) == ("b1", "b1")
    for known in (data, told):
        assert (known["errored"], known["error"]) == (True, {"message": "Cancelled by the user"})
    assert (await virtual_service.runner.get(1)).state is JobState.CANCELLED


async def test_a_job_is_cancelled_before_it_runs(host, virtual_service, autojump_clock):
    await host.new(test="true")
    await host.until("job.status.queued")
    await host.emitter.emit("job.cancel", "b1")
    [data] = await host.until("job.done")
    assert (data["errored"], data["started"]) == (True, None)
    assert (await virtual_service.runner.get(1)).state is JobState.CANCELLED


async def test_who_asks_is_told_what_is_known(host, worker, autojump_clock):
    await host.new(test="x")
    run = await worker.next_run()
    await run.write(b"half")
    await host.until("job.status.stdout")
    await host.emitter.emit("job.info", "b1")
    build_id, data = await host.until("job.info")
    assert (build_id, data["phase"], data["finished"]) == ("b1", "test", None)
    assert data["phases"]["test"]["commands"][0]["out"] == "half"
    await host.emitter.emit("job.info", "another")
    assert await host.until("job.info") == ("another", None)
    await run.end()
    await host.until("job.done")
    await host.emitter.emit("job.info", "b1")
    assert await host.until("job.info") == ("b1", None)


async def test_jobs_run_beside_each_other(host, worker, autojump_clock):
    for name in "abc":
        await host.new(name, test=f"echo {name}")
    runs = {run.args[-1]: run for run in [await worker.next_run() for _ in "abc"]}
    for name in "cab":
        await runs[f"echo {name}"].write(name.encode())
        await runs[f"echo {name}"].end()
    done = {(await host.until("job.done"))[0]["id"] for _ in "abc"}
    assert done == {"a", "b", "c"}
    assert {event.args for event in host.heard if event.name == "job.status.stdout"} == {
        ("a", "a"), ("b", "b"), ("c", "c"),
    }  # fmt: skip


async def test_a_signal_is_an_exit_code(host, worker, autojump_clock):
    await host.new(test="x")
    await (await worker.next_run()).end(signal="SIGSEGV")
    assert (await host.until("job.done"))[0]["test_status"] == 128 + 11


async def test_a_phase_without_an_end_of_its_own_is_an_error(host, virtual_service, autojump_clock):
    await host.new(test="x", cleanup="never", options={"on_lost": "fail"})
    async with virtual_service.worker() as worker:
        await worker.next_run()
    [data] = await host.until("job.done")
    [errored] = host.data_of("phase.errored")
    assert errored["phase"] == "test"
    assert "worker-lost" in errored["message"]
    assert host.data_of("errored") == [{"message": errored["message"]}]
    assert data["error"] == {"message": errored["message"]}


async def test_a_phase_that_runs_nothing_is_told(host, autojump_clock):
    await host.new(prepare="  \n")
    await host.until("job.done")
    assert host.data_of("stderr") == [
        "Phase test didn't actually run anything. Check your plugin configuration\n"
    ]
    assert "started" not in host.names()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"plugins": []}, "No plugins configured. Aborting"),
        ({"plugins": 5}, "No plugins configured. Aborting"),
        ({"plugins": [5]}, "a plugin is no object"),
        ({"plugins": [{"id": "node"}]}, "Plugin required but not found: 'node'"),
        ({"plugins": [{"id": "custom", "config": {"test": 5}}]}, "of the phase 'test' are no text"),
        ({"plugins": [{"id": "custom", "config": {"test": "\0"}}]}, "NUL"),
        ({"runner": {"id": RUNNER_ID, "config": {"key": "x"}}}, "no option 'key'; it has cwd, env"),
        ({"runner": {"id": RUNNER_ID, "config": {"timeout": -1}}}, "timeout"),
        ({"runner": {"id": RUNNER_ID, "config": {"env": 5}}}, "env is no object"),
        ({"runner": {"id": RUNNER_ID, "config": []}}, "config.runner.config is no object"),
    ],
)
async def test_what_cannot_be_run_is_said(host, autojump_clock, config, words):
    await host.new(config=config, test="true")
    [data] = await host.until("job.done")
    assert words in data["error"]["message"]
    assert host.data_of("errored") == [data["error"]]
    await host.new("b2", config={"plugins": [{"id": "node", "enabled": False}, {
        "id": "custom", "config": {}}]})  # fmt: skip
    [data] = await host.until("job.done")
    assert "errored" not in data


@pytest.mark.parametrize(
    "event",
    [
        ("job.new",), ("job.new", 5, 6), ("job.new", {"_id": "x"}), ("job.new", {"_id": "x"}, {}),
        ("job.new", {"_id": "x"}, {"runner": {"id": "simple-runner"}}), ("job.cancel",),
        ("job.cancel", [5]), ("job.cancel", {"_id": 5}), ("unknown", 5),
    ],
)  # fmt: skip
async def test_what_is_not_for_us_is_passed_over(host, worker, autojump_clock, event):
    await host.emitter.emit(*event)
    await host.new(test="x")
    await (await worker.next_run()).end()
    await host.until("job.done")
    assert host.heard[0].args[0] == "b1"


@pytest.mark.parametrize("build_id", [None, 5, "", "x" * 129, "a\nb", {"$oid": "x"}])
async def test_a_job_without_a_usable_id_is_answered(host, autojump_clock, build_id):
    await host.new(build_id, test="x")
    [data] = await host.until("job.done")
    assert (data["id"], data["errored"]) == (None, True)


async def test_a_host_that_comes_back_hears_everything_again(
    virtual_service, worker, autojump_clock
):
    async with connected(virtual_service) as first:
        await first.new(prepare="one", test="two")
        run = await worker.next_run()
        await run.write(b"from one")
        await run.end()
        run = await worker.next_run()
        await run.write(b"two ")
        await first.until("job.status.stdout")
    await run.write(b"goes on")  # nobody listens
    async with connected(virtual_service) as second:
        await second.new(prepare="one", test="two")
        await second.new(prepare="one", test="two")  # a host may be unsure
        await run.end(4)
        [data] = await second.until("job.done")
    assert data["std"]["out"] == "from onetwo goes on"
    assert data["test_status"] == 4
    assert second.names().count("queued") == 1
    async with connected(virtual_service) as third:
        await third.new(prepare="one", test="another")
        [data] = await third.until("job.done")
    assert "a job 'b1' was here before" in data["error"]["message"]


async def test_a_build_outlives_the_server(tmp_path, autojump_clock):
    async with open_virtual_service(tmp_path) as service:
        async with service.worker() as worker, connected(service) as host:
            await host.new(prepare="one", test="two")
            await (await worker.next_run()).end()
            await host.until("job.status.phase.done")
    async with open_virtual_service(tmp_path) as service:
        async with service.worker() as worker, connected(service) as host:
            await host.new(prepare="one", test="two")
            run = await worker.next_run()
            assert run.args[-1] == "two"
            await run.end()
            [data] = await host.until("job.done")
            assert data["test_status"] == 0


@pytest.mark.parametrize("codec", Codec)
@pytest.mark.parametrize("letter", [b"x", b"\x01", b"\xff", "é".encode()])
async def test_a_long_output_is_told_live_and_its_end_at_the_end(
    virtual_service, worker, autojump_clock, codec, letter
):
    piece = letter * (60_000 // len(letter))
    async with connected(virtual_service, codec) as host:
        await host.new(test="yes")
        run = await worker.next_run()
        for _ in range(10):
            await run.write(piece)
            await run.write(piece, "stderr")
        await run.end()
        [data] = await host.until("job.done")
        text = piece.decode("utf-8", "replace") * 10
        assert "".join(host.data_of("stdout")) == "".join(host.data_of("stderr")) == text
        out = data["std"]["out"]
        if codec is Codec.JSON_LINES and letter == b"\x01":
            assert out == ""  # it would not have fitted into an event
        else:
            assert out.endswith(text[-KEPT:])
            assert out.startswith(f"[{len(text) - KEPT} characters before this are left out]\n")


async def test_too_many_jobs_are_refused(host, autojump_clock):
    for number in range(MAX_BUILDS + 1):
        await host.new(f"b{number}", test="x")
    [data] = await host.until("job.done")
    assert (data["id"], data["errored"]) == (f"b{MAX_BUILDS}", True)
    assert "1000 jobs of this host run already" in data["error"]["message"]
