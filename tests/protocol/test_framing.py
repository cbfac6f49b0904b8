"""Bytes ⇄ values: any chunking gives the same values, any bytes give values or an error."""

import json
import tracemalloc

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_runner.errors import LocalProtocolError, RemoteProtocolError
from remote_runner.protocol.framing import (
    MAX_DEPTH,
    MAX_VALUE,
    Codec,
    JsonLinesDecoder,
    MsgpackDecoder,
    decoder,
    detect,
    encode,
)

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=50)
    | st.binary(max_size=300)
)
nested = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.text(max_size=8).filter(lambda k: k != "type"), inner, max_size=5)
    ),
    max_leaves=20,
)
events = st.lists(nested, max_size=6)


def feed_in_pieces(target, data, cuts):
    values = []
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    for start, end in zip(places, places[1:], strict=False):
        values += target.feed(data[start:end])
    return values


@given(st.lists(events, max_size=5), st.lists(st.integers(0, 10_000), max_size=20))
@pytest.mark.parametrize("codec", list(Codec))
def test_any_chunking_gives_the_same_values(codec, values, cuts):
    data = b"".join(encode(codec, value) for value in values)
    target = decoder(codec, MAX_VALUE)
    assert feed_in_pieces(target, data, cuts) == values
    assert not target.has_partial


@given(st.binary(max_size=2000), st.lists(st.integers(0, 2000), max_size=10))
@pytest.mark.parametrize("codec", list(Codec))
def test_any_bytes_give_lists_or_a_protocol_error(codec, data, cuts):
    whole: object
    try:
        whole = decoder(codec).feed(data)
    except RemoteProtocolError:
        whole = None
    try:
        pieces = feed_in_pieces(decoder(codec), data, cuts)
    except RemoteProtocolError:
        pieces = None
    assert whole == pieces
    assert whole is None or all(isinstance(value, list) for value in whole)


headers = st.sampled_from(
    [b"\x91", b"\x92", b"\x81\xa1k", b"\x82\xa1k", b"\xdc\x00\x01", b"\xdf\x00\x00\x00\x01\xa1k"]
)
wholes = st.sampled_from(
    [
        msgpack.packb(value, strict_types=True)
        for value in (
            None,
            1,
            "text",
            b"data",
            ["x" * 60],
            ["started", "1.1", {"pid": 5}],
            {"k": 1},
            2.5,
        )
    ]
    + [
        b"\xa1\xff",
        b"\xc1",
        b"\xd4\x05\x00",
        b"\xd6\xff\x00\x00\x00\x01",
        b"\x82\xa1k\x01\xa1k\x02",
    ]
    + [b"\xd7\xff" + bytes(8), b"\xc7\x00\x05", b"\x81\x05\x01"]
    + [
        header + bytes([size, 0xFF]) + bytes(size)
        for header in (b"\xc7", b"\xc8\0", b"\xc9\0\0\0")
        for size in (4, 8, 12)
    ]
)


@given(st.lists(st.binary(max_size=3) | headers | wholes | wholes, max_size=30))
def test_what_is_small_is_judged_as_what_comes_byte_by_byte(parts):
    data = b"".join(parts)

    def decoded(pieces):
        target, values = MsgpackDecoder(200), []
        try:
            for piece in pieces:
                values += target.feed(piece)
        except RemoteProtocolError as error:
            return str(error)
        return values

    assert decoded([data]) == decoded(data[at : at + 1] for at in range(len(data)))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x01", "expected an event"),
        (b"\x91\xc1", "0xc1"),
        (b"\x91\xd4\x01\x00", "not part of this protocol"),
        (b"\xdd\xff\xff\xff\xff", "limit is 1024"),
        (b"\x91" * (MAX_DEPTH + 2), "nested deeper"),
        (b"\x91\xc6\x00\x10\x00\x00", "larger than"),
        (b"\x91\xa2\xff\xff", "not valid MessagePack"),
        (b"\x91\x81\x01\x01", "keys of a map"),
        (b"\x91\x82\xa1a\x01\xa1a\x02", "twice"),
    ],
)
def test_a_broken_value_is_refused_with_a_sentence(data, words):
    with pytest.raises(RemoteProtocolError, match=words):
        MsgpackDecoder().feed(data)


@pytest.mark.parametrize(
    "line",
    [
        b"{}\n",
        b"nope\n",
        b"[NaN]\n",
        b'["a", {"type":"Buffer","data":[256]}]\n',
        b"[" * 3000 + b"\n",
    ],
)
def test_a_broken_line_is_refused(line):
    with pytest.raises(RemoteProtocolError):
        JsonLinesDecoder().feed(line)


halves = st.text(st.characters(min_codepoint=0xD800, max_codepoint=0xDFFF), min_size=1, max_size=3)


@given(st.text(max_size=5), halves, st.booleans())
def test_half_a_character_is_refused(text, half, is_key):
    """No file, no database and no codec but this one could hold it."""
    value = text + half + "."  # no two of them make a whole one
    line = json.dumps(["x", {value: 1} if is_key else value]).encode() + b"\n"
    whole = json.loads(line)
    try:
        json.dumps(whole, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        with pytest.raises(RemoteProtocolError, match="surrogates not allowed"):
            JsonLinesDecoder(MAX_VALUE).feed(line)
    else:  # a high half and a low one
        assert JsonLinesDecoder(MAX_VALUE).feed(line) == [whole]


def test_a_character_in_two_halves_is_one():
    assert JsonLinesDecoder().feed(b'["\\ud83d\\ude00"]\n') == [["\U0001f600"]]


def test_nested_headers_cost_no_memory():
    bomb = b"\xdc\x04\x00" * 5000
    tracemalloc.start()
    for _ in range(100):
        with pytest.raises(RemoteProtocolError):
            MsgpackDecoder().feed(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200_000


def test_an_idle_decoder_keeps_nothing():
    target = MsgpackDecoder(MAX_VALUE)
    data = msgpack.packb(["stdout", b"x" * 500_000])
    assert target.feed(data[:400_000]) == []
    assert len(target.feed(data[400_000:])) == 1
    tracemalloc.start()
    assert target.feed(b"") == []
    assert not target.has_partial
    tracemalloc.stop()


def test_json_buffers_and_strings_are_both_bytes_on_the_wire():
    line = json.dumps(["stdout", {"type": "Buffer", "data": [104, 105]}]).encode() + b"\n"
    assert JsonLinesDecoder().feed(line) == [["stdout", b"hi"]]
    assert encode(Codec.JSON_LINES, ["stdout", b"hi"]) == line.replace(b", ", b", ")


@pytest.mark.parametrize(
    ("first", "codec"),
    [(0x5B, Codec.JSON_LINES), (0x92, Codec.MSGPACK), (0xDC, Codec.MSGPACK)],
)
def test_the_first_byte_tells_the_codec(first, codec):
    assert detect(first) is codec


@pytest.mark.parametrize(("first", "reply"), [(b"G", b"HTTP/1.1 400"), (b"\x16", b"This is")])
def test_a_stranger_gets_an_answer_that_a_person_understands(first, reply):
    with pytest.raises(RemoteProtocolError) as caught:
        detect(first[0])
    assert caught.value.reply.startswith(reply)


@pytest.mark.parametrize("value", [[object()], [2**70], [{1, 2}]])
def test_what_cannot_travel_is_our_bug(value):
    with pytest.raises(LocalProtocolError):
        encode(Codec.MSGPACK, value)
    assert encode(Codec.MSGPACK, ["ok"]) == msgpack.packb(["ok"])
