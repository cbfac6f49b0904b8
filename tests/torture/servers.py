"""Of two servers of one queue a random one is killed, or both are, or one stands still for a while.

Whatever is submitted, cancelled and followed through one may run at the other.
"""

from typing import Final

import trio

from queued_runner.fleet import LEASE
from tests.torture.campaign import Campaign, Scale
from tests.torture.kinds import start_workers
from tests.torture.shared import Peer, SharedCampaign

RARELY: Final = 0.04
"""Share of the cycles in which one is away, or stands still, for longer than its lease."""


async def torture_servers(campaign: Campaign, scale: Scale) -> None:
    """SIGKILL and SIGSTOP for either server, also while it starts."""
    assert isinstance(campaign, SharedCampaign)
    rng = campaign.rng
    campaign.may_refuse = ("503 ",)  # one that stood still learns that it has been buried
    async with campaign.proxied():
        await campaign.start_peers()
        workers = start_workers(campaign)
        await campaign.wait_for_workers(len(workers))
        async with trio.open_nursery() as nursery:
            for _ in range(scale.cycles):
                nursery.start_soon(campaign.submit_steadily, scale.jobs - 2)
                nursery.start_soon(campaign.submit_and_follow, rng.choice(("slow", "flowing")))
                nursery.start_soon(campaign.submit_and_cancel, "endless")
                if rng.random() < 0.7:  # in the middle of its work, else while it starts
                    await campaign.wait_for_workers(1)
                await trio.sleep(rng.uniform(0, 1.0))
                await rng.choices((_kill_one, _kill_both, _freeze_one), (7, 2, 1))[0](campaign)
        for peer in campaign.peers:
            await trio.to_thread.run_sync(peer.wait_until_ready)
        await campaign.heal()
        await campaign.compare()
        for name, process in workers.items():
            await campaign.stop(process, f"worker {name}")
    await campaign.stop_peers()
    campaign.look_for_survivors()


async def _kill_one(campaign: SharedCampaign) -> None:
    """It comes back at once, or soon, or after the others have buried it."""
    peer = campaign.rng.choice(campaign.peers)
    await _kill(campaign, peer)
    await _pause(campaign, 0.5)
    _launch(campaign, peer)


async def _kill_both(campaign: SharedCampaign) -> None:
    """Nobody is there for a while."""
    first, second = campaign.rng.sample(campaign.peers, 2)
    await _kill(campaign, first)
    await trio.sleep(campaign.rng.uniform(0, 0.5))
    await _kill(campaign, second)
    await _pause(campaign, 0.5)
    _launch(campaign, first)
    await trio.sleep(campaign.rng.uniform(0, 0.5))
    _launch(campaign, second)


async def _freeze_one(campaign: SharedCampaign) -> None:
    """It stands still, and goes on as if nothing had been; others may have what it had."""
    peer = campaign.rng.choice(campaign.peers)
    assert peer.process is not None
    campaign.note(f"server {peer.name} stands still")
    campaign.kills += 1
    peer.freeze()
    await _pause(campaign, 8.0)
    campaign.note(f"server {peer.name} goes on")
    peer.thaw()


async def _kill(campaign: SharedCampaign, peer: Peer) -> None:
    campaign.note(f"SIGKILL for server {peer.name}")
    campaign.kills += 1
    await trio.to_thread.run_sync(peer.kill)


def _launch(campaign: SharedCampaign, peer: Peer) -> None:
    campaign.note(f"server {peer.name} starts")
    peer.launch()


async def _pause(campaign: SharedCampaign, longest: float) -> None:
    rng = campaign.rng
    if rng.random() < RARELY:
        await trio.sleep(LEASE * rng.uniform(1.1, 1.3))
    elif rng.random() < 0.5:
        await trio.sleep(rng.uniform(0, longest))
