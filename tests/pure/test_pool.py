"""`Pool` against a plain list of workers: who has room, who is chosen, who is here."""

from collections import Counter
from itertools import count

from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from remote_runner.pool import QUICK, RECENT, Pool, PooledWorker
from remote_runner.protocol.messages import AHEAD_PER_SLOT

IDS = ("a", "b", "c", "d", "e")
labels = st.sampled_from([{}, {"os": "linux"}, {"os": "mac"}, {"os": "linux", "gpu": "yes"}])
slots = st.sampled_from([2, 2, 2, 0, 1, 5])  # mostly equal, so that the order counts
flags = st.sampled_from([True, True, False])
arrivals = st.tuples(st.sampled_from(IDS), labels, slots, flags, flags)


class PoolMachine(RuleBasedStateMachine):
    """Workers come, work, drain and leave, in any order."""

    workers = Bundle("workers")

    def __init__(self):
        super().__init__()
        self.pool = Pool()
        self.here = {}
        """The workers, and since when each has the slots free that it has."""
        self.free = {}
        self.clock = count()
        self.numbers = count()
        self.now = 0.0
        self.quick = {}
        """When which runs ended, and how long they took."""

    def changed(self, worker):
        """Tell the pool, and note who waits with how many slots since when."""
        self.pool.update(worker)
        if worker in self.here and self.free.get(worker) != worker.free:
            self.free[worker], self.here[worker] = worker.free, next(self.clock)

    @initialize(target=workers, choices=st.lists(arrivals, min_size=3, max_size=5))
    def open_the_doors(self, choices):
        return multiple(*[self.join(*choice) for choice in choices])

    @rule(target=workers, arrival=arrivals)
    def join_later(self, arrival):
        return self.join(*arrival)

    def join(self, name, labels, slots, is_ready, takes_ahead):
        for previous in [worker for worker in self.here if worker.id == name]:
            self.pool.remove(previous)
            del self.here[previous]
        worker = PooledWorker(
            next(self.numbers), name, name, labels, slots,
            is_ready=is_ready, takes_ahead=takes_ahead,
        )  # fmt: skip
        self.pool.add(worker)
        self.here[worker] = next(self.clock)
        self.free[worker] = worker.free
        return worker

    @rule(worker=consumes(workers))
    def leave(self, worker):
        self.pool.remove(worker)
        self.here.pop(worker, None)

    @rule(worker=workers)
    def get_ready(self, worker):
        worker.is_ready = True
        self.changed(worker)

    @rule(worker=workers)
    def drain(self, worker):
        worker.is_draining = True
        self.changed(worker)

    @rule(worker=workers, slots=slots)
    def resize(self, worker, slots):
        worker.slots = slots
        self.changed(worker)

    @rule(worker=workers)
    def end_a_run(self, worker):
        if worker.runs:
            worker.remove(next(iter(worker.runs)))
            self.changed(worker)

    @rule(worker=workers, slots=st.integers(1, 3))
    def present_a_run(self, worker, slots):
        """A worker that comes back may hold more than it has slots."""
        worker.add(f"presented-{next(self.numbers)}", slots)
        self.changed(worker)

    @rule(
        worker=workers,
        durations=st.lists(st.sampled_from([0.001, 0.001, 0.001, 1.0, None])),
        pause=st.sampled_from([0.0, 0.001, RECENT / 2, RECENT]),
    )
    def end_runs_of_a_time(self, worker, durations, pause):
        for duration in durations:
            self.now += pause
            self.quick.setdefault(worker, []).append((self.now, duration))
            worker.see_end(duration, self.now)
        self.changed(worker)

    @rule(worker=workers)
    def place_ahead(self, worker):
        if worker.spare:
            run_id = f"ahead-{next(self.numbers)}"
            worker.add(run_id, 1)
            worker.ahead[run_id] = 0.0
            self.changed(worker)

    @rule(worker=workers)
    def begin_what_is_ahead(self, worker):
        if worker.ahead:
            worker.ahead.popitem()
            self.changed(worker)

    @rule(worker=workers)
    def say_nothing_new(self, worker):
        self.changed(worker)

    @precondition(lambda self: self.here)
    @rule(needs=labels, slots=st.integers(1, 3))
    def place(self, needs, slots):
        chosen = self.pool.choose(needs, slots)
        fitting = [w for w in self.here if w.free >= slots and needs.items() <= w.labels.items()]
        if chosen is None:
            assert not fitting
            return
        assert chosen in fitting
        assert chosen.is_ready
        assert not chosen.is_draining
        assert len(chosen.runs) < chosen.slots
        assert chosen.free == max(worker.free for worker in fitting)
        equals = [w for w in fitting if (w.free, w.labels) == (chosen.free, chosen.labels)]
        assert chosen is min(equals, key=self.here.__getitem__)
        free = chosen.free
        chosen.add(f"placed-{next(self.numbers)}", slots)
        assert chosen.free == free - slots
        self.changed(chosen)

    @invariant()
    def the_room_is_that_of_the_workers_here(self):
        """Room ahead only where nobody has a free slot."""
        room = Counter()
        is_ahead = not any(worker.free for worker in self.here)
        for worker in self.here:
            size = worker.spare if is_ahead else worker.free
            room[tuple(sorted(worker.labels.items()))] += size
        offers = [(tuple(sorted(o.labels.items())), len(o.slots)) for o in self.pool.offers(99)]
        assert len(offers) == len(dict(offers))
        assert dict(offers) == {key: free for key, free in room.items() if free}

    @invariant()
    def nobody_is_trusted_with_more_runs_ahead_than_it_ended_lately(self):
        assert all(len(offer.slots) <= 2 for offer in self.pool.offers(2))
        for worker in self.here:
            assert not (worker.spare and worker.free)
            if not worker.spare:
                continue
            assert worker.takes_ahead
            assert not worker.wide
            ended = self.quick[worker]
            last, recent = ended[-1][0], 0
            for time, duration in reversed(ended):
                if duration is None or time <= last - RECENT:
                    break
                recent += duration < QUICK
            ahead = len(worker.runs) - worker.slots
            assert ahead + worker.spare == min(recent, AHEAD_PER_SLOT * worker.slots)

    @invariant()
    def what_is_ahead_is_not_shown_as_running(self):
        for worker in self.here:
            assert set(worker.info.running) == worker.runs - worker.ahead.keys()

    @precondition(lambda self: any(worker.free for worker in self.here))
    @rule(limit=st.integers(1, 9))
    def the_slots_offered_are_those_that_choices_would_take(self, limit):
        for offer in self.pool.offers(limit):
            workers = [w for w in self.here if w.labels == offer.labels and w.free]
            before = {worker: set(worker.runs) for worker in workers}
            free = {worker.id: worker.free for worker in workers}
            turns = dict(self.here), dict(self.free)
            for number, slot in enumerate(offer.slots):
                waiting = [w for w in workers if w.free == max(w.free for w in workers)]
                chosen = min(waiting, key=self.here.__getitem__)
                assert slot[:3] == (chosen.name, chosen.id, chosen.boot)
                assert (slot.of, slot.free) == (chosen.slots, free[chosen.id])
                chosen.runs.add(f"offered-{number}")
                self.here[chosen] = next(self.clock)
            assert len(offer.slots) == limit or not any(worker.free for worker in workers)
            for worker, runs in before.items():
                worker.runs = runs
            self.here, self.free = turns

    @invariant()
    def who_is_here_is_found(self):
        assert set(self.pool) == set(self.here)
        assert len(self.pool) == len(self.here)
        assert {n: self.pool.find(n) for n in IDS} == dict.fromkeys(IDS) | {
            worker.id: worker for worker in self.here
        }


TestPool = PoolMachine.TestCase
