"""Times before lines: each line has one, and nothing else is changed."""

import re

from hypothesis import given
from hypothesis import strategies as st

from queued_runner.cli.timestamps import Timestamps

TIME = re.compile(rb"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ", re.MULTILINE)

pieces = st.lists(
    st.tuples(
        st.sampled_from(["stdout", "stderr"]),
        st.integers(0, 2**41),
        st.lists(st.sampled_from([b"\n", b"a", b"\r", b"\xff"]), max_size=6).map(b"".join),
    )
)


@given(pieces)
def test_without_its_times_the_output_is_what_it_was(
    pieces: list[tuple[str, int, bytes]],
) -> None:
    stamps = Timestamps()
    stamped = {"stdout": b"", "stderr": b""}
    plain = dict(stamped)
    for stream, at_ms, data in pieces:
        stamped[stream] += stamps.stamp(stream, at_ms, data)
        plain[stream] += data
    for stream, data in plain.items():
        lines = data.count(b"\n") + (data[-1:] not in (b"", b"\n"))
        assert len(TIME.findall(stamped[stream])) == lines
        assert TIME.sub(b"", stamped[stream]) == data


def test_a_line_has_the_time_of_its_first_byte() -> None:
    stamps = Timestamps()
    assert stamps.stamp("stdout", 1, b"a\nb") == (
        b"1970-01-01T00:00:00.001Z a\n1970-01-01T00:00:00.001Z b"
    )
    assert stamps.stamp("stderr", 2, b"e\n") == b"1970-01-01T00:00:00.002Z e\n"
    assert stamps.stamp("stdout", 3, b"c\nd\n") == b"c\n1970-01-01T00:00:00.003Z d\n"
