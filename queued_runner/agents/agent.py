"""Who pulls jobs, and how people see it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from queued_runner.agents.run import AgentRun
from remote_runner.types import WorkerInfo

PREFIX: Final = "agent:"
"""How the ids begin under which claims name agents."""
ANONYMOUS: Final = "agent"
"""The name of all agents that do not say who they are: those of the ancestor."""


@dataclass(frozen=True, slots=True)
class Agent:
    """Who pulls. Only ours say anything of this; those send heartbeats too.

    `boot` names the process, `held` the tasks that it has: whatever else it was given is not there.
    """

    id: str | None = None
    boot: str = ""
    held: frozenset[int] = frozenset()
    name: str = ANONYMOUS
    slots: int = 1
    labels: Mapping[str, str] = field(default_factory=dict)
    address: str = ""

    @property
    def worker_id(self) -> str:
        """What claims call it."""
        return f"{PREFIX}{self.id or ''}"


def shown(agent: Agent, runs: Sequence[AgentRun], *, is_drained: bool) -> WorkerInfo:
    """An agent as one of the workers, with what it runs."""
    slots = agent.slots if agent.id is not None else len(runs) + 1  # it does not say how many
    return WorkerInfo(
        id=agent.worker_id,
        name=agent.name,
        state="ready" if not is_drained else "draining" if runs else "drained",
        slots=slots,
        free=0 if is_drained else max(0, slots - len(runs)),
        labels=agent.labels,
        version="",
        address=agent.address,
        running=tuple(sorted(run.id for run in runs)),
        widest=1,
    )
