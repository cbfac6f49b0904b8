"""The kinds of torture: what is killed or cut, how often, and what that excuses."""

import random
import subprocess
import time
from pathlib import Path
from typing import Final, NamedTuple

import trio

from tests.torture.campaign import Campaign, Scale, marked_processes
from tests.torture.judge import AttemptRecord

MIX: Final = (
    *["small"] * 8, *["large"] * 2, *["flowing"] * 2, *["silent"] * 2, *["slow"] * 3,
    *["forking"] * 2, *["failing"] * 2,
)  # fmt: skip
WORKERS: Final = ("w1", "w2")
SLOTS: Final = 6
NOTICE: Final = 2.0
"""Seconds in which the server may still give an attempt to a worker that has just died."""
REAPING: Final = 2.0
"""Seconds after the death of a worker in which all its trees are gone."""


async def torture_server(campaign: Campaign, scale: Scale) -> None:
    """SIGKILL for the server, also while it starts."""
    rng = campaign.rng
    async with campaign.proxied():
        server = await campaign.start_server()
        workers = start_workers(campaign)
        async with trio.open_nursery() as nursery:
            for _ in range(scale.cycles):
                nursery.start_soon(campaign.submit_steadily, scale.jobs)
                if rng.random() < 0.7:  # in the middle of its work, else while it starts
                    await trio.to_thread.run_sync(campaign.service.wait_until_ready, server)
                    await campaign.wait_for_workers(1)
                await trio.sleep(rng.uniform(0, 1.0))
                await campaign.kill(server, "the server")
                if rng.random() < 0.3:
                    await trio.sleep(rng.uniform(0, 0.5))
                server = campaign.launch_server()
            await trio.to_thread.run_sync(campaign.service.wait_until_ready, server)
        await reckon(campaign, server, workers)


async def torture_worker(campaign: Campaign, scale: Scale) -> None:
    """SIGKILL for a worker; its trees are gone in time, and its jobs are tried again."""
    rng = campaign.rng
    killed: list[tuple[str, float]] = []

    def may_lose(attempt: AttemptRecord) -> bool:
        end = attempt.finished_at or 0.0
        return any(
            name == attempt.worker and attempt.started_at - NOTICE < moment < end
            for name, moment in killed
        )

    campaign.may_lose = may_lose
    async with campaign.proxied():
        server = await campaign.start_server()
        workers = {name: _start_numbered(campaign, name, 0) for name in WORKERS}
        async with trio.open_nursery() as nursery:
            for cycle in range(1, scale.cycles + 1):
                nursery.start_soon(campaign.submit_steadily, scale.jobs)
                await trio.sleep(rng.uniform(0, 2.0))
                name = rng.choice(WORKERS)
                process, folder = workers[name]
                killed.append((name, time.time()))
                await campaign.kill(process, f"worker {name}")
                nursery.start_soon(_expect_no_orphans, campaign, name, folder)
                if rng.random() < 0.3:
                    await trio.sleep(rng.uniform(0, 1.0))
                workers[name] = _start_numbered(campaign, name, cycle)
        await reckon(campaign, server, {name: process for name, (process, _) in workers.items()})


def _start_numbered(
    campaign: Campaign, name: str, number: int
) -> tuple[subprocess.Popen[bytes], str]:
    """A worker, and a folder that stands in the environment of its jobs alone."""
    folder = campaign.service.folder / "work" / f"{name}-{number}"
    folder.mkdir(parents=True)
    return campaign.start_worker(name, SLOTS, "--work-dir", folder), str(folder)


async def _expect_no_orphans(campaign: Campaign, name: str, folder: str) -> None:
    await trio.sleep(REAPING)
    for pid, argv in await trio.to_thread.run_sync(list, marked_processes(f"={folder}/")):
        campaign.blame("left", f"{REAPING} s after the end of {name} process {pid} lives: {argv}")
    for path in Path(folder).rglob("*"):
        campaign.blame("left", f"{REAPING} s after the end of {name} there is {path}")


class Fault(NamedTuple):
    """What a network does for `seconds`."""

    name: str
    seconds: float


NEAR: Final = "near"
"""A worker that nothing cuts off: what is given up elsewhere is started there at once, so that two
attempts of a job would run side by side if the first one did not end in time."""
DETACH: Final = 6.0
SHORT: Final = 1.0
"""Seconds: a fault as short as this is over, and the worker has come back, long before detach."""
AFTERMATH: Final = 15.0
"""Seconds after a longer fault in which what it caused may still come out."""
FAULTS: Final = (
    "cut", "reset", "refuse", "stall", "stall up", "stall down", "half cut up", "half cut down",
    "trickle", "delay",
)  # fmt: skip


async def torture_network(campaign: Campaign, scale: Scale) -> None:
    """Cuts, stalls and worse, from 10 ms to beyond detach, for the workers and who submits jobs."""
    longer: list[tuple[float, float]] = []

    def may_lose(attempt: AttemptRecord) -> bool:
        end = attempt.finished_at or 0.0
        return attempt.worker in WORKERS and any(
            attempt.started_at < finish and start < end < finish + AFTERMATH
            for start, finish in longer
        )

    campaign.may_lose = may_lose
    # A link that stands still during the hello makes a full worker look like a baseline one, which
    # has lost its job when its connection ends. Where credentials are asked for there are none.
    options = ("--detach", f"{DETACH}s", "--heartbeat", "1s", "--no-baseline")
    async with campaign.proxied():
        server = await campaign.start_server(*options)
        workers = start_workers(campaign)
        workers[NEAR] = campaign.start_worker(NEAR, SLOTS, by_port=campaign.service.facts["port"])
        await campaign.wait_for_workers(len(workers))
        async with trio.open_nursery() as nursery:
            for _ in range(scale.cycles):
                nursery.start_soon(campaign.submit_steadily, scale.jobs)
                fault = _draw_fault(campaign.rng)
                campaign.note(f"network: {fault.name} for {fault.seconds:.3f} s")
                campaign.kills += 1
                start = time.time()
                await _break_network(campaign, fault)
                if fault.seconds > SHORT:
                    longer.append((start, time.time()))
                await campaign.wait_for_workers(len(workers))
                await trio.sleep(campaign.rng.uniform(0, 0.5))
        await reckon(campaign, server, workers)


def _draw_fault(rng: random.Random) -> Fault:
    name = rng.choice(FAULTS)
    if rng.random() < 0.7:
        return Fault(name, 0.01 * (SHORT / 0.01) ** rng.random())  # as many of 10 ms as of 1 s
    if rng.random() < 0.5:
        return Fault(name, rng.uniform(SHORT, DETACH))
    return Fault(name, rng.uniform(1.2, 2.0) * DETACH)


async def _break_network(campaign: Campaign, fault: Fault) -> None:
    proxies = (campaign.proxy, campaign.front)
    for proxy in proxies:
        ways = {"up": [proxy.up], "down": [proxy.down]}
        for lane in ways.get(fault.name.split()[-1], proxy.lanes):
            if fault.name == "trickle":
                lane.chunk = campaign.rng.randint(1, 50)
            elif fault.name == "delay":
                lane.delay = campaign.rng.uniform(0, 0.2)
            elif fault.name.startswith(("stall", "half cut")):
                lane.stall()
        proxy.refuses = fault.name in ("cut", "reset", "refuse")
        if fault.name in ("cut", "reset"):
            proxy.cut(with_reset=fault.name == "reset")
    await trio.sleep(fault.seconds)
    for proxy in proxies:
        if fault.name.startswith(("half cut", "refuse")):
            proxy.cut()
        proxy.refuses = False
        for lane in proxy.lanes:
            lane.go_on()


def start_workers(campaign: Campaign) -> dict[str, subprocess.Popen[bytes]]:
    return {name: campaign.start_worker(name, SLOTS) for name in WORKERS}


async def reckon(
    campaign: Campaign,
    server: subprocess.Popen[bytes],
    workers: dict[str, subprocess.Popen[bytes]],
) -> None:
    """Nothing is broken any more: let everything end, compare, stop, and look what is left."""
    await campaign.heal()
    await campaign.compare()
    for name, process in workers.items():
        await campaign.stop(process, f"worker {name}")
    await campaign.stop(server, "the server")
    campaign.look_for_survivors()
