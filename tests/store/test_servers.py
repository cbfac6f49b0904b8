"""Several servers on one queue, in the store: whose an attempt is, and who may write about it."""

import pytest

from queued_runner.jobs import JobState
from queued_runner.lifecycle import JobEvent
from queued_runner.store.base import Deposed, WorkerRecord
from tests.store.conftest import FAILURE, SUCCESS

W0 = WorkerRecord("id-0", "boot-0", 1)


@pytest.fixture
def a(store):
    """The first server."""
    store(lambda s: s.enlist("a", "A", 100.0))
    return store


def as_server(store, name, now=100.0):
    """From here on the store's connection writes as another server."""
    store(lambda s: s.enlist(name, name.upper(), now))


def take_over(store, worker=W0, held=()):
    return store(lambda s: s.take_over(worker, held))


def test_a_server_is_known_until_it_is_buried(a):
    a(lambda s: s.beat(107.0))
    (server,) = a(lambda s: s.servers())
    assert (server.id, server.name) == ("a", "A")
    as_server(a, "b")
    assert [s.id for s in a(lambda s: s.servers())] == ["a", "b"]
    a(lambda s: s.bury("b", 110.0, 5.0))
    with pytest.raises(Deposed):
        a(lambda s: s.beat(111.0))


def test_a_server_may_bury_itself_and_writes_on_about_everything_but_attempts(a):
    job = a.start()
    a(lambda s: s.bury("a", 110.0, 5.0))
    assert a(lambda s: s.servers()) == []
    assert a.finish(job) is None
    assert a.raw.get(a.submit()).state is JobState.QUEUED


def test_what_is_claimed_is_the_servers_and_no_other_can_end_it(a):
    job = a.start()
    assert (job.server, job.handovers) == ("a", 0)
    as_server(a, "b")
    assert a.finish(job) is None
    assert a(lambda s: s.report(job.id, 1, SUCCESS)) is False
    assert a.raw.get(job.id).state is JobState.RUNNING


def test_a_worker_takes_its_attempts_with_it_to_another_server(a):
    job, other = a.start(), a.start()
    as_server(a, "b")
    taken = take_over(a)
    assert [(j.id, j.server, j.handovers) for j in taken.jobs] == [
        (job.id, "b", 1), (other.id, "b", 1)
    ]  # fmt: skip
    assert a.raw.get(job.id).handovers == 1
    assert a.finish(taken.jobs[0]).state is JobState.SUCCEEDED
    assert take_over(a, WorkerRecord("id-0", "boot-0", 2)).jobs == ()


def test_a_new_attempt_has_not_been_handed_over(a):
    job = a.start()
    as_server(a, "b")
    (job,) = take_over(a).jobs
    a.finish(job, JobEvent.RETRY, FAILURE, run_after=0.0)
    (again,) = a.claim()
    assert (again.attempt, again.server, again.handovers) == (2, "b", 0)


def test_what_a_buried_server_knew_of_a_worker_does_not_count(a):
    """It was out of reach, and writes in the commit in which it begins anew what it had to say."""
    old = WorkerRecord("id-0", "boot-0", 6)
    as_server(a, "b")
    assert take_over(a, WorkerRecord("id-0", "boot-1", 1)) is not None
    as_server(a, "c")

    def return_late(store):
        store._db.execute("DELETE FROM servers WHERE id = 'c'")
        assert store.take_over(old, ()) is None
        store.see_worker(old)
        store.enlist("d", "C", 120.0)

    a(return_late)
    assert [(w.boot, w.server) for w in a(lambda s: s.workers())] == [("boot-1", "b")]


def test_only_its_own_attempts_come_with_a_worker(a):
    job = a.start()
    as_server(a, "b")
    assert take_over(a, WorkerRecord("id-9", "boot-9", 1)).jobs == ()
    assert a.raw.get(job.id).server == "a"


def test_the_newest_connection_of_a_worker_wins(a):
    assert take_over(a, WorkerRecord("id-0", "boot-0", 3)) is not None
    as_server(a, "b")
    assert take_over(a, WorkerRecord("id-0", "boot-0", 2)) is None
    assert take_over(a, WorkerRecord("id-0", "boot-0", 3)) is None
    assert take_over(a, WorkerRecord("id-0", "boot-0", 4)) is not None
    assert take_over(a, WorkerRecord("id-0", "boot-1", 1)) is not None
    assert [w.server for w in a(lambda s: s.workers())] == ["b"]


def test_of_workers_that_do_not_count_the_last_to_come_wins(a):
    uncounted = WorkerRecord("id-0", "boot-0", 0)
    assert take_over(a, uncounted) is not None
    as_server(a, "b")
    assert take_over(a, uncounted) is not None


def test_a_server_hears_what_it_does_not_have_any_more(a):
    job, other = a.start(), a.start()
    as_server(a, "b")
    a.finish(take_over(a).jobs[1])
    as_server(a, "c")
    taken = take_over(a, WorkerRecord("id-0", "boot-0", 2), [(job.id, 1), (other.id, 1)])
    assert taken.lost == {(job.id, 1), (other.id, 1)}
    assert [j.id for j in taken.jobs] == [job.id]
    again = take_over(a, WorkerRecord("id-0", "boot-0", 3), [(job.id, 1)])
    assert (again.lost, again.jobs) == (frozenset(), ())


def test_nothing_is_claimed_for_a_worker_that_has_moved(a):
    take_over(a)
    a.submit()
    as_server(a, "b")
    take_over(a, WorkerRecord("id-0", "boot-0", 2))
    as_server(a, "c")
    assert a.claim() == []
    take_over(a, WorkerRecord("id-0", "boot-0", 3))
    assert len(a.claim()) == 1


def test_what_a_dead_server_had_is_nobodys_until_it_is_given_up(a):
    patient, job = a.start(detach=50.0), a.start()
    as_server(a, "b")
    a(lambda s: s.bury("a", 100.0, 7.0))
    assert (a.raw.get(job.id).server, a.finish(job)) == (None, None)
    none = a(lambda s: s.rescue(106.9, 10))
    assert (none.jobs, none.next_due) == ((), 107.0)
    found = a(lambda s: s.rescue(107.0, 10))
    assert [(j.id, j.server, j.handovers) for j in found.jobs] == [(job.id, "b", 1)]
    assert found.next_due == 150.0
    assert a.finish(found.jobs[0]) is not None
    assert [j.id for j in take_over(a).jobs] == [patient.id]
    assert a(lambda s: s.rescue(1000.0, 10)) == type(found)((), None)


def test_a_look_rescues_a_bounded_number_the_oldest_first(a):
    jobs = [a.start(detach=float(n)) for n in (3, 1, 2)]
    as_server(a, "b")
    a(lambda s: s.bury("a", 0.0, 0.0))
    found = a(lambda s: s.rescue(10.0, 2))
    assert sorted(j.id for j in found.jobs) == sorted((jobs[1].id, jobs[2].id))
    assert found.next_due == 3.0


def test_a_server_that_is_alone_starts_every_lease_afresh(a):
    job = a.start()
    as_server(a, "b")
    a(lambda s: s.bury("a", 100.0, 7.0))
    as_server(a, "c")
    take_over(a, WorkerRecord("id-8", "boot-8", 1))
    other = a.start()
    a(lambda s: s.bury_others(3.0, 7.0))
    assert [s.id for s in a(lambda s: s.servers())] == ["c"]
    assert a(lambda s: s.rescue(9.0, 10)).next_due == 10.0
    assert a.raw.get(other.id).server == "c"
    assert a.raw.get(job.id).server is None


def test_workers_are_seen_at_all_servers_until_their_connection_ends(a):
    a(lambda s: s.see_worker(WorkerRecord("id-0", "boot-0", 1, '{"slots": 1}')))
    a(lambda s: s.see_worker(WorkerRecord("id-0", "boot-0", 1, '{"slots": 2}')))
    as_server(a, "b")
    a(lambda s: s.see_worker(WorkerRecord("id-1", "boot-1", 1)))
    seen = {w.worker_id: (w.server, w.facts) for w in a(lambda s: s.workers())}
    assert seen == {"id-0": ("a", '{"slots": 2}'), "id-1": ("b", "{}")}
    a(lambda s: s.lose_worker(WorkerRecord("id-0", "boot-0", 1)))
    a(lambda s: s.lose_worker(WorkerRecord("id-1", "boot-1", 0)))
    assert len(a(lambda s: s.workers())) == 2
    a(lambda s: s.lose_worker(WorkerRecord("id-1", "boot-1", 1)))
    a(lambda s: s.bury("a", 0.0, 0.0))
    assert a(lambda s: s.workers()) == []


def test_how_somebody_wants_a_job_to_end_is_kept_for_the_server_that_has_it(a):
    job = a.start()
    as_server(a, "b")
    wanted = a(lambda s: s.cancel(job.id, 1.0, "SIGINT", 2.5))
    assert (wanted.cancel_signal, wanted.cancel_grace) == ("SIGINT", 2.5)
    assert a(lambda s: s.cancels()) == []
    (job,) = take_over(a).jobs
    assert [j.id for j in a(lambda s: s.cancels())] == [job.id]
    a.finish(job, JobEvent.CANCEL, FAILURE)
    assert a(lambda s: s.cancels()) == []
    revived = a.revive(job.id)
    assert (revived.cancel_requested, revived.cancel_signal) == (False, None)
    assert revived.cancel_grace is None


def test_what_is_nobodys_is_recalled_by_how_its_workers_are_called(a):
    job, other = a.start(), a.start()
    as_server(a, "b")
    kept = a.start()
    a(lambda s: s.bury("a", 0.0, 7.0))
    assert a(lambda s: s.recall("other:", None)) == []
    assert [j.id for j in a(lambda s: s.recall("id-", None))] == [job.id, other.id]
    assert {a.raw.get(j.id).server for j in (job, other, kept)} == {"b"}
    assert a(lambda s: s.recall("id-", None)) == []


def test_an_end_from_before_an_attempt_went_to_another_server_and_back_is_stale(a):
    job = a.start()
    as_server(a, "b")
    take_over(a)
    a(lambda s: s.bury("a", 0.0, 0.0))
    as_server(a, "a")
    (back,) = take_over(a, WorkerRecord("id-0", "boot-0", 2)).jobs
    assert (back.server, back.handovers) == ("a", 2)
    assert a.finish(job) is None
    assert a.finish(back).state is JobState.SUCCEEDED


def test_the_first_server_says_where_output_lies(store):
    assert store(lambda s: s.keep_output_at("m1 /shared")) == "m1 /shared"
    assert store(lambda s: s.keep_output_at("m2 /other")) == "m1 /shared"
