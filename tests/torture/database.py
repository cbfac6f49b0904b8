"""PostgreSQL is stopped, in order or at once, under load, and started again.

Meanwhile whoever asks is told so at once, with 503; afterwards all goes on by itself.
"""

import time
import urllib.error
from typing import Final

import trio

from queued_runner.fleet import BEAT, LEASE
from tests.torture.campaign import UNHEARD, Campaign, Scale
from tests.torture.kinds import start_workers
from tests.torture.shared import Peer, SharedCampaign

PROMPT: Final = 3.0
"""Seconds in which every request is answered, and all is back once the database is."""
BUSY: Final = 3.0
"""Seconds that other work on this machine may add to that."""
READS: Final = ("/api/v1/jobs?limit=10", "/api/v1/jobs/1", "/api/v1/jobs/1/logs", "/readyz")


async def torture_database(campaign: Campaign, scale: Scale) -> None:
    """Outages of a second up to so many as `scale` says."""
    assert isinstance(campaign, SharedCampaign)
    rng, postgres = campaign.rng, campaign.postgres
    campaign.may_refuse = ("503 ",)
    async with campaign.proxied():
        await campaign.start_peers()
        workers = start_workers(campaign)
        await campaign.wait_for_workers(len(workers))
        await campaign.submit("small")  # which is looked at from here on
        async with trio.open_nursery() as nursery:
            for _ in range(scale.cycles):
                nursery.start_soon(campaign.submit_steadily, scale.jobs - 2)
                nursery.start_soon(campaign.submit_and_follow, rng.choice(("slow", "flowing")))
                nursery.start_soon(campaign.submit_and_cancel, "endless")
                await trio.sleep(rng.uniform(0.2, 2.0))
                end, how = rng.choice(((postgres.stop, "stops"), (postgres.crash, "crashes")))
                seconds = rng.uniform(min(1.0, scale.seconds), scale.seconds)
                campaign.note(f"the database {how}, for {seconds:.1f} s")
                campaign.kills += 1
                await trio.to_thread.run_sync(end)
                async with trio.open_nursery() as probes:
                    for peer in campaign.peers:
                        probes.start_soon(_look, campaign, peer)
                    await trio.sleep(seconds)
                    probes.cancel_scope.cancel()
                await trio.to_thread.run_sync(postgres.start)
                campaign.note("the database is there again")
                async with trio.open_nursery() as probes:
                    for peer in campaign.peers:
                        probes.start_soon(_expect_back, campaign, peer)
        await campaign.heal()
        await campaign.compare()
        for name, process in workers.items():
            await campaign.stop(process, f"worker {name}")
    await campaign.stop_peers()
    campaign.look_for_survivors()


async def _look(campaign: SharedCampaign, peer: Peer) -> None:
    """Everything is refused, at once, while the database is away.

    A server that has nothing to write is ready until it beats.
    """
    noticed = trio.current_time() + BEAT * LEASE + 1.0
    while True:
        for path in READS:
            status = await _status(campaign, peer, path)
            is_early = path == "/readyz" and trio.current_time() < noticed
            if status not in ((200, 503, None) if is_early else (503, None)):
                campaign.blame("wrong", f"{path} at {peer.name} is answered with {status}")
        await trio.sleep(0.2)


async def _expect_back(campaign: SharedCampaign, peer: Peer) -> None:
    """Everything is answered again, in time."""
    begin = time.monotonic()
    for path in READS:
        with trio.move_on_after(10 * PROMPT):
            while await _status(campaign, peer, path) != 200:
                await trio.sleep(0.05)
    took = time.monotonic() - begin
    campaign.note(f"server {peer.name} is back after {took:.2f} s")
    if took > PROMPT + BUSY:
        campaign.blame("wrong", f"{took:.1f} s after the database {peer.name} is back")


async def _status(campaign: SharedCampaign, peer: Peer, path: str) -> int | None:
    """What a request is answered with; None where nobody answers."""
    begin = time.monotonic()
    status: int | None = None
    try:
        await campaign.ask_one(peer, path)
        status = 200
    except urllib.error.HTTPError as error:
        status = error.code
        if status == 503 and "Retry-After" not in error.headers and path != "/readyz":
            campaign.blame("wrong", f"no Retry-After with 503 for {path}")
        error.close()
    except UNHEARD as error:
        campaign.blame("wrong", f"{peer.name} does not answer: {error!r}")
    took = time.monotonic() - begin
    if took > PROMPT + BUSY:
        campaign.blame("wrong", f"{path} at {peer.name} takes {took:.1f} s: {status}")
    return status
