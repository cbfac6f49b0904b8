"""The seam between attempts and the processes of a machine: what the worker asks of both.

The real ones are `process.py`'s; a simulation puts others in their place.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

from remote_runner.types import Outcome, Reason, StreamName
from simple_worker.launch import Launch, SpawnFailure
from simple_worker.results import Archive

OnOutput = Callable[[StreamName, bytes], Awaitable[None]]


class Child(Protocol):
    """A running command with its whole tree, and its scratch directory."""

    @property
    def pid(self) -> int: ...

    @property
    def results(self) -> Archive | None:
        """What it left in its results folder, once `run` has returned; the caller closes it."""
        ...

    def kill(self, reason: Reason, signal: str | None = None, grace: float | None = None) -> None:
        """Begin the kill ladder; a second call sharpens it. None: as the command says."""
        ...

    def watch(self, then: Callable[[Outcome | None], object]) -> None:
        """Have `then` called once, by the time that it is over or somebody must attend to it.

        It gets the outcome where the command ended by itself and in silence, and left nothing; then
        all is done. It gets None, perhaps before this returns, where `run` must follow.
        """
        ...

    async def run(self, on_output: OnOutput, max_chunk: int) -> Outcome:
        """Read its output until nothing of it is left. Called once; cancelled: end it all.

        It may be watched until then, and is not any more from then on.

        What is beyond the command's `max_output` is counted in the outcome, and not told.
        """
        ...


class Processes(Protocol):
    """Starts children."""

    def start(self, launch: Launch) -> Child | SpawnFailure:
        """Start a command at once; `watch` or `run` must follow without a checkpoint between."""
        ...

    def begin(self, launch: Launch, then: Callable[[Child | SpawnFailure], object]) -> bool:
        """The same, beside others: `then` gets what it has become, in their order. False: this
        machine has no room for it, nor for any other.

        `settle` must follow without a checkpoint between, but where one that was watched is over:
        it does by itself after all of these.
        """
        ...

    def settle(self) -> None:
        """Wait until all that was begun executes its command."""
        ...

    def tell_contact(self, ago: float) -> None:
        """The runner was heard of `ago` seconds ago; said each `fences.BEAT` of the shortest
        `detach` while children run. Children for which it was not said for too long are ended."""
        ...
