"""`Window`: whatever is acknowledged or resumed when, every byte goes out once and in order."""

from hypothesis import given
from hypothesis import strategies as st

from simple_worker.window import BLOCK, WINDOW, Window

streams = st.sampled_from(["stdout", "stderr"])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), streams, st.binary(min_size=1, max_size=40)),
        st.tuples(st.just("next"), st.integers(1, 30), st.none()),
        st.tuples(st.just("ack"), st.integers(0, 300), st.none()),
        st.tuples(st.just("resume"), st.integers(0, 300), st.none()),
    ),
    max_size=60,
)


def take_all(window, limit=7):
    outputs = []
    while (output := window.next(limit)) is not None:
        assert 1 <= len(output.data) <= limit
        outputs.append(output)
    return outputs


@given(steps)
def test_every_byte_goes_out_once_in_order_from_where_it_was_resumed(script):
    window, written, expected = Window(), [], 0
    for kind, first, second in script:
        if kind == "add":
            window.add(first, second)
            written += [(first, byte) for byte in second]
        elif kind == "ack":
            window.ack(first)
            expected = max(expected, min(first, len(written)))
        elif kind == "resume":
            window.resume(first)
            expected = max(min(first, len(written)), window.acked)
        elif (output := window.next(first)) is not None:
            assert output.offset == expected
            expected += len(output.data)
            assert written[output.offset : expected] == [(output.stream, b) for b in output.data]
    rest = [(output.stream, byte) for output in take_all(window) for byte in output.data]
    assert rest == written[expected:]
    assert window.sent == window.size == len(written)


@given(st.lists(st.tuples(streams, st.binary(min_size=1, max_size=5)), max_size=30))
def test_what_is_not_acknowledged_comes_again(pieces):
    window = Window()
    for stream, data in pieces:
        window.add(stream, data)
    first = take_all(window)
    window.resume(0)
    assert take_all(window) == first
    window.ack(window.size)
    window.resume(0)
    assert take_all(window) == []


@given(st.integers(0, 20), st.integers(0, 20), st.integers(1, 9))
def test_what_has_only_arrived_may_be_asked_for_again(first, second, limit):
    window = Window()
    window.add("stdout", b"0123456789")
    window.add("stderr", b"abcdefghij")
    take_all(window)
    window.resume(first)
    take_all(window, limit)
    window.resume(second)
    assert b"".join(o.data for o in take_all(window)) == b"0123456789abcdefghij"[second:]


def test_it_is_full_until_acknowledged():
    window = Window()
    while not window.is_full:
        window.add("stdout", bytes(BLOCK))
    assert WINDOW - 2 * BLOCK <= window.size <= WINDOW + BLOCK
    take_all(window, BLOCK)
    assert window.is_full
    window.ack(2 * BLOCK)
    assert not window.is_full


def test_single_bytes_of_one_stream_cost_no_more_than_a_block():
    window = Window()
    for _ in range(100_000):
        window.add("stdout", b"x")
    assert not window.is_full
    assert [len(output.data) for output in take_all(window, BLOCK)] == [BLOCK, 100_000 - BLOCK]


def test_single_bytes_of_alternating_streams_fill_it_by_what_they_cost():
    window = Window()
    while not window.is_full:
        window.add("stdout", b"o")
        window.add("stderr", b"e")
    assert window.size < WINDOW / 200
