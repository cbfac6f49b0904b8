"""Both engines hold the same, and a queue moves between them whole or not at all."""

import errno
import os
from dataclasses import replace
from io import BytesIO

import pytest

from queued_runner import log_files
from queued_runner.datadir import LOGS, RESULTS
from queued_runner.errors import DataDirUnusable, TransferRefused
from queued_runner.jobs import JobSpec, JobState
from queued_runner.lifecycle import JobEvent
from queued_runner.log_files import LogFolder, Record, Tail, encode_record
from queued_runner.output_places import in_folder
from queued_runner.result_files import ResultFile as StoredFile
from queued_runner.result_files import ResultFolder
from queued_runner.retry import Decision
from queued_runner.store.base import StoreAway, StoreBroken, StoredOutput
from queued_runner.store.sqlite import SQLiteStore
from queued_runner.store.tables import TABLES
from queued_runner.stores import opened_at_rest
from queued_runner.transfer.export import export_queue
from queued_runner.transfer.files import replaced
from queued_runner.transfer.format import END, HEADER, ORDER, OUTPUT, BadLine, Seal, decode, encode
from queued_runner.transfer.importing import import_queue
from remote_runner.errors import UnusableSettings
from remote_runner.results import Head, ResultFile, encode_head
from remote_runner.types import Outcome, Reason
from tests.store.conftest import Transacted
from tests.transfer.conftest import Place

ODD = ["plain", "two\nlines", "a\0b", "\ufffe0000", "\N{PARTY POPPER}", "\\u0000", "é", "z"]
STAYS_HERE = {"jobs": {"server", "give_up_at"}}


def columns_of(store, table):
    if isinstance(store, SQLiteStore):
        rows = store._db.execute(f"PRAGMA table_info({table})")
        return {name: (kind, not null) for _, name, kind, null, _, is_key in rows} | {
            # What is a key is never NULL, though SQLite does not say so.
            name: (kind, False)
            for _, name, kind, _, _, is_key in store._db.execute(f"PRAGMA table_info({table})")
            if is_key
        }
    kinds = {
        "bigint": "INTEGER", "smallint": "INTEGER", "text": "TEXT", "double precision": "REAL",
        "bytea": "BLOB",
    }  # fmt: skip
    rows = store._db.execute(
        "SELECT column_name, data_type, is_nullable FROM information_schema.columns"
        " WHERE table_schema = 'public' AND table_name = ?",
        (table,),
    )
    return {name: (kinds[kind], null == "YES") for name, kind, null in rows}


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_every_column_goes_along_or_is_known_to_stay(new_place, engine):
    with opened_at_rest(new_place(engine).settings) as queue:
        for table in TABLES:
            stays = STAYS_HERE.get(table.name, set())
            found = columns_of(queue.store, table.name)
            assert {name: what for name, what in found.items() if name not in stays} == {
                column.name: (column.kind, column.may_be_null) for column in table.columns
            }
        every = {"servers", "workers", "identity", "schema_version", *(t.name for t in TABLES)}
        sql = (
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
            if engine == "sqlite"
            else "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
        )
        assert {name for (name,) in queue.store._db.execute(sql)} <= every


def outcome(code):
    return Outcome(Reason.EXIT, exit_code=code, duration=0.25, max_rss=4096, cpu_time=0.5)


def fill(place):
    """A queue with all that a queue may have, deleted jobs above all others too."""
    logs, results = LogFolder(place.folder / LOGS), ResultFolder(place.folder / RESULTS)
    with opened_at_rest(place.settings) as queue:
        store = Transacted(queue.store)
        store(lambda raw: raw.enlist("life-1", "server", 1.0))
        ids = store.add(*(JobSpec(command="x", args=(text.replace("\0", ""),)) for text in ODD))
        first, second = store.add(
            JobSpec(command="x", key="k\N{PARTY POPPER}", env={"A": "secret"}),
            JobSpec(command="false", retries=3, group="g", name="\N{PARTY POPPER} \\u0000"),
        )
        store.add(
            JobSpec(command="x", mask=("secret-1",)),
            JobSpec(command="x", delay=50.5), JobSpec(command="x", needs={"gpu": "1"}),
            JobSpec(command="x", after=(first,)), JobSpec(command="x", after=(second, first)),
        )  # fmt: skip
        store.run(*ids)
        (job,) = store.claim(limit=1)
        head = Head((ResultFile("a/b é", 3),), (), 0)
        inline = encode_record(Record(0, 5, "stdout", b"in\0line"))
        store(
            lambda raw: raw.finish(
                job.id, 1, lambda _: Decision(JobEvent.SUCCEED), outcome(0),
                StoredOutput(7, 0, inline), 3.5,
            )
        )  # fmt: skip
        large = b"head" + b"x" * 300_000
        with opened_results(results, job.id, 1, 2) as file:
            file.write(large)
        put_results(queue.store, job.id, 1, encode_head(head), 4, None, 2)
        (job,) = store.claim(limit=1)
        assert job.id == second
        tails = [Tail(logs.folder_of(job.id, 1), epoch) for epoch in (0, 1)]
        log_files.append(tails[0], [Record(0, 6, "stdout", b"a" * 70_000)])
        log_files.append(tails[1], [Record(70_000, 7, "stderr", b"b" * 9)])
        log_files.append(tails[0], [Record(70_000, 8, "stdout", b"too late")])
        store(
            lambda raw: raw.finish(
                job.id, 1, lambda _: Decision(JobEvent.RETRY, run_after=99.5), outcome(3),
                StoredOutput(70_009, 11, None), 4.5,
            )
        )  # fmt: skip
        put_results(queue.store, job.id, 1, encode_head(head), 0, b"abc", 0)
        store.settle()
        cancelled, deleted = store.add(JobSpec(command="x"), JobSpec(command="x"))
        store.cancel(cancelled)
        store.cancel(deleted)
        store.delete(deleted)
        awaited = store.submit(needs={"os": "y"})
        store.submit(after=(awaited,))
        (job,) = store.claim(({"os": "y"}, 1), limit=1)
        store.finish(job)  # those that came after it are not told yet
        running = store.start(detach=33.0, needs={"os": "x"})
        tail = Tail(logs.folder_of(running.id, 1))
        log_files.append(tail, [Record(0, 9, "stdout", b"begun ")])
        gone = store.submit()
        store.cancel(gone)
        store.delete(gone)
        store(lambda raw: raw.forget_deleted([gone]))
        for number, name in enumerate(ODD):
            store(lambda raw, name=name, at=number: raw.drain_worker(name, name, float(at)))
        store(lambda raw: raw.bury("life-1", 5.0, 120.0))
    return running.id, gone


def opened_results(results, *file):
    path = results.path_of(StoredFile(*file))
    path.parent.mkdir(parents=True)
    return path.open("wb")


def put_results(store, *row):
    store.whole.insert(next(table for table in TABLES if table.name == "results"), [row])


WAYS = [
    ("sqlite", "sqlite"), ("sqlite", "postgres", "sqlite"), ("postgres", "sqlite", "postgres"),
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS, ids="-".join)
def test_a_queue_is_the_same_wherever_it_goes(new_place, way):
    first, *others = map(new_place, way)
    running, highest = fill(first)
    data, done = first.export_and_tell()
    assert done.missing == 0
    assert first.export() == data
    shapes = [decode(line)[0].name for line in data.splitlines(keepends=True)]
    assert set(shapes) == {shape.name for shape in ORDER}
    assert shapes.count("jobs") == done.jobs
    now = data
    for place in others:
        assert place.fill(now) == done.jobs
        now = place.export()
        assert now == data
        with opened_at_rest(place.settings) as queue:
            assert queue.store.whole.last_id() == highest
            job = queue.store.get(running)
            assert (job.state, job.server, job.attempt) == (JobState.RUNNING, None, 1)
            give_up = queue.store._value("SELECT give_up_at FROM jobs WHERE id = ?", running)
            if queue.is_shared:  # of its own detach
                assert 3 < give_up - queue.store.time(0.0) <= 33
            assert queue.store.servers() == []
    # It lives on: new jobs have new ids, what ran is taken over, its output goes on.
    with opened_at_rest(others[-1].settings) as queue:
        store = Transacted(queue.store)
        assert store.submit() == highest + 1
        assert LogFolder(others[-1].folder / LOGS).recover(running, 1, 1) == 6


def test_the_order_of_pages_is_that_of_one(new_place, monkeypatch):
    place, copy = new_place("sqlite"), new_place("postgres")
    fill(place)
    data = place.export()
    copy.fill(data)
    monkeypatch.setattr("queued_runner.store.whole.PAGE", 1)
    tables = [replace(table, page=1) for table in TABLES]
    monkeypatch.setattr("queued_runner.transfer.export.TABLES", tables)
    assert place.export() == data
    assert copy.export() == data


# --- what is refused ---


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    place = Place(tmp_path_factory.mktemp("exported"), None)
    fill(place)
    return place.export()


def sealed(lines):
    """These lines, with the end that fits them."""
    seal = Seal()
    for line in lines:
        seal.add(line)
    return b"".join(lines) + encode(END, seal.end())


def is_empty(place):
    with opened_at_rest(place.settings) as queue:
        return queue.store.whole.is_empty() and place.files() == {}


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_a_torn_export_leaves_nothing(new_place, exported, engine):
    place = new_place(engine)
    lines = exported.splitlines(keepends=True)
    for count in {0, 1, 2, len(lines) // 2, len(lines) - 1}:
        with pytest.raises(BadLine, match=rf"line {count + 1}: "):
            place.fill(b"".join(lines[:count]))
        if count:
            with pytest.raises(BadLine, match=f"line {count}: it is torn"):
                place.fill(b"".join(lines[:count])[:-1])
    assert is_empty(place)
    assert place.fill(exported)
    assert place.export() == exported


def index_of(lines, name):
    return next(n for n, line in enumerate(lines) if decode(line)[0].name == name)


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_a_changed_export_leaves_nothing(new_place, exported, engine):
    place = new_place(engine)
    *lines, end = exported.splitlines(keepends=True)
    jobs = index_of(lines, "jobs")
    swapped = [*lines]
    swapped[jobs], swapped[jobs + 1] = swapped[jobs + 1], swapped[jobs]
    without_job = [*lines[:jobs], *lines[jobs + 1 :]]
    first_output = index_of(lines, "output")
    broken = {
        "out of turn": sealed(swapped),
        "name rows that are not there": sealed(without_job),
        "missing or changed": b"".join([*lines[:-1], end]),
        "it has a field": sealed(lines).replace(b'"name"', b'"nome"', 1),
        "a table that this release": sealed([lines[0], b'{"workers":{}}\n', *lines[1:]]),
        "its spec is no job": sealed(lines).replace(b'"{\\"command\\"', b'"{\\"comand\\"', 1),
        "its state is none": sealed(lines).replace(b'"state":"succeeded"', b'"state":"done"', 1),
        "another release": sealed([encode(HEADER, (2, "q", 99)), *lines[1:]]),
        "higher than any": sealed([encode(HEADER, (1, "q", 3)), *lines[1:]]),
        "a piece is missing": sealed([*lines[:first_output], *lines[first_output + 1 :]]),
        "comes out of turn": sealed(lines) + lines[1],
    }
    for why, data in broken.items():
        with pytest.raises(BadLine, match=f"line [0-9]+: .*{why}") as raised:
            place.fill(data)
        assert "secret" not in str(raised.value)
        assert is_empty(place)


def test_a_job_twice_by_its_key_is_refused(new_place):
    source = new_place("sqlite")
    with opened_at_rest(source.settings) as queue:
        Transacted(queue.store).add(JobSpec(command="a", key="1"), JobSpec(command="a", key="2"))
    *lines, _ = source.export().splitlines(keepends=True)
    data = sealed([line.replace(b'"key":"2"', b'"key":"1"') for line in lines])
    for engine in ("sqlite", "postgres"):
        with pytest.raises(BadLine, match=r"line 3: .* are there twice"):
            new_place(engine).fill(data)


def test_half_a_character_stays_where_it_can_be(new_place):
    """PostgreSQL keeps it in another form; SQLite cannot."""
    source = new_place("postgres")
    with opened_at_rest(source.settings) as queue:
        Transacted(queue.store)(lambda raw: raw.drain_worker("w", "\ud800", 1.0))
    data = source.export()
    other = new_place("postgres")
    other.fill(data)
    assert other.export() == data
    with pytest.raises(BadLine, match="more than this database can hold"):
        new_place("sqlite").fill(data)


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_a_queue_that_is_not_empty_is_let_alone(new_place, exported, engine):
    place = new_place(engine)
    with opened_at_rest(place.settings) as queue:
        Transacted(queue.store).submit(command="mine")
    before = place.export()
    with pytest.raises(TransferRefused, match="is not empty"):
        place.fill(exported)
    assert place.export() == before


@pytest.mark.parametrize("name", [LOGS, RESULTS])
def test_files_of_another_queue_are_let_alone(new_place, exported, name):
    place = new_place("sqlite")
    (place.folder / name / "0").mkdir(parents=True)
    (place.folder / name / "0" / "theirs").write_text("theirs")
    with pytest.raises(TransferRefused, match=f"{name} is not empty"):
        place.fill(exported)
    assert place.files() == {f"{name}/0/theirs": b"theirs"}


def test_ids_go_on_above_those_that_an_empty_queue_had(new_place, exported):
    highest = decode(exported.splitlines(keepends=True)[0])[1][2]
    for engine in ("sqlite", "postgres"):
        place = new_place(engine)
        with opened_at_rest(place.settings) as queue:
            store = Transacted(queue.store)
            ids = store.add(*[JobSpec(command="x")] * (highest + 5))
            for job_id in ids:
                store.cancel(job_id)
            store.delete(*ids)
            store(lambda raw, ids=ids: raw.forget_deleted(ids))
        place.fill(exported)
        with opened_at_rest(place.settings) as queue:
            assert Transacted(queue.store).submit() == highest + 6


def test_a_server_has_its_queue_for_itself(new_place, exported):
    place = new_place("sqlite")
    with opened_at_rest(place.settings):
        with pytest.raises(DataDirUnusable, match="in use by the server"):
            place.export()
        with pytest.raises(DataDirUnusable, match="in use by the server"):
            place.fill(exported)


def test_servers_that_share_a_queue_have_it_for_themselves(new_place, exported):
    place = new_place("postgres")
    with opened_at_rest(place.settings) as queue:
        store = Transacted(queue.store)
        now = queue.store.time(0.0)
        store(lambda raw: raw.enlist("life-1", "server", now))
        with pytest.raises(TransferRefused, match="a server runs on the queue"):
            place.export()
        with pytest.raises(TransferRefused, match="a server runs on the queue"):
            place.fill(exported)
        # One that was killed counts no more after its lease, and is not taken along.
        store(lambda raw: raw.beat(now - 16))
        assert place.export()
        place.fill(exported)
        assert queue.store.servers() == []
    assert place.export() == exported


def test_a_server_that_starts_meanwhile_is_noticed_at_the_end(new_place, postgres):
    place = new_place("postgres")
    written = []

    with opened_at_rest(place.settings) as other:

        def write(line):
            if not written:
                now = other.store.time(0.0)
                Transacted(other.store)(lambda raw: raw.enlist("life-1", "server", now))
            written.append(line)

        with opened_at_rest(place.settings) as queue, pytest.raises(TransferRefused):
            export_queue(queue, in_folder(place.folder), write)
    assert decode(written[-1])[0] is not END


def test_an_export_is_of_one_moment(new_place):
    place = new_place("postgres")
    with opened_at_rest(place.settings) as queue, opened_at_rest(place.settings) as other:
        queue.store.whole.begin_look()
        assert queue.store.whole.is_empty()
        Transacted(other.store).submit()
        assert queue.store.whole.is_empty()
        queue.store.rollback()
        assert not queue.store.whole.is_empty()


def test_what_breaks_at_the_commit_takes_the_files_back(new_place, exported, monkeypatch):
    place = new_place("sqlite")
    with opened_at_rest(place.settings, is_filled=True) as queue:
        monkeypatch.setattr(type(queue.store), "commit", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            import_queue(queue, BytesIO(exported), in_folder(place.folder), 1.0)
        monkeypatch.undo()
        assert queue.store.whole.is_empty()
    assert place.files() == {}


def test_a_commit_in_doubt_keeps_them(new_place, exported, monkeypatch):
    place = new_place("sqlite")

    def commit(store):
        store._db.execute("COMMIT")
        raise StoreBroken("the answer was lost")

    with opened_at_rest(place.settings, is_filled=True) as queue:
        monkeypatch.setattr(type(queue.store), "commit", commit)
        with pytest.raises(StoreBroken):
            import_queue(queue, BytesIO(exported), in_folder(place.folder), 1.0)
    assert place.export() == exported


# --- where things lie ---


def test_output_elsewhere_is_noticed(new_place, tmp_path):
    place = new_place("sqlite")
    fill(place)
    os.rename(place.folder / LOGS, tmp_path / "elsewhere")
    with pytest.raises(TransferRefused, match="--logs"):
        place.export()


def test_output_that_is_lost_is_told(new_place):
    place = new_place("sqlite")
    fill(place)
    for path in (place.folder / LOGS).rglob("*.seg"):
        path.unlink()
    data, done = place.export_and_tell()
    assert done.missing == 1  # of what runs nobody knows how much there was
    assert OUTPUT not in {decode(line)[0] for line in data.splitlines(keepends=True)}


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_where_there_is_no_queue_none_is_made_by_looking(tmp_path, postgres, engine):
    store = None if engine == "sqlite" else postgres.address(postgres.new_database())
    place = Place(tmp_path / "none", store)
    with pytest.raises(UnusableSettings, match="there is no queue at"):
        place.export()
    assert not place.folder.exists()


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "queue.jsonl"
    path.write_text("old")
    path.chmod(0o644)
    with pytest.raises(ZeroDivisionError), replaced(path) as file:
        file.write(b"half" * (1 // 0))
    assert (path.read_text(), os.listdir(tmp_path)) == ("old", ["queue.jsonl"])
    with replaced(path) as file:
        file.write(b"new")
        assert path.read_text() == "old"
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", 0o600)
    assert os.listdir(tmp_path) == ["queue.jsonl"]
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TransferRefused), replaced(tmp_path / "pipe"):
        pass


def test_a_disk_that_fails_leaves_nothing(new_place, exported, monkeypatch):
    place = new_place("sqlite")

    def fsync(file):
        raise OSError(errno.EIO, "Input/output error")

    with opened_at_rest(place.settings, is_filled=True) as queue:
        monkeypatch.setattr("queued_runner.transfer.files.os.fsync", fsync)
        with pytest.raises(StoreBroken, match="Input/output error; nothing of it is left"):
            import_queue(queue, BytesIO(exported), in_folder(place.folder), 1.0)
        monkeypatch.undo()
        assert queue.store.whole.is_empty()
    assert place.files() == {}


def test_nobody_becomes_a_server_while_a_queue_is_filled(new_place):
    place = new_place("postgres")
    with opened_at_rest(place.settings) as queue, opened_at_rest(place.settings) as other:
        other.store._db.execute("SET lock_timeout = '50ms'")
        queue.store.whole.begin_alone()
        for verb in (
            lambda raw: raw.add([JobSpec(command="x")], 1.0),
            lambda raw: raw.enlist("life-1", "server", 1.0),
        ):
            with pytest.raises(StoreAway):
                Transacted(other.store)(verb)
        queue.store.rollback()
        Transacted(other.store)(lambda raw: raw.enlist("life-2", "server", 1.0))
        assert Transacted(other.store).submit()
