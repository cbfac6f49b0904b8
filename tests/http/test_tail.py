"""The last lines: where they begin, however the output was cut into records."""

import pytest
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


async def test_the_route(client, queue) -> None:
    await client.post("/api/v1/jobs", json={"command": "a"})
    queue.start(1)
    for index in range(2000):
        queue.write(1, "stdout" if index % 2 else "stderr", b"%03d\n" % (index % 1000))
    for query, body, offset in [
        ("tail=2", b"998\n999\n", 7992),
        ("tail=2&stream=stderr", b"996\n998\n", 7984),
        ("tail=0", b"", 8000),
        ("tail=2&limit=4", b"998\n", 7992),
        ("tail=2&offset=7997", b"99\n", 7997),
        ("tail=2&limit=0", b"", 7992),
    ]:
        response = await client.get(f"/api/v1/jobs/1/logs?{query}")
        assert (response.status_code, response.content) == (200, body)
        assert response.headers["x-log-offset"] == str(offset)


@pytest.mark.parametrize("tail", ["-1", "x", "100001", "1.5", ""])
async def test_garbage_is_refused_by_name(client, queue, tail: str) -> None:
    await client.post("/api/v1/jobs", json={"command": "a"})
    response = await client.get(f"/api/v1/jobs/1/logs?tail={tail}")
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "tail"
