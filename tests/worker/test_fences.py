"""The reaper as the second fence: it ends the jobs of a worker that stands still, and no others."""

import os
import signal
import subprocess
import sys
from contextlib import ExitStack, suppress
from unittest import mock

import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st

from simple_worker.brand import NONE
from simple_worker.fences import BEAT, REAPED, Fences, clock
from simple_worker.reaper import Knowledge
from simple_worker.reaper_link import ReaperLink, opened_reaper
from tests.commands import ROOT, is_alive
from tests.worker.real import PATIENCE, pids_in, until

# --- the rule ---

names = st.sampled_from("abc")
seconds = st.floats(0, 20)


@given(st.lists(st.one_of(
    st.tuples(st.just("add"), names, seconds),
    st.tuples(st.just("remove"), names, st.none()),
    st.tuples(st.just("extend"), st.floats(0, 100), st.none()),
    st.tuples(st.just("look"), st.floats(0, 100), st.none()),
)))  # fmt: skip
def test_a_fence_passes_when_so_many_seconds_have_passed_since_the_last_contact(script):
    fences, plain, contact = Fences(), {}, None
    for act, first, second in script:
        if act == "add":
            fences.add(first, second)
            plain[first] = second
        elif act == "remove":
            fences.remove(first)
            plain.pop(first, None)
        elif act == "extend":
            fences.extend(first)
            contact = first if contact is None else max(contact, first)
        elif contact is None:
            assert fences.passed(first) == []
        else:
            passed = {name for name, fence in plain.items() if first >= contact + fence}
            assert set(fences.passed(first)) == passed
            assert passed == {name for name in plain if fences.has_passed(name, first)}
            assert not passed or first >= fences.due


# --- both sides ---


class Pair:
    """A link and a reaper that ends nothing but names, on one clock and one pipe at a time."""

    def __init__(self):
        self.now = 1000.0
        self.lag = 0.0
        """Seconds that go by each time the worker looks at the clock."""
        self.link = ReaperLink()
        self.ended = set()
        self.detach = {}
        self._seen = None
        self._pipes = []
        self.replace()

    def clock(self):
        self.now += self.lag
        return self.now

    def close(self):
        for pipe in self._pipes:
            os.close(pipe)

    def replace(self):
        """The reaper has died, and there is another."""
        self.link.disconnect()
        self.close()
        self._pipes = list(os.pipe())
        os.set_blocking(self._pipes[0], False)
        self._knowledge, self._seen = Knowledge(NONE), None
        self.link.connect(1, self._pipes[1])

    def look(self):
        self._seen = self.now

    def read(self):
        """What the reaper does after it has looked at the clock."""
        if self._seen is None:
            return
        with suppress(BlockingIOError):
            for line in os.read(self._pipes[0], 1 << 20).splitlines():
                self._knowledge.learn(line)
        self._knowledge.end_passed(self._seen)
        self._seen = None

    def on_end(self, founders, marks, is_branded, spared):
        self.ended |= {mark.split(b"=")[1][:-1].decode() for mark in marks}

    def begin(self, name, detach):
        if name not in self.detach:
            self.detach[name] = detach
            self.link.expect(name, detach)
            self.link.watch(name, 7)

    def finish(self, name):
        """A job has ended; if the reaper has ended it, the worker knows."""
        if name in self.detach:
            del self.detach[name]
            has_passed = self.link.unwatch(name)
            assert has_passed or name not in self.ended
            self.ended.discard(name)


def play(script):
    with ExitStack() as patches:
        pair = Pair()
        patches.callback(pair.close)
        patches.enter_context(mock.patch("simple_worker.reaper_link.clock", pair.clock))
        patches.enter_context(mock.patch("simple_worker.reaper.end_family", pair.on_end))
        for act, *values in script:
            if act == "wait":
                pair.now += values[0]
            elif act == "lag":
                pair.lag = values[0]
            elif act == "beat":
                passed = pair.link.tell_contact(pair.now - values[0])
                assert set(passed) <= pair.detach.keys()
            else:
                getattr(pair, act)(*values)
        for name in list(pair.detach):
            pair.finish(name)


acts = st.one_of(
    st.tuples(st.just("wait"), st.floats(0, 3)),
    st.tuples(st.just("lag"), st.sampled_from([0.0, 0.3])),
    st.tuples(st.just("beat"), st.floats(0, 1)),
    st.tuples(st.just("begin"), names, st.sampled_from([1.0, 2.0, 5.0])),
    st.tuples(st.just("finish"), names),
    st.tuples(st.just("look")),
    st.tuples(st.just("read")),
    st.tuples(st.just("replace")),
)


@given(st.lists(acts, max_size=40))
# The worker wakes up, and its word comes between the reaper's look at the clock and its reading.
@example(
    [("begin", "a", 1.0), ("look",), ("read",), ("wait", 2.0), ("look",), ("beat", 0.0), ("read",)]
)
@example([("begin", "a", 1.0), ("look",), ("read",), ("wait", 2.0), ("look",), ("read",)])
@example([
    ("begin", "a", 1.0), ("look",), ("read",), ("wait", 0.8), ("lag", 0.3), ("beat", 0.0),
    ("look",), ("read",),
])  # fmt: skip
@example(
    [("begin", "a", 1.0), ("look",), ("read",), ("wait", 2.0), ("look",), ("read",), ("replace",)]
)
@example([("begin", "a", 1.0), ("wait", 1.0), ("replace",), ("finish", "a"), ("beat", 0.0)])
def test_a_worker_knows_whom_the_reaper_may_have_ended(script):
    play(script)


@pytest.fixture
def pair(monkeypatch):
    pair = Pair()
    monkeypatch.setattr("simple_worker.reaper_link.clock", pair.clock)
    monkeypatch.setattr("simple_worker.reaper.end_family", pair.on_end)
    yield pair
    pair.close()


def test_jobs_of_a_worker_in_contact_are_left_alone_and_end_in_time_without(pair):
    pair.now += 3600  # nobody was there for long
    pair.begin("short", 2.0)
    pair.begin("long", 100.0)
    for _ in range(1000):
        pair.now += BEAT * 2.0
        assert pair.link.tell_contact(pair.now) == []
        pair.look()
        pair.read()
    contact = pair.now
    while pair.now < contact + REAPED * 2.0:
        assert pair.ended == set()
        pair.now += 0.01
        pair.look()
        pair.read()
    assert pair.ended == {"short"}
    assert pair.now < contact + 2.0
    assert pair.link.tell_contact(pair.now) == ["short"]
    pair.look()
    pair.read()
    assert pair.ended == {"short"}


def test_a_contact_that_was_long_ago_is_not_made_younger_by_a_living_worker(pair):
    pair.begin("a", 10.0)
    for _ in range(19):
        pair.now += 0.5
        pair.link.tell_contact(1000.0)
        pair.look()
        pair.read()
    assert pair.ended == {"a"}


# --- real processes ---

RUN_JOBS = r"""
import os
import sys
from pathlib import Path
import trio
from remote_runner.types import Command
from simple_worker.launch import Launch
from simple_worker.machine import opened_own_machine

async def main():
    async with opened_own_machine(Path(sys.argv[1])) as machine, trio.open_nursery() as nursery:
        async def drop(stream, data):
            pass
        async def run(name, detach, script):
            child = machine.start(Launch(Command("sh", ("-c", script)), detach=float(detach)))
            outcome = await child.run(drop, 65536)
            os.write(1, f"{name} {outcome.reason.value}\n".encode())
        for job in zip(sys.argv[2::3], sys.argv[3::3], sys.argv[4::3]):
            nursery.start_soon(run, *job)
        while True:
            machine.tell_contact(0.0)
            await trio.sleep(0.05)

trio.run(main)
"""
TREE = (
    "env -i setsid sleep 1000 & echo $! $$ >> $F;"
    " (env -i setsid sh -c 'env -i setsid sleep 1000 & echo $! $$ >> $F; wait' &); sleep 1000"
)
"""Four processes, two of them an orphan and its child that have shed all but their brand."""


async def test_a_stopped_worker_loses_the_jobs_whose_fence_has_passed_and_goes_on(tmp_path):
    short, long = tmp_path / "short", tmp_path / "long"
    jobs = [
        ("long", "1000", TREE.replace("$F", str(long))),
        ("short", "1", TREE.replace("$F", str(short))),
    ]
    worker = await trio.lowlevel.open_process(
        [sys.executable, "-c", RUN_JOBS, str(tmp_path), *(word for job in jobs for word in job)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    async with worker.stdout:
        try:
            gone, left = await pids_in(short, 4), await pids_in(long, 4)
            await trio.sleep(2 * REAPED)  # a worker that lives tells of the contact
            assert all(is_alive(pid) for pid in gone + left)
            worker.send_signal(signal.SIGSTOP)
            await until(lambda: not any(is_alive(pid) for pid in gone))
            assert all(is_alive(pid) for pid in left)
            worker.send_signal(signal.SIGCONT)
            with trio.fail_after(PATIENCE):
                assert await worker.stdout.receive_some() == b"short abandoned\n"
            assert all(is_alive(pid) for pid in left)
        finally:
            worker.kill()
            await worker.wait()
    with trio.fail_after(PATIENCE):
        await until(lambda: not any(is_alive(pid) for pid in left))


async def test_a_reaper_that_does_not_read_is_replaced_before_it_ends_what_is_well(tmp_path):
    said = []
    child = await trio.lowlevel.open_process(["sleep", "1000"], start_new_session=True)
    try:
        async with opened_reaper(tmp_path, said.append) as link:
            first = link.pid
            link.expect("cookie", 4.0)
            link.watch("cookie", child.pid)
            os.kill(first, signal.SIGSTOP)
            with trio.fail_after(PATIENCE):
                while not said:
                    # Fills the pipe, whatever it holds.
                    for number in range(5000):
                        link.expect(f"other-{number}")
                        link.unwatch(f"other-{number}")
                    link.tell_contact(clock())
                    await trio.sleep(0.05)
            assert said == ["the reaper process has died (SIGKILL) and was replaced"]
            assert link.pid != first
            assert link.tell_contact(clock()) == []
            assert is_alive(child.pid)
            assert not link.unwatch("cookie")
    finally:
        child.kill()
        await child.wait()
