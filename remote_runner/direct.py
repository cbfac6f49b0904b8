"""`DirectRuns`: one command, from its start to its outcome, in one call and without a queue.

Owns the waiting for room and for the end. Where and how commands run is the runner's.
"""

from collections.abc import Mapping, Sequence

import trio

from remote_runner.errors import NoWorkerAvailable
from remote_runner.types import Command, JobRunner, Outcome, Output, OutputHandler, Run


def arguments(args: Sequence[str]) -> tuple[str, ...]:
    """The arguments of a command.

    Raises:
        TypeError: it is one text, or not all of it is text; it says what to write.
    """
    if isinstance(args, str | bytes):
        raise TypeError("args is a list of arguments, and not one text: write ['-l'], not '-l'")
    for arg in args:
        if not isinstance(arg, str):
            raise TypeError(f"an argument is a text: write {str(arg)!r}, not {arg!r}")
    return tuple(args)


class DirectRuns(JobRunner):
    """The part of a runner that makes it usable on its own. It says when there may be room."""

    def __init__(self) -> None:
        self._next_run = 1
        self._room = trio.lowlevel.ParkingLot()

    def _may_have_room(self) -> None:
        if self._room:
            self._room.unpark_all()

    async def run(
        self,
        command: str | Command,
        args: Sequence[str] = (),
        *,
        needs: Mapping[str, str] | None = None,
        on_output: OutputHandler | None = None,
    ) -> Outcome:
        """Run one command and wait for its outcome; waits for a free slot.

        Cancelling it kills the command's process tree; `on_output` is not called any more then.

        Raises:
            TypeError: `args` is one text, whose letters would be the arguments, or holds what is
                none.
        """
        if isinstance(command, str):
            command = Command(command, arguments(args))
        watcher = _Watcher(on_output)
        run_id = f"run-{self._next_run}"
        self._next_run += 1
        while True:
            try:
                run = self.start(run_id, command, needs or {}, watcher)
                break
            except NoWorkerAvailable:
                await self._room.park()
        try:
            await watcher.closed.wait()
        except trio.Cancelled:
            watcher.leave()
            run.kill()
            raise
        assert watcher.outcome is not None
        return watcher.outcome


class _Watcher:
    """The observer of such a run: hands output on, and keeps the outcome."""

    def __init__(self, on_output: OutputHandler | None) -> None:
        self._on_output = on_output
        self.closed = trio.Event()
        self.outcome: Outcome | None = None

    def leave(self) -> None:
        """Nobody waits for it any more."""
        self._on_output = None

    def on_started(self, run: Run, pid: int | None) -> None:
        pass

    def on_output(self, run: Run, output: Output) -> None:
        if self._on_output is not None:
            self._on_output(output)
        run.ack(output.offset + len(output.data))

    def on_result(self, run: Run, data: bytes, offset: int) -> None:
        run.ack_result(offset + len(data))  # whoever wants them keeps them with an observer

    def is_repeat(self, run: Run, output: Output) -> bool:
        return True  # it was acknowledged at once: nothing of it is kept

    def on_closed(self, run: Run, outcome: Outcome) -> None:
        self.outcome = outcome
        run.forget()
        self.closed.set()
