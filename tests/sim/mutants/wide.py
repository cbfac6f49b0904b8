"""Planted bugs of jobs that take several slots."""

from remote_runner.pool import PooledWorker
from tests.sim.mutants.registry import mutant


@mutant("wide: a run of several slots counts as one")
def wide_as_one(put):
    original = PooledWorker.add
    put(PooledWorker, "add", lambda self, run_id, slots: original(self, run_id, 1))
