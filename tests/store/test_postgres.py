"""What is PostgreSQL's own: its errors, the schema there, lost connections, readers, plans."""

from concurrent.futures import ThreadPoolExecutor
from itertools import count

import psycopg
import pytest

from queued_runner.jobs import Base64, JobSpec
from queued_runner.store.base import (
    Deposed,
    InDoubt,
    SchemaTooNew,
    StoreAway,
    StoreBroken,
    StoreFull,
    TryAgain,
    WorkerRecord,
)
from queued_runner.store.postgres import PostgresReader, PostgresStore
from queued_runner.store.postgres_session import place_of
from queued_runner.store.postgres_text import escape, unescape
from remote_runner.types import Offer, Slot
from tests.postgres import Postgres, binaries_or_skip
from tests.store.conftest import Transacted, given


@pytest.fixture
def store(address):
    opened = PostgresStore(address)
    yield Transacted(opened)
    opened.close()


@pytest.fixture
def db(address):
    """Another connection to the same database."""
    with psycopg.connect(address, autocommit=True) as connection:
        yield connection


def cut_connections(db):
    db.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )


# --- the schema ---


def test_opening_again_migrates_nothing_twice(store, address):
    job_id = store.submit()
    again = PostgresStore(address)
    assert (again.get(job_id).id, again.identity()) == (job_id, store.raw.identity())
    again.close()


def test_of_several_servers_that_start_at_once_one_makes_the_tables(postgres):
    address = postgres.address(postgres.new_database())
    with ThreadPoolExecutor(4) as threads:
        stores = list(threads.map(lambda _: PostgresStore(address), range(4)))
    assert len({store.identity() for store in stores}) == 1
    for store in stores:
        store.close()


def test_a_queue_of_a_newer_release_is_refused_and_left_alone(store, address, db):
    db.execute("UPDATE schema_version SET number = 1000")
    with pytest.raises(SchemaTooNew, match=r"schema 1000.*install that release again"):
        PostgresStore(address)
    assert db.execute("SELECT number FROM schema_version").fetchall() == [(1000,)]


def test_a_database_that_cannot_hold_every_text_is_refused(postgres):
    postgres.execute("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'"
                     " LOCALE_PROVIDER libc")  # fmt: skip
    with pytest.raises(StoreBroken, match=r"LATIN1.*must be.*UTF8"):
        PostgresStore(postgres.address("latin"))


def test_the_engine_itself_keeps_an_ended_job_ended(store, db):
    job_id = store.submit()
    store.cancel(job_id)
    with pytest.raises(psycopg.errors.CheckViolation, match="stays ended"):
        db.execute("UPDATE jobs SET state = 'running'")
    db.execute("UPDATE jobs SET state = 'queued'")  # what a person's retry does


# --- errors ---


def test_a_database_that_is_not_there_is_named_without_the_password(postgres):
    with pytest.raises(StoreAway, match="/nowhere") as error:
        PostgresStore(f"postgresql://queue:hunter2@/nowhere?host={postgres.folder}")
    assert "hunter2" not in str(error.value)
    with pytest.raises(StoreAway, match="does not answer"):
        PostgresStore("host=/nowhere password=hunter2 dbname=queue")


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("postgresql://me:hunter2@db.example:5433/queue", "db.example:5433/queue"),
        ("host=db.example password=hunter2 dbname=queue", "db.example/queue"),
        ("dbname=queue", "localhost/queue"),
        ("hunter2", "the given address"),
    ],
)
def test_messages_name_a_database_by_its_place(address, place):
    assert place_of(address) == place


@pytest.mark.parametrize(
    ("condition", "meaning"),
    [
        ("disk_full", StoreFull),
        ("serialization_failure", TryAgain),
        ("deadlock_detected", TryAgain),
        ("query_canceled", StoreAway),
        ("too_many_connections", StoreAway),
        ("read_only_sql_transaction", StoreAway),
        ("io_error", StoreBroken),
        ("data_corrupted", StoreBroken),
        ("undefined_table", StoreBroken),
        ("insufficient_privilege", StoreBroken),
        ("check_violation", psycopg.errors.CheckViolation),  # a bug of ours
    ],
)
def test_what_the_database_says_is_told_as_what_it_means(store, db, condition, meaning):
    known = store.submit()
    db.execute(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN RAISE EXCEPTION 'as it says' USING ERRCODE = '{condition}'; END $$"
    )
    db.execute("CREATE TRIGGER fail BEFORE INSERT ON jobs EXECUTE FUNCTION fail()")
    with pytest.raises(meaning):
        store.submit()
    db.execute("DROP TRIGGER fail ON jobs")
    assert [job.id for job in store.raw.page()] == [known]
    assert store.submit() > known


def test_a_lost_connection_is_made_again_for_the_next_transaction(store, db):
    job_id = store.submit()
    store.raw.begin()
    (lost,) = store.raw.add([JobSpec(command="x")], 0.0).ids
    cut_connections(db)
    with pytest.raises(StoreAway):
        store.raw.get(lost)
    store.raw.rollback()
    assert [job.id for job in store(lambda raw: raw.page())] == [job_id]
    assert store.submit() > lost


def test_a_connection_that_is_lost_before_the_commit_has_stored_nothing(store, db):
    store.raw.begin()
    store.raw.add([JobSpec(command="x")], 0.0)
    cut_connections(db)
    with pytest.raises(StoreAway):
        store.raw.commit()
    store.raw.rollback()
    assert store(lambda raw: raw.page()) == []


def test_a_commit_that_died_unheard_is_known_not_to_have_been(store, db):
    store(lambda raw: raw.enlist("a", "A", 0.0))
    db.execute(
        "CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$"
    )
    db.execute(
        "CREATE CONSTRAINT TRIGGER cut AFTER INSERT ON jobs DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION cut()"
    )
    with pytest.raises(InDoubt):
        store.submit()
    assert store.raw.was_committed() is False
    assert store(lambda raw: raw.page()) == []


def test_a_commit_whose_answer_was_lost_is_known_to_have_been(store, db, monkeypatch):
    store(lambda raw: raw.enlist("a", "A", 0.0))
    session = store.raw._db
    commit = session.commit

    def commit_unheard():
        commit()
        cut_connections(db)
        session.execute("SELECT 1")

    with monkeypatch.context() as patched:
        patched.setattr(session, "commit", commit_unheard)
        with pytest.raises(InDoubt):
            store.submit()
    assert store.raw.was_committed() is True
    assert len(store(lambda raw: raw.page())) == 1


def test_a_server_that_was_buried_commits_nothing_more(store, address):
    store(lambda raw: raw.enlist("a", "A", 0.0))
    job = store.start()
    other = Transacted(PostgresStore(address))
    other(lambda raw: raw.enlist("b", "B", 0.0))
    other(lambda raw: raw.bury("a", 0.0, 5.0))
    other.raw.close()
    with pytest.raises(Deposed):
        store.submit()
    with pytest.raises(Deposed):
        store.finish(job)
    store(lambda raw: raw.enlist("c", "A", 0.0))
    assert store.finish(job) is None
    assert store.submit() > job.id


def test_what_was_committed_outlives_a_crash_of_the_database():
    cluster = Postgres(binaries_or_skip())
    try:
        address = cluster.new_queue()
        store = Transacted(PostgresStore(address))
        ids = [store.submit() for _ in range(20)]
        store.raw.begin()
        store.raw.add([JobSpec(command="not committed")], 0.0)
        cluster.crash()
        with pytest.raises(StoreAway):
            store.raw.counts()
        store.raw.rollback()
        with pytest.raises(StoreAway):
            store.raw.begin()
        cluster.start()
        assert [job.id for job in store(lambda raw: raw.page())] == ids[::-1]
        assert store.submit() > ids[-1]
        store.raw.close()
    finally:
        cluster.close()


# --- text ---


def test_text_that_the_database_cannot_hold_is_kept(store):
    names = ("a\0b", "\udc80", "\ufffe", "a\ufffe0000b", "a\ufffdb")
    offers = [Offer({}, tuple(Slot(name, f"{name}-id", name) for name in names))]
    ids = [store.submit() for _ in names]
    jobs = store(lambda raw: raw.claim(offers, 1.0, 9))
    assert [job.worker for job in jobs] == [*names]
    assert [store.raw.get(job_id).worker_id for job_id in ids] == [f"{name}-id" for name in names]
    for name in names:
        store(lambda raw, name=name: raw.drain_worker(name, name, 1.0))
    assert {*store.raw.drained_workers().items()} == {(name, name) for name in names}
    store(lambda raw: raw.resume_worker("a\0b"))
    assert "a\0b" not in store.raw.drained_workers()
    assert store.raw.page(name="a\0b") == []


def test_the_escape_keeps_what_differs_apart():
    texts = ["", "a", "\0", "\ufffe", "\ufffe0000", "\ud800", "\ufffed800", "\0\0"]
    assert [unescape(escape(text)) for text in texts] == texts
    assert len({escape(text) for text in texts}) == len(texts)


def test_a_nul_in_the_input_of_a_job_hides_no_secrets(store):
    first = store.submit()
    secret = store.submit(after=(first,), stdin="a\0\\u0000", mask=("hunter2\\u0000",))
    data = store.submit(stdin=Base64(base64="AAAA"))
    store.cancel(first)
    assert [job.mask for job in store.settle().stranded] == [("hunter2\\u0000",)]
    assert store.raw.get(secret).spec.stdin == "a\0\\u0000"
    assert store.raw.get(data).spec.stdin_bytes() == b"\0\0\0"


# --- readers ---


def test_several_threads_read_what_is_committed(store, address):
    reader = PostgresReader(address)
    store.raw.begin()
    (job_id,) = store.raw.add([JobSpec(command="x")], 0.0).ids
    assert reader.page() == []
    store.raw.commit()
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(lambda _: reader.get(job_id).spec.command, range(200)))
    assert found == ["x"] * 200
    reader.close()


def test_a_reader_finds_its_way_back(store, address, db):
    reader = PostgresReader(address)
    job_id = store.submit()
    assert reader.get(job_id).id == job_id
    cut_connections(db)
    assert reader.get(job_id).id == job_id
    reader.close()


# --- what it costs ---


def test_a_long_queue_costs_a_claim_and_an_end_nothing(store, db):
    """Counted in rows that they walk over, by plans that were made while the queue was short."""

    def walked():
        return store.raw._db.execute(
            "SELECT sum(pg_stat_get_xact_tuples_returned(oid))::bigint FROM pg_class"
            " WHERE relname IN ('jobs', 'dependencies', 'settling', 'attempts')"
            " OR oid IN (SELECT indexrelid FROM pg_index WHERE indrelid IN ('jobs'::regclass,"
            " 'dependencies'::regclass, 'settling'::regclass, 'attempts'::regclass))"
        ).fetchone()[0]

    def live(raw):
        """What servers do, in one transaction: the counts of one are not cleared before its end."""
        before = walked()
        pair = raw.add([JobSpec(command="x"), JobSpec(command="x")], 1.0).ids
        raw.add([JobSpec(command="x", after=pair, needs={"no": "worker"})], 1.0)
        for job in raw.claim(given(({}, 2)), 1.0, 1000):
            store.finish_in(job)
        raw.next_run_after(1.0)
        raw.settle(1.0)
        (keyed,) = raw.add([JobSpec(command="x", key="k")], 1.0).ids
        raw.add([JobSpec(command="x", key="k")], 1.0)
        raw.cancel(keyed, 1.0)
        raw.revive(keyed, 1.0)
        raw.cancel(keyed, 1.0)
        raw.delete([keyed])
        hand_over(raw)
        return walked() - before

    def hand_over(raw):
        """A server dies; its attempts are taken over, recalled, given up and ended."""
        lives = [f"{next(numbers)}" for _ in range(2)]
        raw.enlist(lives[0], "A", 1.0)
        raw.add([JobSpec(command="x")] * 3, 1.0)
        jobs = raw.claim(given(({}, 3)), 1.0, 1000)
        worker = WorkerRecord("id-0", lives[0], 1)
        raw.take_over(worker, [(job.id, job.attempt) for job in jobs])
        raw.enlist(lives[1], "B", 1.0)
        raw.beat(2.0)
        raw.bury(lives[0], 0.0, 0.0)
        rescued = raw.rescue(2.0, 1).jobs
        raw.recall("no such", None)
        raw.recall("no such", ["nobody"])
        held = [(job.id, job.attempt) for job in jobs]
        taken = raw.take_over(WorkerRecord("id-0", lives[0], 2), held).jobs
        raw.cancel(jobs[0].id, 1.0)
        raw.cancels()
        raw.servers(), raw.workers()
        for job in (*rescued, *taken):
            store.finish_in(job)
        raw.lose_worker(WorkerRecord("id-0", lives[0], 2))
        raw.bury_others(1.0, 1.0)

    numbers = count()
    few = [store(live) for _ in range(8)][-1]  # after five times a plan is kept
    db.execute(
        "INSERT INTO jobs (id, spec, priority, needs, state, is_delayed, created_at, run_after)"
        " SELECT nextval('jobs_id_seq'), '{\"command\": \"x\"}', -1, 'n' || chr(9) || n % 50"
        " || chr(10), 'queued', n % 2, 0, 9e9 FROM generate_series(1, 50000) AS n"
    )
    assert store(live) <= few * 1.5
