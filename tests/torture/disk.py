"""The server's disk is full at random moments, and has room again later.

The disk is a small tmpfs, which only this process and its children see.
"""

import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Final

import trio

from tests.torture.campaign import Campaign, Scale
from tests.torture.kinds import reckon, start_workers

PRIVATELY: Final = ("unshare", "--map-root-user", "--mount")
"""Before a command that mounts something: it is gone with it."""
MOUNT: Final = ("mount", "-t", "tmpfs", "none")
LEFT: Final = (0, 0, 4096, 65536, 500_000)
"""Bytes that a full disk has left; a few kibibytes are a trap of their own."""
RECOVERY: Final = 15.0
"""Seconds after which a server whose disk has room again takes jobs again."""


def can_mount() -> bool:
    """Whether this user may have a disk of its own, for `python -m tests.torture disk`."""
    if shutil.which("unshare") is None or shutil.which("mount") is None:
        return False
    return not subprocess.run([*PRIVATELY, *MOUNT, "/tmp"], capture_output=True).returncode


async def torture_disk(campaign: Campaign, scale: Scale) -> None:
    """Fill it, wait, and free it again."""
    rng, disk = campaign.rng, campaign.service.data_dir
    campaign.may_refuse = ("507 ",)
    disk.mkdir()
    size = 24 * 2**20 + scale.cycles * scale.jobs * 60_000
    await trio.run_process([*MOUNT, "-o", f"size={size}", str(disk)])
    async with campaign.proxied():
        server = await campaign.start_server()
        workers = start_workers(campaign)
        async with trio.open_nursery() as nursery:
            for _ in range(scale.cycles):
                nursery.start_soon(campaign.submit_steadily, scale.jobs)
                await trio.sleep(rng.uniform(0, 1.5))
                left = rng.choice(LEFT)
                campaign.note(f"the disk is full, but for {left} bytes")
                campaign.kills += 1
                _fill(disk, left)
                await trio.sleep(rng.uniform(0.2, 2.0))
                if server.poll() is not None:
                    campaign.blame("wrong", f"its disk full, the server exits: {server.returncode}")
                elif rng.random() < 0.2:
                    await campaign.kill(server, "the server, its disk full")
                _free(disk)
                campaign.note("the disk has room again")
                if server.poll() is not None:
                    server = await campaign.start_server()
                await _expect_recovery(campaign)
        if server.poll() is not None:
            server = await campaign.start_server()
        await reckon(campaign, server, workers)


def _fill(disk: Path, left: int) -> None:
    """Take all room but `left` bytes."""
    with (disk / "ballast").open("wb") as file:
        facts = os.fstatvfs(file.fileno())
        size = facts.f_bavail * facts.f_frsize - left
        while size > 0:
            with suppress(OSError):  # the server was quicker: take less
                os.posix_fallocate(file.fileno(), 0, size)
                return
            size -= facts.f_frsize


def _free(disk: Path) -> None:
    (disk / "ballast").unlink()


async def _expect_recovery(campaign: Campaign) -> None:
    with trio.move_on_after(RECOVERY) as patience:
        await campaign.submit("small")
    if patience.cancelled_caught:
        campaign.blame("wrong", f"no job is taken {RECOVERY} s after the disk has room again")
