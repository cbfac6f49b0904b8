"""A queue as lines of JSON: what is written is read, and nothing else is."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queued_runner.transfer.format import (
    END,
    HEADER,
    ORDER,
    OUTPUT,
    RESULT,
    VERSION,
    Order,
    Seal,
    decode,
    encode,
)

SHAPES = {shape.name: shape for shape in ORDER}
WHOLE = 1 << 63
VALUES = {
    "INTEGER": st.integers(1 - WHOLE, WHOLE - 1),
    "REAL": st.floats(-1e18, 1e18),
    # Whatever Python calls text: halves of characters, NUL, newlines.
    "TEXT": st.text(st.characters(exclude_categories=())),
    "BLOB": st.binary(),
}


def row_of(shape):
    return st.tuples(
        *(
            st.none() | VALUES[column.kind] if column.may_be_null else VALUES[column.kind]
            for column in shape.columns
        )
    )


rows = st.sampled_from(ORDER).flatmap(lambda shape: st.tuples(st.just(shape), row_of(shape)))


@given(rows)
def test_a_row_is_one_line_and_comes_back(given_row):
    shape, row = given_row
    line = encode(shape, row)
    assert line.count(b"\n") == 1
    assert decode(line) == (shape, row)
    assert encode(*decode(line)) == line


@given(rows, st.data())
def test_no_part_of_a_line_is_a_line(given_row, data):
    line = encode(*given_row)
    with pytest.raises(ValueError):
        decode(line[: data.draw(st.integers(0, len(line) - 1))])


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(st.binary() | values.map(lambda value: json.dumps(value).encode()))
def test_anything_else_is_refused(data):
    with pytest.raises(ValueError):
        decode(data + b"\n")


@given(rows, st.data(), values)
def test_a_field_of_another_kind_is_refused_or_read(given_row, data, value):
    shape, row = given_row
    fields = json.loads(encode(shape, row))[shape.name]
    fields[data.draw(st.sampled_from(shape.columns)).name] = value
    try:
        decode(json.dumps({shape.name: fields}).encode() + b"\n")
    except ValueError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b'{"settling": {"job_id": 1, "told_to": 0}}', "torn"),
        (b"\xff\n", "not JSON"),
        (b"[" * 100_000 + b"\n", "not JSON"),
        (b'{"deleted": {"job_id": ' + b"1" * 5000 + b"}}\n", "not JSON"),
        (b'{"deleted": {"job_id": 1}, "settling": {}}\n', "not one row"),
        (b'{"servers": {}}\n', "a table that this release does not know"),
        (b'{"deleted": {"job_id": 1, "more": 1}}\n', "a field that deleted has not"),
        (b'{"deleted": [1]}\n', "a field that deleted has not"),
        (b'{"deleted": {}}\n', "it has no job_id"),
        (b'{"deleted": {"job_id": null}}\n', "it has no job_id"),
        (b'{"deleted": {"job_id": true}}\n', "its job_id is no INTEGER"),
        (b'{"deleted": {"job_id": 1.0}}\n', "its job_id is no INTEGER"),
        (b'{"deleted": {"job_id": 9223372036854775808}}\n', "its job_id is no INTEGER"),
        (b'{"drained_workers": {"worker_id": "a", "name": "a", "at": NaN}}\n', "no REAL"),
        (b'{"drained_workers": {"worker_id": "a", "name": "a", "at": 1e999}}\n', "no REAL"),
        (b'{"drained_workers": {"worker_id": "a", "name": 1, "at": 1}}\n', "its name is no TEXT"),
        (
            b'{"results": {"job_id": 1, "number": 1, "head": "?", "start": 1, "epoch": 0}}\n',
            "its head is not base64",
        ),
    ],
)
def test_what_is_wrong_is_said(line, why):
    with pytest.raises(ValueError, match=why):
        decode(line)


BEGIN = (HEADER, (VERSION, "q", 9))


def piece(job_id, offset, data=b"abc", *, number=1, stream="stdout"):
    return OUTPUT, (job_id, number, offset, 5, stream, data)


def result(job_id, offset, epoch=0):
    return RESULT, (job_id, 1, epoch, offset, b"abc")


def deleted(job_id):
    return SHAPES["deleted"], (job_id,)


def after(after_id, job_id):
    return SHAPES["dependencies"], (after_id, job_id, 1)


LAST = (END, (1, "x"))


@pytest.mark.parametrize(
    "rows",
    [
        [BEGIN, LAST],
        [BEGIN, after(1, 9), after(2, 3), after(2, 4), deleted(3), deleted(8), LAST],
        [BEGIN, piece(1, 0), piece(1, 3, b"d"), piece(1, 4), piece(1, 0, number=2), LAST],
        [BEGIN, result(1, 0), result(1, 3), result(1, 0, 1), result(2, 0), LAST],
    ],
)
def test_rows_in_their_order(rows):
    order = Order()
    for row in rows:
        assert not order.is_whole
        order.check(*row)
    assert order.is_whole


@pytest.mark.parametrize(
    "rows",
    [
        [deleted(1)],
        [LAST],
        [(HEADER, (VERSION + 1, "q", 9))],
        [(HEADER, (VERSION, "", 9))],
        [(HEADER, (VERSION, "q", -1))],
        [BEGIN, BEGIN],
        [BEGIN, deleted(2), deleted(2)],
        [BEGIN, deleted(2), deleted(1)],
        [BEGIN, deleted(0)],
        [BEGIN, deleted(2), after(3, 4)],
        [BEGIN, after(2, 3), after(1, 4)],
        [BEGIN, piece(1, 1)],
        [BEGIN, piece(1, 0), piece(1, 2)],
        [BEGIN, piece(1, 0), piece(2, 3)],
        [BEGIN, piece(2, 0), piece(1, 0)],
        [BEGIN, piece(1, 0, b"")],
        [BEGIN, piece(1, 0, stream="stdin")],
        [BEGIN, piece(-1, 0)],
        [BEGIN, piece(1, 0, number=0)],
        [BEGIN, result(1, 0), piece(1, 0)],
        [BEGIN, result(1, 3)],
        [BEGIN, result(1, 0, -1)],
        [BEGIN, LAST, LAST],
        [BEGIN, LAST, deleted(1)],
    ],
)
def test_rows_out_of_order(rows):
    *before, last = rows
    order = Order()
    for row in before:
        order.check(*row)
    with pytest.raises(ValueError):
        order.check(*last)


def test_a_job_above_all_ids_is_refused():
    job = tuple(10 if column.name == "id" else None for column in SHAPES["jobs"].columns)
    order = Order()
    order.check(*BEGIN)
    with pytest.raises(ValueError, match="higher than any"):
        order.check(SHAPES["jobs"], job)


@given(st.lists(st.integers().map(lambda n: b"%d\n" % n), unique=True, min_size=2))
def test_a_seal_is_of_these_lines_in_this_order(lines):
    def seal(lines):
        seal = Seal()
        for line in lines:
            seal.add(line)
        return seal.end()

    assert seal(lines) == seal(list(lines))
    assert seal(lines) != seal(lines[::-1])
    assert seal(lines) != seal(lines[1:])
