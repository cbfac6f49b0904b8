"""Jobs that do all they can to outlive their end, whichever it is: none of them may."""

import json
import sys
from typing import Any, Final

import trio

from tests.commands import ROOT
from tests.torture.campaign import MARK, UNHEARD, Campaign, Scale, marked_processes
from tests.torture.judge import read_witness

GRACE: Final = 0.5
TIMEOUT: Final = 3.0
FOUND_OUT: Final = 1.5
"""Seconds after which a worker knows of every orphan: it looks for them once a second."""
REAPING: Final = 2.0
ENDS: Final = {
    "ends": ("succeeded", "exit"),
    "cancel": ("cancelled", "cancelled"),
    "timeout": ("failed", "timeout"),
    "kill": ("failed", "worker-lost"),
}
"""How a job of each end is shown afterwards: its state, and the reason."""
HOWS: Final = ("holds", "writes", "closes", "bare")


async def torture_nasty(campaign: Campaign, scale: Scale) -> None:
    """All of them at once; a quarter each ends by itself, by a cancel, a timeout, SIGKILL."""
    number = scale.jobs
    async with campaign.proxied():
        server = await campaign.start_server()
        worker = campaign.start_worker("w1", number, "--label", "role=other")
        victim = campaign.start_worker("w2", number, "--label", "role=victim")
        await campaign.wait_for_workers(2)
        ends = [list(ENDS)[index % len(ENDS)] for index in range(number)]
        hows = [HOWS[index // len(ENDS) % len(HOWS)] for index in range(number)]
        bodies = [_body(campaign, *pair) for pair in zip(ends, hows, strict=True)]
        ids = json.loads(await campaign.ask("/api/v1/jobs", bodies))["ids"]
        end_of = dict(zip(ids, ends, strict=True))
        campaign.submitted = dict(zip(ids, hows, strict=True))
        async with trio.open_nursery() as nursery:
            for job_id, end in end_of.items():
                if end == "cancel":
                    nursery.start_soon(_cancel, campaign, job_id)
            await _begun(campaign, {job_id for job_id, end in end_of.items() if end == "kill"})
            await trio.sleep(FOUND_OUT)
            await campaign.kill(victim, "worker w2")
            await trio.sleep(REAPING)
            for pid, argv in marked_processes(_mark(campaign, "kill")):
                campaign.blame("left", f"{REAPING} s after its worker {pid} lives: {argv}")
            victim = campaign.start_worker("w2", 1, "--label", "role=victim")
        await campaign.heal()
        for job_id, end in end_of.items():
            job = json.loads(await campaign.ask(f"/api/v1/jobs/{job_id}"))
            if (job["state"], job["reason"]) != ENDS[end]:
                what = f"job {job_id} ({end}, {campaign.submitted[job_id]})"
                campaign.blame("wrong", f"{what} is {job['state']}, {job['reason']}")
        campaign.look_for_survivors()
        await campaign.stop(worker, "worker w1")
        await campaign.stop(victim, "worker w2")
    await campaign.stop(server, "the server")
    campaign.look_for_survivors()


def _body(campaign: Campaign, end: str, how: str) -> dict[str, Any]:
    mark = _mark(campaign, end)
    witness = campaign.service.folder / "witness"
    stays = "leaves" if end == "ends" else "stays"
    return {
        "command": sys.executable,
        "args": ["-ISs", str(ROOT / "tests/torture/brute.py"), str(witness), stays, how, mark],
        "env": {MARK: mark.partition("=")[2]},
        "needs": {"role": "victim" if end == "kill" else "other"},
        "on_lost": "fail",
        "kill_grace": GRACE,
        "timeout": TIMEOUT if end == "timeout" else None,
    }


async def _begun(campaign: Campaign, wanted: set[int]) -> None:
    """Wait until these jobs have begun."""
    witness = campaign.service.folder / "witness"
    with trio.fail_after(60):
        while not wanted <= {line.job for line in read_witness(witness.read_text())}:
            await trio.sleep(0.05)


async def _cancel(campaign: Campaign, job_id: int) -> None:
    await _begun(campaign, {job_id})
    with trio.fail_after(60):
        while True:
            try:
                await campaign.ask(f"/api/v1/jobs/{job_id}/cancel", {})
            except UNHEARD:
                await trio.sleep(0.1)
            else:
                return


def _mark(campaign: Campaign, end: str) -> str:
    return f"{MARK}={campaign.service.folder}/{end}"
