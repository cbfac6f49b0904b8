"""Live streams: every byte is carried, and every event is a point to resume from."""

import msgpack
from hypothesis import given, settings
from hypothesis import strategies as st

from queued_runner.http.frames import MsgpackEncoder, SseEncoder, parse_resume
from queued_runner.queue import Record
from tests.http.events import bytes_of, parse_events

STREAMS = ("stdout", "stderr")
letters = st.sampled_from(["a", "\n", "é", "€", "😀"]).map(str.encode)
texts = st.lists(letters, max_size=4).map(b"".join)


@st.composite
def records(draw):
    """Text and rubbish of both streams, cut anywhere, so that characters are cut and mixed."""
    rest = {name: draw(texts) + draw(st.binary(max_size=3)) + draw(texts) for name in STREAMS}
    found, offset = [], 0
    while any(rest.values()):
        name = draw(st.sampled_from([name for name in STREAMS if rest[name]]))
        size = draw(st.integers(1, min(4, len(rest[name]))))
        found.append(Record(offset, 5, name, rest[name][:size]))
        rest[name] = rest[name][size:]
        offset += size
    return found


def whole(found, stream):
    return b"".join(record.data for record in found if record.stream == stream)


def part(record, begin, end):
    """What of a record lies between two offsets."""
    start = max(begin, record.offset)
    data = record.data[start - record.offset : max(end - record.offset, 0)]
    return Record(start, record.at_ms, record.stream, data)


def encode(encoder, found):
    body = b"".join(encoder.record(record) for record in found if record.data)
    return parse_events(body + encoder.end({"state": "succeeded"}))


def resumed(point, found):
    """An encoder for one who has everything up to `point`, where these records are stored."""
    encoder = SseEncoder(point.offset, owed=point.owed)
    for begin, end in point.owed:
        for record in found:
            if part(record, begin, end).data:
                encoder.take_back(part(record, begin, end))
    return encoder


@given(records())
def test_every_byte_is_carried_and_every_event_is_a_point_to_resume_from(found):
    events = encode(SseEncoder(), found)
    size = sum(len(record.data) for record in found)
    assert events[-1] == ("end", str(size), {"state": "succeeded"})
    for index, (_, text, _) in enumerate(events):
        point = parse_resume(text)
        rest = encode(resumed(point, found), [part(r, point.offset, size) for r in found])
        for name in STREAMS:
            parts = bytes_of(events[: index + 1], name), bytes_of(rest, name)
            assert b"".join(parts) == whole(found, name)


@given(records(), st.integers(0, 60))
def test_what_is_owed_may_come_with_the_records(found, stored):
    """A killed server had sent what its next life does not have yet: it comes once more."""
    events = encode(SseEncoder(), found)
    size = sum(len(record.data) for record in found)
    for index, (_, text, _) in enumerate(events):
        point = parse_resume(text)
        encoder = resumed(point, [part(record, 0, stored) for record in found])
        rest = encode(encoder, [part(r, encoder.start, size) for r in found])
        for name in STREAMS:
            parts = bytes_of(events[: index + 1], name), bytes_of(rest, name)
            assert b"".join(parts) == whole(found, name)
        for later, (_, again, _) in enumerate(rest):  # and each of its events is such a point, too
            full = resumed(parse_resume(again), found)
            end = encode(full, [part(r, parse_resume(again).offset, size) for r in found])
            for name in STREAMS:
                parts = bytes_of(events[: index + 1] + rest[: later + 1], name), bytes_of(end, name)
                assert b"".join(parts) == whole(found, name)


@given(texts, st.lists(st.integers(0, 20)))
def test_no_character_is_split(text, cuts):
    edges = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    found = [Record(a, 0, "stdout", text[a:b]) for a, b in zip(edges, edges[1:], strict=False)]
    events = encode(SseEncoder(), found)
    assert "".join(data["text"] for name, _, data in events if name == "stdout") == text.decode()


@settings(max_examples=20)
@given(records(), st.integers(1, 30))
def test_a_gap_is_told(found, size):
    encoder = SseEncoder()
    end = sum(len(record.data) for record in found)
    body = b"".join(encoder.record(record) for record in found)
    events = parse_events(body + encoder.record(Record(end + size, 0, "stdout", b"x")))
    assert [data for name, _, data in events if name == "gap"] == [{"from": end, "to": end + size}]


@settings(max_examples=20)
@given(records())
def test_messagepack_carries_the_records_as_they_are(found):
    encoder = MsgpackEncoder()
    body = b"".join(encoder.record(record) + encoder.keep_alive() for record in found)
    unpacker = msgpack.Unpacker()
    unpacker.feed(encoder.begin() + body + encoder.end({"state": "failed"}))
    *values, end = [value for value in unpacker if value is not None]
    assert values == [[r.offset, r.at_ms, r.stream, r.data] for r in found]
    assert end == {"state": "failed"}


@given(st.text(alphabet="0123456789~-", max_size=12) | st.text(max_size=5))
def test_any_text_is_a_point_or_none(text):
    point = parse_resume(text)
    if point is not None:
        assert all(begin < end <= point.offset for begin, end in point.owed)
