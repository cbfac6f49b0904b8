"""Every kind of torture by its name, and one run of it: what the command and the tests share."""

import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import trio

from tests.commands import Service
from tests.torture.campaign import Campaign, Scale
from tests.torture.database import torture_database
from tests.torture.disk import torture_disk
from tests.torture.follow import torture_follow
from tests.torture.judge import Violation
from tests.torture.kinds import MIX, torture_network, torture_server, torture_worker
from tests.torture.nasty import torture_nasty
from tests.torture.servers import torture_servers
from tests.torture.shared import SharedCampaign


class Kind(NamedTuple):
    """What is done, which leaves everything stopped; the kinds of its jobs; how much by default."""

    act: Callable[[Campaign, Scale], Awaitable[None]]
    scale: Scale = Scale(cycles=5, jobs=10, seconds=0)
    mix: tuple[str, ...] = MIX
    campaign: type[Campaign] = Campaign


KINDS: Final = {
    "server": Kind(torture_server),
    "worker": Kind(torture_worker),
    "network": Kind(torture_network, mix=(*MIX, *["long"] * 4)),
    "disk": Kind(torture_disk),
    "follow": Kind(torture_follow, Scale(cycles=5, jobs=1, seconds=60)),
    "nasty": Kind(torture_nasty, Scale(cycles=1, jobs=200, seconds=0)),
    "servers": Kind(torture_servers, campaign=SharedCampaign),
    "database": Kind(torture_database, Scale(cycles=5, jobs=10, seconds=10), MIX, SharedCampaign),
}
COLUMNS: Final = (
    "kind", "cycles", "jobs", "kills", "lost", "doubled", "differs", "left", "wrong", "seconds",
)  # fmt: skip


def torture(kind: str, folder: Path, seed: str, scale: Scale) -> tuple[list[str], list[Violation]]:
    """One run in `folder`: the row of the table, and every violation."""
    begin = time.monotonic()
    with Service(folder) as service:
        campaign = KINDS[kind].campaign(service, random.Random(seed), KINDS[kind].mix)
        try:
            trio.run(partial(KINDS[kind].act, campaign, scale))
        finally:
            campaign.close()
    count = Counter(violation.sort for violation in campaign.violations)
    figures = (
        scale.cycles, len(campaign.submitted), campaign.kills,
        *(count[sort] for sort in ("lost", "doubled", "differs", "left", "wrong")),
    )  # fmt: skip
    seconds = f"{time.monotonic() - begin:.1f}"
    return [kind, *map(str, figures), seconds], campaign.violations
