"""Every kind of torture by its name, and one run of it: what the command and the tests share."""

import random
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Final

import trio

from tests.commands import Service
from tests.torture.campaign import Campaign
from tests.torture.judge import Violation
from tests.torture.kinds import MIX, Kind, torture_network, torture_server, torture_worker

KINDS: Final[dict[str, tuple[Kind, tuple[str, ...]]]] = {
    "server": (torture_server, MIX),
    "worker": (torture_worker, MIX),
    "network": (torture_network, (*MIX, "long", "long")),
}
COLUMNS: Final = (
    "kind", "cycles", "jobs", "kills", "lost", "doubled", "differs", "left", "wrong", "seconds",
)  # fmt: skip


def torture(
    kind: str, folder: Path, seed: str, cycles: int, jobs: int
) -> tuple[list[str], list[Violation]]:
    """One run in `folder`: the row of the table, and every violation."""
    act, mix = KINDS[kind]
    begin = time.monotonic()
    with Service(folder) as service:
        campaign = Campaign(service, random.Random(seed), mix)
        try:
            trio.run(partial(act, campaign, cycles, jobs))
        finally:
            campaign.close()
    count = Counter(violation.sort for violation in campaign.violations)
    figures = (
        cycles, len(campaign.submitted), campaign.kills,
        *(count[sort] for sort in ("lost", "doubled", "differs", "left", "wrong")),
    )  # fmt: skip
    seconds = f"{time.monotonic() - begin:.1f}"
    return [kind, *map(str, figures), seconds], campaign.violations
