"""Output at rest: records come back as they were, up to wherever a crash has cut the file."""

from hypothesis import given
from hypothesis import strategies as st

from queued_runner.log_files import Record, cut, decode_records, encode_record

pieces = st.lists(
    st.tuples(st.integers(0, 2**64 - 1), st.sampled_from(["stdout", "stderr"]), st.binary()),
    max_size=5,
)


def records_of(pieces, offset):
    records = []
    for at_ms, stream, data in pieces:
        records.append(Record(offset, at_ms, stream, data))
        offset += len(data)
    return records


@given(pieces, st.integers(0, 2**60), st.data())
def test_a_file_that_is_cut_gives_its_whole_records(pieces, offset, data):
    records = records_of(pieces, offset)
    parts = [encode_record(record) for record in records]
    whole = b"".join(parts)
    end = data.draw(st.integers(0, len(whole)))
    found, size = decode_records(whole[:end], offset)
    assert found == records[: len(found)]
    assert size == sum(map(len, parts[: len(found)])) <= end
    assert found == records or end < size + len(parts[len(found)])


@given(pieces, st.binary(max_size=40))
def test_rubbish_behind_the_records_harms_none_of_them(pieces, rubbish):
    records = records_of(pieces, 0)
    whole = b"".join(map(encode_record, records))
    found, size = decode_records(whole + rubbish, 0)
    assert found[: len(records)] == records
    assert len(whole) <= size <= len(whole) + len(rubbish)


@given(st.binary(max_size=20), st.integers(0, 99), st.integers(0, 150))
def test_a_record_is_read_from_any_offset_on(data, start, offset):
    rest = cut(Record(start, 5, "stderr", data), offset)
    assert rest.data == data[max(0, offset - start) :]
    assert rest.offset == max(start, offset)
    assert (rest.at_ms, rest.stream) == (5, "stderr")
