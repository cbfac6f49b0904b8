"""The last lines: where they begin, however the output was cut into records."""

from hypothesis import given
from hypothesis import strategies as st

from queued_runner.http.tail import Tail
from queued_runner.queue import Record

outputs = st.lists(
    st.tuples(
        st.sampled_from(["stdout", "stderr"]),
        st.lists(st.sampled_from([b"\n", b"a", b"bc"]), min_size=1, max_size=6).map(b"".join),
    )
)


@given(outputs, st.integers(0, 8), st.sampled_from([None, "stdout", "stderr"]))
def test_what_follows_is_the_last_lines(
    output: list[tuple[str, bytes]], lines: int, stream: str | None
) -> None:
    tail = Tail(lines, stream, 0)
    offset = 0
    for name, data in output:
        tail.feed(Record(offset, 0, name, data))
        offset += len(data)
    whole = b"".join(data for name, data in output if stream in (None, name))
    place = rest = 0
    for name, data in output:
        if stream in (None, name):
            rest += len(data) - min(max(tail.offset - place, 0), len(data))
        place += len(data)
    last = whole.splitlines(keepends=True)[-lines:] if lines else []
    assert whole[len(whole) - rest :] == b"".join(last)


def test_it_begins_no_earlier_than_it_was_told() -> None:
    tail = Tail(5, None, 7)
    assert tail.offset == 7
    tail.feed(Record(7, 0, "stdout", b"a\nb\n"))
    assert tail.offset == 7
