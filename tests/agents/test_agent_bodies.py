"""What agents may send: whatever it is, it is decoded or refused, within its bounds."""

import base64
import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queued_runner.http.agent_bodies import (
    MAX_TOLD,
    Chunk,
    HeartbeatRequest,
    Invalid,
    Malformed,
    PullRequest,
    StatusRequest,
    decode,
)

KINDS = (PullRequest, Chunk, StatusRequest, HeartbeatRequest)
FIELDS = sorted({name for kind in KINDS for name in kind.__struct_fields__})
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
VALUES = st.recursive(
    SCALARS | st.sampled_from(["stdout", "failed", "exit", "worker-lost", "eA=="]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
)


@given(st.sampled_from(KINDS), st.binary(max_size=50) | st.builds(
    lambda fields: json.dumps(fields).encode(),
    st.dictionaries(st.sampled_from(FIELDS), VALUES) | VALUES,
))  # fmt: skip
def test_whatever_comes_is_one_of_these_or_refused_in_words(kind, body):
    try:
        assert isinstance(decode(kind, body), kind)
    except (Malformed, Invalid) as error:
        assert str(error)


@given(st.text(), st.binary(min_size=1))
def test_a_chunk_is_the_bytes_that_were_sent(text, data):
    text = text.encode("utf-8", "ignore").decode()
    lines = json.dumps({"kind": "stdout", "index": 3, "content": text}).encode()
    assert decode(Chunk, lines).data() == f"{text}\n".encode()
    packed = json.dumps({"kind": "stderr", "index": 0, "base64": base64.b64encode(data).decode()})
    assert decode(Chunk, packed.encode()).data() == data


@pytest.mark.parametrize(
    ("kind", "head", "item", "tail", "size"),
    [
        (Chunk, b"[", b"[],", b"[]]", 8 << 20),
        (Chunk, b'{"kind":"stdout","index":0,"content":"","x":[', b"[],", b"[]]}", 8 << 20),
        (Chunk, b'{"kind":"stdout","index":0,"content":""', b',"x":{}', b"}", 8 << 20),
        (Chunk, b"", b"[", b"", 8 << 20),
        (PullRequest, b'{"held":[', b'"x",', b'"x"]}', MAX_TOLD),
        (PullRequest, b'{"held":[', b"1,", b"1]}", MAX_TOLD),
        (PullRequest, b'{"labels":{', b'"0":1,', b'"0":1}}', MAX_TOLD),
    ],
)
def test_no_body_takes_much_more_memory_than_it_has_bytes(kind, head, item, tail, size):
    body = head + item * (size // len(item)) + tail
    tracemalloc.start()
    try:
        decode(kind, body)
    except (Malformed, Invalid) as error:
        assert len(str(error)) < 200
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 2 * len(body)


def test_names_have_no_line_ends():
    with pytest.raises(Invalid) as caught:
        decode(PullRequest, b'{"name":"a\\n"}')
    assert caught.value.field == "name"
    assert decode(PullRequest, '{"name":"\u00e4 b"}'.encode()).name == "ä b"
