"""What a peer may send, for hypothesis: messages of either side, mutated bytes, and time."""

from hypothesis import strategies as st

from remote_runner.protocol.framing import Codec, encode
from remote_runner.protocol.messages import (
    MAX_INTEGER,
    Ack,
    Attempts,
    Close,
    Closed,
    Draining,
    Goodbye,
    Hello,
    Kill,
    OutputChunk,
    Ping,
    Pong,
    Ready,
    Refused,
    ResultChunk,
    Resume,
    Spawn,
    SpawnOptions,
    Stale,
    Started,
    Stdin,
    StdinEnd,
    Welcome,
    Withdraw,
)
from remote_runner.protocol.wire import to_wire

IDS = ("1.1", "2.1", "9.9")
ids = st.sampled_from(IDS)
numbers = st.sampled_from((0, 1, 3, 4, 7, 4096, MAX_INTEGER))
maybe_numbers = st.none() | numbers
texts = st.sampled_from(("", "x", "\0\n", "SIGTERM", "exit", "killed", "spawn-error"))
blobs = st.sampled_from((b"", b"abc", b"\xff\0", b"x" * 5000))
states = st.sampled_from(("running", "ended"))
lists = st.lists(st.tuples(ids, states, numbers), max_size=3).map(tuple)

FROM_WORKER = st.one_of(
    st.builds(OutputChunk, st.sampled_from(("stdout", "stderr")), blobs, ids, numbers),
    st.builds(OutputChunk, st.sampled_from(("stdout", "stderr")), blobs),
    st.builds(
        Close, maybe_numbers, ids, texts, texts, maybe_numbers, maybe_numbers, maybe_numbers,
        maybe_numbers, maybe_numbers,
    ),
    st.builds(ResultChunk, blobs, ids, numbers),
    st.builds(Close, maybe_numbers),
    st.builds(Started, ids, numbers, numbers),
    st.builds(Refused, ids, texts),
    st.builds(Attempts, lists),
    st.builds(Ready, numbers),
    st.builds(Ping, numbers),
    st.builds(Pong, numbers),
    st.just(Draining()),
    st.builds(Goodbye, texts, texts, maybe_numbers),
    st.builds(
        Hello, st.just((1, 1)), st.sampled_from(("liar", "other")), texts, texts, numbers,
        st.just({}), texts, st.none(), st.sampled_from(((), ("mask", ""), ("ahead",))), numbers,
    ),
)  # fmt: skip

options = st.builds(
    SpawnOptions,
    id=ids,
    timeout_ms=maybe_numbers,
    kill_grace_ms=maybe_numbers,
    kill_signal=st.none() | texts,
    stdin=st.sampled_from(("ignore", "pipe")),
    max_output=maybe_numbers,
    detach_ms=maybe_numbers,
    max_results=maybe_numbers,
    mask=st.sampled_from(((), ("",), ("talk", "\0\n"))),
    shell=st.booleans(),
)
FROM_RUNNER = st.one_of(
    st.builds(Spawn, st.sampled_from(("talk", "sleep", "nothing")), st.just(()), options),
    st.builds(Welcome, numbers, texts, numbers, numbers, numbers, numbers),
    st.builds(Resume, ids, numbers, numbers),
    st.builds(Ack, ids, numbers),
    st.builds(Closed, ids),
    st.builds(Stale, ids),
    st.builds(Kill, ids, st.none() | texts, maybe_numbers),
    st.builds(Withdraw, ids),
    st.builds(Stdin, ids, blobs),
    st.builds(StdinEnd, ids),
    st.builds(Ping, numbers),
    st.builds(Pong, numbers),
    st.builds(Goodbye, texts, texts, st.sampled_from((None, 0, 1, 4096))),
)


def encoded(messages: st.SearchStrategy) -> st.SearchStrategy[bytes]:
    """The bytes of a message, most of them as they should be."""
    good = messages.map(lambda message: encode(Codec.MSGPACK, to_wire(message)))
    return st.one_of(good, good, good, good, st.builds(_mutated, good, st.data()))


def _mutated(data: bytes, source: st.DataObject) -> bytes:
    changed = bytearray(data)
    place = source.draw(st.integers(0, len(changed) - 1))
    if source.draw(st.booleans()):
        changed[place] = source.draw(st.integers(0, 255))
    else:
        del changed[place:]
    return bytes(changed)
