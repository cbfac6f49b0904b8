"""Planted bugs of jobs that take several slots. See `mutants.py`."""

from remote_runner.pool import PooledWorker
from remote_runner.runner import RemoteRunner
from tests.sim.mutants import mutant


@mutant("wide: a run of several slots counts as one")
def wide_as_one(put):
    original = PooledWorker.add
    put(PooledWorker, "add", lambda self, run_id, slots: original(self, run_id, 1))


@mutant("wide: one that another server has begun counts as one slot")
def adopted_as_one(put):
    original = RemoteRunner._attach

    def attach(self, run, session):
        if run.command is None:
            run.slots = 1
        original(self, run, session)

    put(RemoteRunner, "_attach", attach)
