"""How SQLite finds the rows of the verbs that a busy queue runs all the time: by which index.

A plan that walks all jobs is not slow in a test, only in a queue of a million.
"""

import re

import apsw
import pytest

from queued_runner.jobs import JobState
from queued_runner.store.sqlite import MEMORY, SQLiteStore
from tests.store.conftest import Transacted

BY_ID = "SEARCH jobs USING INTEGER PRIMARY KEY (rowid=?)"
BY_KEY = "SEARCH jobs USING INDEX sqlite_autoindex_jobs_1 (key=?)"
OF_JOB = "SEARCH attempts USING INDEX sqlite_autoindex_attempts_1 (job_id=?)"
BY_NUMBER = "SEARCH attempts USING INDEX sqlite_autoindex_attempts_1 (job_id=? AND number=?)"
CLAIM = {
    BY_ID,
    "SEARCH jobs USING INDEX jobs_delayed (run_after<?)",
    "SEARCH jobs USING INDEX jobs_ready (needs=?)",
    "SEARCH jobs USING INDEX jobs_ready (needs>?)",
}


def claim_one_that_was_delayed(queue):
    queue.submit(delay=1.0)
    queue.now += 2
    assert len(queue.claim()) == 2


PLANS = {
    "add": (lambda queue: queue.submit(key="new"), {BY_KEY}),
    "add after others": (lambda queue: queue.submit(after=[1, "key"]), {BY_ID, BY_KEY}),
    "claim": (lambda queue: queue.claim(), CLAIM),
    "claim one that was delayed": (claim_one_that_was_delayed, CLAIM),
    "finish": (lambda queue: queue.finish(queue.start()), {*CLAIM, BY_NUMBER}),
    "settle": (lambda queue: queue.run(1), {*CLAIM, BY_NUMBER}),
    "cancel": (lambda queue: queue.cancel(1), {BY_ID}),
    "get": (lambda queue: queue.raw.get(1), {BY_ID}),
    # Newest first, which is how they lie: it ends after as many as are asked for.
    "page": (lambda queue: queue.raw.page(), {"SCAN jobs"}),
    "page of a state": (
        lambda queue: queue.raw.page(state=JobState.QUEUED, before=9),
        {"SEARCH jobs USING INDEX jobs_state (state=? AND id<?)"},
    ),
    "page of a group": (
        lambda queue: queue.raw.page(group="g", state=JobState.QUEUED, before=9),
        {"SEARCH jobs USING INDEX jobs_group (grp=? AND id<?)"},
    ),
    "page of a name": (
        lambda queue: queue.raw.page(name="n", state=JobState.QUEUED, before=9),
        {"SEARCH jobs USING INDEX jobs_name (name=? AND id<?)"},
    ),
    "running": (
        lambda queue: queue.raw.running(),
        {"SEARCH jobs USING INDEX jobs_state (state=?)"},
    ),
    # The first entry of an index that holds the delayed alone.
    "next run after": (
        lambda queue: queue.raw.next_run_after(0.0),
        {"SCAN jobs USING INDEX jobs_delayed"},
    ),
    "attempts": (lambda queue: queue.raw.attempts(1), {OF_JOB}),
    "stored output": (lambda queue: queue.raw.stored_output(1, 1), {BY_NUMBER}),
    # At most as many as one job may come after.
    "dependencies": (
        lambda queue: queue.raw.dependencies(2),
        {BY_ID, "USE TEMP B-TREE FOR ORDER BY"},
    ),
}


@pytest.fixture
def connections(monkeypatch):
    opened = []
    monkeypatch.setattr(apsw, "connection_hooks", [opened.append])
    return opened


@pytest.fixture
def queue(connections):
    """One job that others wait for."""
    store = SQLiteStore(MEMORY)
    queue = Transacted(store)
    queue.submit(name="n", group="g", key="key")
    queue.submit(after=[1])
    yield queue
    store.close()


def steps(connection, act):
    """Of all statements that are run meanwhile, as far as they look at jobs or at attempts, or sort
    what they found."""
    run = {}

    def see(cursor, sql, bindings):
        run[sql] = bindings
        return True

    connection.exec_trace = see
    act()
    connection.exec_trace = None
    found = set()
    for sql, bindings in run.items():
        if not re.match("BEGIN|COMMIT", sql):
            plan = connection.execute(f"EXPLAIN QUERY PLAN {sql}", bindings)
            found.update(step for *_, step in plan)
    found = {step.replace(" COVERING", "") for step in found}
    return {step for step in found if re.search(r"\b(jobs|attempts|B-TREE)\b", step)}


@pytest.mark.parametrize("verb", PLANS)
def test_a_verb_finds_its_rows_by_the_right_index(queue, connections, verb):
    act, expected = PLANS[verb]
    assert steps(connections[0], lambda: act(queue)) == expected
