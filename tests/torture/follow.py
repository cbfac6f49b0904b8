"""`queued-runner run` follows a job while its server is killed: no byte is missing or doubled."""

import sys
from functools import partial
from typing import Final

import trio

from tests.commands import ROOT
from tests.torture.campaign import MARK, Campaign, Scale
from tests.torture.job import STEADY, pattern

PACE: Final = 0.01
"""Seconds between two lines of the job."""


async def torture_follow(campaign: Campaign, scale: Scale) -> None:
    """The server is killed so many times, at random moments of a job of so many seconds."""
    service, rng = campaign.service, campaign.rng
    lines = round(scale.seconds / PACE)
    moments = sorted(rng.uniform(0.02, 0.9) * scale.seconds for _ in range(scale.cycles))
    async with campaign.proxied():
        server = await campaign.start_server()
        http_port = service.facts["http_port"]
        worker = campaign.start_worker("w1", 1)
        await campaign.wait_for_workers(1)
        client = service.start_verb(
            "run", "--env", f"{MARK}={service.folder}", "--", sys.executable, "-ISs",
            ROOT / "tests/torture/job.py", service.folder, "steady", lines,
        )  # fmt: skip
        assert client.stdout is not None
        first = await trio.to_thread.run_sync(client.stdout.readline)
        begin = trio.current_time()

        async def break_it() -> None:
            nonlocal server
            for moment in moments:
                await trio.sleep_until(begin + moment)
                await campaign.kill(server, "the server")
                server = await campaign.start_server("--http-port", http_port)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(break_it)
            patience = 3 * scale.seconds + 60
            communicate = partial(client.communicate, timeout=patience)
            stdout, stderr = await trio.to_thread.run_sync(communicate)
        campaign.submitted = {1: "steady"}
        if client.returncode != STEADY:
            campaign.blame("wrong", f"`run` exits with {client.returncode}: {stderr!r}")
        stdout = first + stdout
        if stdout != (whole := pattern(1, 1, "stdout", 0, lines)):
            campaign.blame("differs", f"{len(stdout)} bytes for {len(whole)}: {stdout[-40:]!r}")
        if stderr.count(b"\n") > 2 * scale.cycles:
            campaign.blame("wrong", f"`run` talks too much: {stderr!r}")
        campaign.note(f"stderr of `run`: {stderr!r}")
        await campaign.stop(worker, "worker w1")
    await campaign.stop(server, "the server")
    campaign.look_for_survivors()
