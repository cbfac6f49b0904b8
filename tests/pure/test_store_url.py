"""`parse_store`: what a store may be, and that nobody is shown its password."""

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queued_runner.store.url import parse_store
from remote_runner.errors import UnusableSettings


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("sqlite:///queue.db", Path("queue.db")),
        ("sqlite:////var/lib/q.db", Path("/var/lib/q.db")),
        ("sqlite:///a b/ü.db", Path("a b/ü.db")),
    ],
)
def test_a_file_belongs_to_one_server(text, path):
    store = parse_store(text)
    assert store.path == path
    assert not store.is_shared
    assert not store.has_password


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://", "postgres:///queue", "postgresql://db/queue", "postgresql://me@db:5432/queue",
        "postgresql://me@[::1]:5432/queue", "postgresql://a:1,b:2/queue?target_session_attrs=any",
        "postgresql:///queue?host=/run/postgresql&passfile=/etc/queue/pgpass",
        "postgresql://me@db/queue?sslmode=verify-full", "postgresql://m%40e@db",
    ],
)  # fmt: skip
def test_a_database_is_shared(text):
    store = parse_store(text)
    assert store.is_shared
    assert store.url == store.shown == text
    assert not store.has_password


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:pw@db/queue", "postgresql://me@db/queue"),
        ("postgres://me:pw@db:1,c/queue?a=b", "postgres://me@db:1,c/queue?a=b"),
        ("postgresql://:pw@db", "postgresql://@db"),
        ("postgresql://me:@db", "postgresql://me@db"),
        ("postgresql://me:p:w@x@db", "postgresql://me@db"),
        ("postgresql://me:p?w#@db", "postgresql://me@db"),
        ("postgresql://db/queue?password=pw", "postgresql://db/queue"),
        ("postgresql://db/queue?a=b&%70assword=pw&c=d", "postgresql://db/queue?a=b&c=d"),
        ("postgresql://db/queue?sslpassword=pw&c=d", "postgresql://db/queue?c=d"),
    ],
)
def test_a_password_is_seen_and_not_shown(text, shown):
    store = parse_store(text)
    assert store.has_password
    assert store.url == text
    assert store.shown == shown
    assert text not in repr(store)


@pytest.mark.parametrize(
    "text",
    [
        "", "queue.db", "sqlite://queue.db", "sqlite:///", "sqlite:///q.db?mode=ro", "mysql://db/q",
        "postgresql:me@db", "postgresqls://db", "host=db password=secret", "postgresql://me:secret/x@db",
        "postgresql://secret@with@at/db", "postgresql://db:secret/q", "postgresql://db/q#secret",
        " postgresql://db", "POSTGRESQL://db",
    ],
)  # fmt: skip
def test_anything_else_is_refused_and_not_repeated(text):
    with pytest.raises(UnusableSettings) as caught:
        parse_store(text)
    assert "secret" not in str(caught.value)


names = st.text(min_size=1, max_size=12)


@given(names, st.text(min_size=9, max_size=20), names)
def test_no_password_gets_through(user, password, database):
    user, database = (quote(text, safe="") for text in (user, database))
    quoted = quote(f"<{password}>", safe="")
    plain = f"postgresql://{user}@db/{database}"
    assert parse_store(f"postgresql://{user}:{quoted}@db/{database}").shown == plain
    assert parse_store(f"{plain}?password={quoted}").shown == plain


@given(st.sampled_from(["postgresql://", "sqlite:///", ""]), st.text(max_size=40))
def test_any_text_is_a_store_or_gets_a_sentence(scheme, text):
    try:
        store = parse_store(scheme + text)
    except UnusableSettings as error:
        assert "sqlite:///" in str(error)
    else:
        assert store.is_shared == (store.path is None)
