"""A host of Strider's kind: it emits `job.new`, hears how the phases go, and cancels a job.

    python examples/strider_host.py

Both ends are in this program, with a socket between them. The host would be Strider itself (or a
few lines of JavaScript with the npm module duplex-emitter that hand on `job.new`, `job.cancel` and
what comes back); the other end, `serve`, is all that a server of yours needs.
"""

import sys
import tempfile
from functools import partial

import trio

from queued_runner import open_runner, strider
from remote_runner import DuplexEmitter


async def serve(runner, stream):
    """One host, until it hangs up. Jobs that run then run on."""
    async with DuplexEmitter(stream) as emitter:
        await strider.attach(runner, emitter)


def build(name, **phases):
    """What Strider says of a job whose commands are those of the plugin `custom`."""
    job = {"_id": name, "type": "TEST_AND_DEPLOY", "project": {"name": "me/project"}}
    config = {
        "runner": {"id": strider.RUNNER_ID, "config": {"timeout": 60}},
        "plugins": [{"id": "custom", "enabled": True, "config": phases}],
    }
    return job, config


async def host(stream):
    """Two jobs: one goes through all its phases, one is cancelled while it runs."""
    done = {}
    async with DuplexEmitter(stream) as runner:
        await runner.emit("job.new", *build(
            "good", prepare="echo preparing", test="echo testing; exit 0", deploy="echo deploying",
        ))  # fmt: skip
        await runner.emit("job.new", *build("bad", test="echo waiting; exec sleep 1000"))
        async for event, args in runner:
            match event, args:
                case "job.status.stdout", (name, text):
                    print(f"{name}: {text.rstrip()}")
                    if name == "bad":
                        await runner.emit("job.cancel", name)
                case "job.status.phase.done", (name, phase):
                    print(f"{name}: phase {phase['phase']} has exit code {phase['exitCode']}")
                case "job.cancelled", (name, data):
                    print(f"{name}: {data['error']['message']}")
                case "job.done", (data,):
                    done[data["id"]] = data
                    if len(done) == 2:
                        break
    return done


async def main():
    with tempfile.TemporaryDirectory() as folder:
        async with open_runner(data_dir=folder, local_slots=2) as runner:
            async with trio.open_nursery() as nursery:
                listen = partial(
                    trio.serve_tcp, partial(serve, runner), port=0, host="127.0.0.1"
                )  # fmt: skip
                [listener] = await nursery.start(listen)
                port = listener.socket.getsockname()[1]
                done = await host(await trio.open_tcp_stream("127.0.0.1", port))
                nursery.cancel_scope.cancel()
    return 0 if done["good"]["deploy_status"] == 0 and done["bad"]["errored"] else 1


if __name__ == "__main__":
    sys.exit(trio.run(main))
