"""The contract of `JobRunner` as tests: a plug that passes them may run the jobs of the queue.

Subclass `JobRunnerConformance` in a test module, give it a fixture `runner_factory`, and pytest
(with pytest-trio) does the rest. docs/plugs.md says the same in words. The commands are those of
any POSIX system; how long anything takes is not looked at, but for `patience`, after which a test
fails. What a plug leaves behind on this machine is ended with the test.
"""

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import ClassVar

import pytest
import trio

from queued_runner.testing.marked import Marked
from queued_runner.testing.recorder import Recorder, RecordingHost
from queued_runner.testing.service import is_alive
from remote_runner.errors import DuplicateRun, NoWorkerAvailable
from remote_runner.types import (
    CAN_MASK,
    Command,
    Host,
    JobRunner,
    Offer,
    Outcome,
    Reason,
    Run,
    Slot,
)

DYING = 2.0
"""Seconds that the kernel may need to take away a process that SIGKILL has reached."""

FLOOD = 100 * 1024 * 1024
"""Bytes that a command has to say while nobody acknowledges any."""
UNACKNOWLEDGED = 64 * 1024 * 1024
"""Bytes of a run that a plug may hand on, at most, while nobody acknowledges any."""
QUIET = 0.5
"""Seconds without output that show a flood to be waiting: it fills a pipe in a millisecond."""

RunnerFactory = Callable[[Host], AbstractAsyncContextManager[JobRunner]]
"""Makes a new runner and has it opened with this host, and ready, while it is entered."""

NEVER_BEGAN = (Reason.REFUSED, Reason.GIVEN_BACK)
"""Outcomes of what was not started after all: whoever asked starts it again, here or elsewhere."""


def shell(script: str, **options: object) -> Command:
    """A command of the POSIX shell."""
    return Command("sh", ("-c", script), **options)  # type: ignore[arg-type]


class Opened:
    """A runner that is open, its host, and ways to use it."""

    def __init__(
        self, runner: JobRunner, host: RecordingHost, marked: Marked, scope: trio.CancelScope
    ) -> None:
        self.runner = runner
        self.host = host
        self.scope = scope
        """What cancels the runner, and all that is done with it."""
        self._marked = marked
        self._runs = 0

    def start(
        self, command: Command, seen: Recorder, *, run_id: str | None = None, at: Slot | None = None
    ) -> Run:
        """Start a run, at a slot or at any."""
        if run_id is None:
            self._runs += 1
            run_id = f"{self._runs}.1"
        command = replace(command, env={**command.env, **self._marked.env})
        return self.runner.start(run_id, command, {}, seen, at.worker_id if at else None)

    async def run(self, command: Command) -> tuple[Outcome, Recorder]:
        """A run from its start to its outcome, as soon as there is room."""
        while True:
            seen = Recorder()
            await self.room()
            self.start(command, seen, at=self.slots()[0])
            outcome = await seen.end()
            if outcome.reason not in NEVER_BEGAN:
                return outcome, seen
            assert (seen.started, seen.outputs) == ([], []), "what ran is not given back"

    def offers(self, limit: int = 1000) -> list[Offer]:
        """The room there is, checked for what is promised of offers."""
        offers = list(self.runner.offers(limit))
        labels = [tuple(sorted(offer.labels.items())) for offer in offers]
        assert len(set(labels)) == len(labels), "one offer for each set of labels"
        assert all(len(offer.slots) <= limit for offer in offers), "at most `limit` slots an offer"
        return offers

    def slots(self) -> list[Slot]:
        """All free slots, whatever their labels."""
        return [slot for offer in self.offers() for slot in offer.slots]

    async def room(self, slots: int = 1) -> None:
        """Wait until there are this many free slots; `on_capacity` tells when to look again."""
        while True:
            seen = self.host.capacities
            if len(self.slots()) >= slots:
                return
            await self.host.next_capacity(seen)


class JobRunnerConformance:
    """Every promise of a `JobRunner`, a test each.

    The fixture `runner_factory` makes runners without labels, with two slots at least, on which
    nothing else runs. What cannot be so is said by the attributes below.
    """

    shares_this_machine: ClassVar[bool] = True
    """Whether its processes are those of this machine, so that one can see that they are gone."""
    runs_go_on: ClassVar[bool] = False
    """Whether runs go on elsewhere when the runner is left, without a word about their end."""
    patience: ClassVar[float] = 10.0
    """Seconds that a test may take; none needs more than one where a process starts at once."""

    @pytest.fixture
    def runner_factory(self) -> RunnerFactory:
        raise NotImplementedError("give the class a fixture `runner_factory`; see docs/plugs.md")

    @asynccontextmanager
    async def _opened(self, factory: RunnerFactory) -> AsyncIterator[Opened]:
        host = RecordingHost()
        marked = Marked()
        # A thread, and a little later: a plug may be stuck in a shield, or block the event loop,
        # until what it has left running ends.
        rescue = threading.Timer(self.patience + DYING, marked.end)
        rescue.daemon = True
        rescue.start()
        try:
            with trio.move_on_after(self.patience) as scope:
                async with factory(host) as runner:
                    opened = Opened(runner, host, marked, scope)
                    await opened.room(2)
                    yield opened
            assert trio.current_time() < scope.deadline, (
                f"not over after {self.patience:g} s; processes left: {marked.ended}"
            )
            if not self.runs_go_on:
                await self._see_none(marked.pids)
        finally:
            rescue.cancel()
            marked.end()

    async def _see_none(self, pids: Callable[[], list[int]]) -> None:
        """Wait until these processes are gone, which have ended."""
        with trio.move_on_after(DYING):
            # Nothing announces the end of a process that is not our child.
            while pids():  # noqa: ASYNC110
                await trio.sleep(0.01)
        assert pids() == [], "processes of a run that has ended"

    async def _see_gone(self, seen: Recorder) -> None:
        """None of the processes whose numbers a command has printed may be there any more."""
        if self.shares_this_machine:
            pids = [int(pid) for pid in seen.text("stdout").split()]
            await self._see_none(lambda: [pid for pid in pids if is_alive(pid)])

    # --- how a command ends ---

    @pytest.mark.parametrize("code", [0, 1, 7, 255])
    @pytest.mark.trio
    async def test_the_exit_code_is_the_commands(
        self, runner_factory: RunnerFactory, code: int
    ) -> None:
        async with self._opened(runner_factory) as opened:
            outcome, seen = await opened.run(shell(f"exit {code}"))
        assert (outcome.reason, outcome.exit_code, outcome.signal) == (Reason.EXIT, code, None)
        assert outcome.is_success == (code == 0)
        assert [run_id for run_id, _ in seen.started] == ["1.1"]

    @pytest.mark.trio
    async def test_a_signal_is_named(self, runner_factory: RunnerFactory) -> None:
        async with self._opened(runner_factory) as opened:
            outcome, _ = await opened.run(shell("kill -KILL $$"))
        assert (outcome.reason, outcome.signal) == (Reason.SIGNAL, "SIGKILL")
        assert outcome.exit_code is None

    @pytest.mark.parametrize(
        ("command", "code"),
        [
            (Command("/no/such/command"), 127),
            (Command("no-such-command-anywhere"), 127),
            (Command("/"), 126),
            (Command("true", cwd="/no/such/directory"), 126),
        ],
    )
    @pytest.mark.trio
    async def test_a_command_that_cannot_start_says_so_in_a_line(
        self, runner_factory: RunnerFactory, command: Command, code: int
    ) -> None:
        async with self._opened(runner_factory) as opened:
            outcome, seen = await opened.run(command)
        assert (outcome.reason, outcome.exit_code) == (Reason.SPAWN_ERROR, code)
        said = seen.text("stderr")
        assert said.count("\n") == 1
        assert said.endswith("\n")
        assert seen.text("stdout") == ""

    @pytest.mark.trio
    async def test_a_timeout_ends_the_command(self, runner_factory: RunnerFactory) -> None:
        async with self._opened(runner_factory) as opened:
            outcome, seen = await opened.run(shell("echo in; sleep 1000", timeout=0.5))
        assert outcome.reason is Reason.TIMEOUT
        assert seen.text("stdout") in ("in\n", "")  # a machine may need the time to start it

    # --- what shapes a process ---

    @pytest.mark.trio
    async def test_arguments_environment_directory_and_shell(
        self, runner_factory: RunnerFactory
    ) -> None:
        async with self._opened(runner_factory) as opened:
            script = 'printf "[%s]" "$@" "$A" "$PWD"'
            arguments = ("-c", script, "sh", "", "two words", "$HOME", "*", "é")
            _, seen = await opened.run(Command("sh", arguments, env={"A": "a\nb"}, cwd="/"))
            assert seen.text("stdout") == "[][two words][$HOME][*][é][a\nb][/]"
            _, seen = await opened.run(Command("echo $A; echo b", shell=True, env={"A": "a"}))
            assert seen.text("stdout") == "a\nb\n"

    @pytest.mark.parametrize("size", [None, 0, 5, 300_000])
    @pytest.mark.trio
    async def test_the_input_arrives_and_ends(
        self, runner_factory: RunnerFactory, size: int | None
    ) -> None:
        given = None if size is None else bytes(number % 251 for number in range(size))
        async with self._opened(runner_factory) as opened:
            outcome, seen = await opened.run(Command("cat", stdin=given))
        assert outcome.is_success
        assert seen.data == (given or b"")

    # --- output ---

    @pytest.mark.trio
    async def test_both_streams_arrive_in_order_and_byte_for_byte(
        self, runner_factory: RunnerFactory
    ) -> None:
        script = "printf '\\303'; printf 'e\\377' >&2; printf '\\251\\000\\r\\n'; exit 3"
        async with self._opened(runner_factory) as opened:
            outcome, seen = await opened.run(shell(script))
        by_stream = {
            stream: b"".join(item.data for item in seen.outputs if item.stream == stream)
            for stream in ("stdout", "stderr")
        }
        assert by_stream == {"stdout": b"\xc3\xa9\x00\r\n", "stderr": b"e\xff"}
        assert outcome.output_bytes == 7 == seen.size
        assert outcome.exit_code == 3

    @pytest.mark.trio
    async def test_output_arrives_while_the_command_runs(
        self, runner_factory: RunnerFactory
    ) -> None:
        async with self._opened(runner_factory) as opened:
            seen = Recorder()
            run = opened.start(shell("echo one; sleep 1000"), seen)
            await seen.until(b"one\n")
            assert not seen.closed.is_set()
            run.kill()
            await seen.end()

    @pytest.mark.trio
    async def test_large_output_is_complete(self, runner_factory: RunnerFactory) -> None:
        size = 5_000_000  # more than a runner may keep without an acknowledgement
        async with self._opened(runner_factory) as opened:
            outcome, seen = await opened.run(
                shell(f"head -c {size} /dev/zero; head -c 10 /dev/zero >&2")
            )
        assert outcome.is_success
        assert outcome.output_bytes == size + 10
        assert seen.data == bytes(size + 10)

    @pytest.mark.trio
    async def test_a_small_output_needs_no_acknowledgement(
        self, runner_factory: RunnerFactory
    ) -> None:
        """The queue acknowledges it with the outcome: both are durable in one commit."""
        async with self._opened(runner_factory) as opened:
            seen = Recorder(acks=False)
            run = opened.start(shell("head -c 65536 /dev/zero"), seen)
            assert (await seen.end()).is_success
            assert seen.size == 65536
            run.ack(65536)
            run.forget()

    @pytest.mark.trio
    async def test_output_that_nobody_acknowledges_makes_the_command_wait(
        self, runner_factory: RunnerFactory
    ) -> None:
        async with self._opened(runner_factory) as opened:
            seen = Recorder(acks=False)
            run = opened.start(shell(f"head -c {FLOOD} /dev/zero"), seen)
            await seen.more_than(65535)  # so much may go without an acknowledgement
            waits = False
            while not waits:
                with trio.move_on_after(QUIET) as quiet:
                    await seen.more_than(seen.size)
                waits = quiet.cancelled_caught
                assert seen.size <= UNACKNOWLEDGED, "unacknowledged output has a bound"
            assert seen.outcome is None, "a command with output left to say has not ended"
            seen.acks = True
            run.ack(seen.size)
            await seen.more_than(seen.size)
            run.kill()
            assert (await seen.end()).reason is Reason.KILLED

    @pytest.mark.trio
    async def test_what_is_above_the_limit_is_counted_and_dropped(
        self, runner_factory: RunnerFactory
    ) -> None:
        async with self._opened(runner_factory) as opened:
            outcome, seen = await opened.run(
                shell("head -c 100000 /dev/zero; exit 4", max_output=1000)
            )
        assert outcome.exit_code == 4
        assert seen.data == bytes(1000)
        assert outcome.output_bytes == 100_000

    # --- killing ---

    @pytest.mark.trio
    async def test_kill_sends_the_commands_signal_first(
        self, runner_factory: RunnerFactory
    ) -> None:
        script = "trap 'echo told; exit 9' USR1; echo in; while :; do sleep 0.05; done"
        async with self._opened(runner_factory) as opened:
            seen = Recorder()
            run = opened.start(shell(script, kill_signal="SIGUSR1"), seen)
            await seen.until(b"in\n")
            run.kill()
            outcome = await seen.end()
        assert seen.text("stdout") == "in\ntold\n"
        assert (outcome.reason, outcome.exit_code) == (Reason.KILLED, 9)

    @pytest.mark.trio
    async def test_kill_may_name_another_signal_and_ends_what_ignores_it(
        self, runner_factory: RunnerFactory
    ) -> None:
        script = "trap '' TERM; trap 'echo told' USR2; echo in; while :; do sleep 0.05; done"
        async with self._opened(runner_factory) as opened:
            seen = Recorder()
            run = opened.start(shell(script, kill_grace=1000.0), seen)
            await seen.until(b"in\n")
            run.kill("SIGUSR2", 0.5)
            outcome = await seen.end()
        assert (outcome.reason, outcome.signal) == (Reason.KILLED, "SIGKILL")
        assert outcome.exit_code is None

    @pytest.mark.parametrize(
        ("signal", "grace", "end"), [(None, 0.1, (None, "SIGKILL")), ("SIGUSR2", None, (9, None))]
    )
    @pytest.mark.trio
    async def test_another_kill_need_not_wait_for_the_first(
        self,
        runner_factory: RunnerFactory,
        signal: str | None,
        grace: float | None,
        end: tuple[int | None, str | None],
    ) -> None:
        script = "trap '' TERM; trap 'exit 9' USR2; echo in; while :; do sleep 0.05; done"
        async with self._opened(runner_factory) as opened:
            seen = Recorder()
            run = opened.start(shell(script, kill_grace=1000.0), seen)
            await seen.until(b"in\n")
            run.kill()
            await trio.sleep(0.05)
            run.kill(signal, grace)
            outcome = await seen.end()
        assert (outcome.reason, outcome.exit_code, outcome.signal) == (Reason.KILLED, *end)

    @pytest.mark.trio
    async def test_what_a_command_leaves_behind_ends_with_it(
        self, runner_factory: RunnerFactory
    ) -> None:
        async with self._opened(runner_factory) as opened:
            outcome, seen = await opened.run(shell("sleep 1000 >/dev/null 2>&1 & echo $!; exit 4"))
            assert outcome.exit_code == 4
            await self._see_gone(seen)

    @pytest.mark.trio
    async def test_kill_ends_the_whole_tree(self, runner_factory: RunnerFactory) -> None:
        script = "sleep 1000 & first=$!; sh -c 'sleep 1000 & echo $!; wait' & echo $first $$; wait"
        async with self._opened(runner_factory) as opened:
            seen = Recorder()
            run = opened.start(shell(script), seen)
            while len(seen.text("stdout").split()) < 3:
                await seen.until(b"\n")
                await trio.sleep(0.01)
            run.kill()
            outcome = await seen.end()
            assert outcome.reason is Reason.KILLED
            await self._see_gone(seen)

    @pytest.mark.trio
    async def test_kill_may_come_at_any_time_and_again(self, runner_factory: RunnerFactory) -> None:
        async with self._opened(runner_factory) as opened:
            seen = Recorder()
            run = opened.start(shell("sleep 1000"), seen)
            run.kill()  # nothing has been heard of it yet
            run.kill()
            assert (await seen.end()).reason is Reason.KILLED
            run.kill()  # it has ended, and is forgotten
            late = Recorder(acks=False)
            await opened.room()
            run = opened.start(shell("true"), late)
            assert (await late.end()).is_success
            run.kill()  # it has ended, and is not
            run.forget()

    # --- ids, places and room ---

    @pytest.mark.trio
    async def test_start_returns_before_anything_is_told(
        self, runner_factory: RunnerFactory
    ) -> None:
        async with self._opened(runner_factory) as opened:
            for command in (shell("true"), Command("/no/such/command")):
                seen = Recorder()
                await opened.room()
                run = opened.start(command, seen)
                assert (seen.started, seen.outputs, seen.outcome) == ([], [], None)
                assert run.id in {name for info in opened.runner.workers() for name in info.running}
                await seen.end()

    @pytest.mark.trio
    async def test_an_id_is_free_again_once_its_run_is_forgotten(
        self, runner_factory: RunnerFactory
    ) -> None:
        async with self._opened(runner_factory) as opened:
            seen = Recorder(acks=False)
            run = opened.start(shell("true"), seen, run_id="5.1")
            with pytest.raises(DuplicateRun):
                opened.start(shell("true"), Recorder(), run_id="5.1")
            await seen.end()
            await opened.room()
            with pytest.raises(DuplicateRun):
                opened.start(shell("true"), Recorder(), run_id="5.1")
            run.forget()
            again = Recorder()
            opened.start(shell("exit 6"), again, run_id="5.1")
            assert (await again.end()).exit_code == 6

    @pytest.mark.trio
    async def test_labels_and_workers_that_there_are_not(
        self, runner_factory: RunnerFactory
    ) -> None:
        async with self._opened(runner_factory) as opened:
            with pytest.raises(NoWorkerAvailable):
                opened.runner.start("1.1", shell("true"), {"no": "such label"}, Recorder())
            with pytest.raises(NoWorkerAvailable):
                opened.runner.start("1.1", shell("true"), {}, Recorder(), "no-such-worker")
            outcome, _ = await opened.run(shell("true"))  # the id is free still
            assert outcome.is_success

    @pytest.mark.trio
    async def test_a_worker_is_ready_before_it_offers_slots(
        self, runner_factory: RunnerFactory
    ) -> None:
        """So that the queue knows what an earlier program left behind, before it sends more."""
        async with self._opened(runner_factory) as opened:
            ready = {(worker_id, boot) for worker_id, boot, _ in opened.host.ready}
            assert {(slot.worker_id, slot.boot) for slot in opened.slots()} <= ready
            assert all(held == frozenset() for _, _, held in opened.host.ready)
            known = {(info.id, info.name) for info in opened.runner.workers()}
            assert {(slot.worker_id, slot.worker) for slot in opened.slots()} <= known

    @pytest.mark.trio
    async def test_slots_are_taken_and_become_free(self, runner_factory: RunnerFactory) -> None:
        async with self._opened(runner_factory) as opened:
            assert all(len(offer.slots) <= 1 for offer in opened.offers(1))
            free = opened.slots()
            runs = []
            for slot in free:
                seen = Recorder()
                run = opened.start(shell("echo in; sleep 1000"), seen, at=slot)
                assert (run.worker, run.worker_id) == (slot.worker, slot.worker_id)
                runs.append((run, seen))
            for _, seen in runs:
                await seen.until(b"in\n")
            assert opened.slots() == []
            with pytest.raises(NoWorkerAvailable):
                opened.start(shell("true"), Recorder())
            workers = opened.runner.workers()
            assert sum(info.free for info in workers) == 0
            running = sorted(name for info in workers for name in info.running)
            assert running == sorted(run.id for run, _ in runs)
            first, seen = runs[0]
            told = opened.host.capacities
            first.kill()
            await seen.end()
            await opened.host.next_capacity(told)
            await opened.room()
            for run, _ in runs[1:]:
                run.kill()
            for _, seen in runs:
                await seen.end()
            await opened.room(len(free))

    @pytest.mark.trio
    async def test_many_runs_at_once(self, runner_factory: RunnerFactory) -> None:
        async with self._opened(runner_factory) as opened, trio.open_nursery() as nursery:

            async def run(number: int) -> None:
                script = f"echo {number}; echo {number} >&2; exit {number}"
                outcome, seen = await opened.run(shell(script))
                assert (outcome.reason, outcome.exit_code) == (Reason.EXIT, number)
                assert seen.text("stdout") == seen.text("stderr") == f"{number}\n"

            for number in range(100):
                nursery.start_soon(run, number)

    @pytest.mark.trio
    async def test_a_drained_worker_gets_nothing_new(self, runner_factory: RunnerFactory) -> None:
        async with self._opened(runner_factory) as opened:
            free = opened.slots()
            seen = Recorder()
            run = opened.start(shell("echo in; sleep 1000"), seen, at=free[0])
            await seen.until(b"in\n")
            workers = {slot.worker_id for slot in free}
            for worker_id in (*workers, "no-such-worker"):
                opened.runner.drain(worker_id)
            assert opened.slots() == [], "a drained worker offers nothing"
            for at in (None, *free):
                with pytest.raises(NoWorkerAvailable):
                    opened.start(shell("true"), Recorder(), at=at)
            assert seen.outcome is None, "what runs at a drained worker goes on"
            run.kill()
            await seen.end()
            assert opened.slots() == []
            told = opened.host.capacities
            for worker_id in (*workers, "no-such-worker"):
                opened.runner.resume(worker_id)
            if not opened.slots():
                await opened.host.next_capacity(told)
            await opened.room(len(free))

    @pytest.mark.trio
    async def test_a_run_of_several_slots_takes_as_many(
        self, runner_factory: RunnerFactory
    ) -> None:
        async with self._opened(runner_factory) as opened:
            wide = [slot for slot in opened.slots() if slot.of > 1]
            for slot in dict.fromkeys(wide):
                assert slot.free <= slot.of, "no more are free than there are"
                if slot.free < 2:
                    continue
                with pytest.raises(NoWorkerAvailable):
                    opened.start(shell("true", slots=slot.free + 1), Recorder(), at=slot)
                seen = Recorder()
                run = opened.start(shell("sleep 1000", slots=slot.free), seen, at=slot)
                workers = {info.id: info for info in opened.runner.workers()}
                assert workers[slot.worker_id].free == 0
                with pytest.raises(NoWorkerAvailable):
                    opened.start(shell("true"), Recorder(), at=slot)
                run.kill()
                await seen.end()
                await opened.room(slot.free)

    # --- secrets ---

    @pytest.mark.trio
    async def test_who_offers_to_hide_secrets_does(self, runner_factory: RunnerFactory) -> None:
        secret = "correct-horse-battery"
        script = 'printf "<%s>" "$S"; printf "<%s>" "$S" >&2; printf "<correct-"; sleep 0.1; '
        command = shell(script + 'printf "horse-battery>"', env={"S": secret}, mask=(secret,))
        async with self._opened(runner_factory) as opened:
            known = {info.id: info.can_mask for info in opened.runner.workers()}
            offered = {
                slot.worker_id: (CAN_MASK in offer.labels, slot)
                for offer in opened.offers()
                for slot in offer.slots
            }
            for worker_id, (can_mask, slot) in offered.items():
                assert known[worker_id] == can_mask, "`can_mask` says what the offers say"
                if not can_mask:
                    continue
                seen = Recorder()
                opened.start(command, seen, at=slot)
                outcome = await seen.end()
                assert secret not in seen.text("stdout") + seen.text("stderr"), "a secret shows"
                assert (seen.text("stdout"), seen.text("stderr")) == ("<***><***>", "<***>")
                assert outcome.output_bytes == seen.size, "sizes are those of what is left"

    # --- life ---

    @pytest.mark.trio
    async def test_there_is_no_room_when_it_is_left(self, runner_factory: RunnerFactory) -> None:
        async with self._opened(runner_factory) as opened:
            pass
        assert opened.offers() == []
        with pytest.raises(NoWorkerAvailable):
            opened.start(shell("true"), Recorder())

    @pytest.mark.trio
    async def test_leaving_does_not_wait_for_runs(self, runner_factory: RunnerFactory) -> None:
        seen = Recorder()
        async with self._opened(runner_factory) as opened:
            opened.start(shell("echo $$; sleep 1000"), seen)
            await seen.until(b"\n")
            told = opened.host.capacities
        assert opened.host.capacities == told, "nobody is asked to look while it leaves"
        if self.runs_go_on:
            assert seen.outcome is None
            return
        assert seen.outcome is not None
        assert seen.outcome.reason is Reason.STOPPED
        await self._see_gone(seen)

    @pytest.mark.trio
    async def test_it_can_be_cancelled(self, runner_factory: RunnerFactory) -> None:
        seen = Recorder()
        async with self._opened(runner_factory) as opened:
            opened.start(shell("echo $$; sleep 1000"), seen)
            await seen.until(b"\n")
            opened.scope.cancel()
            await trio.lowlevel.checkpoint()
        assert opened.offers() == []
        assert (seen.outcome is None) == self.runs_go_on
