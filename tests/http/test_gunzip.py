"""Gzip inflated within its bound, however it is cut up."""

import gzip
import tracemalloc

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from queued_runner.http.gunzip import INLINE, Gunzip, NotGzip, TooLarge

LIMIT = 4 * 1024 * 1024
PACKED = gzip.compress(b"x", mtime=0)


async def gunzip(*pieces: bytes, limit: int = LIMIT) -> bytes:
    inflating = Gunzip(limit)
    for piece in pieces:
        await inflating.feed(piece)
    return await inflating.finish()


@given(
    st.binary(max_size=300).flatmap(lambda data: st.sampled_from([data, data * 2000])),
    st.lists(st.integers(0, 2000), max_size=5),
)
def test_what_was_packed_comes_out_however_it_is_cut(data: bytes, cuts: list[int]) -> None:
    packed = gzip.compress(data)
    edges = [0, *sorted(cuts), len(packed)]
    pieces = [packed[begin:end] for begin, end in zip(edges, edges[1:], strict=False)]
    assert trio.run(lambda: gunzip(*pieces)) == data


@pytest.mark.parametrize("size", [0, 1, INLINE - 1, INLINE, INLINE + 1, LIMIT])
async def test_sizes_around_the_borders(size: int) -> None:
    assert await gunzip(gzip.compress(bytes(size))) == bytes(size)


async def test_a_bomb_costs_no_more_than_the_limit() -> None:
    bomb = gzip.compress(bytes(256 * 1024 * 1024))
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            await gunzip(bomb)
        assert tracemalloc.get_traced_memory()[1] < 4 * LIMIT
    finally:
        tracemalloc.stop()
    with pytest.raises(TooLarge):
        await gunzip(gzip.compress(bytes(LIMIT + 1)))


@pytest.mark.parametrize("body", [b"no", b"\x1f\x8b", PACKED[:-1], PACKED + b"y", bytes(20)])
async def test_what_is_not_one_whole_gzip_is_said_to_be_none(body: bytes) -> None:
    with pytest.raises(NotGzip):
        await gunzip(body)


async def test_nothing_is_nothing() -> None:
    assert await gunzip() == await gunzip(b"") == b""


async def test_others_run_while_much_is_inflated() -> None:
    """The event loop is free meanwhile: what is inflated waits for a thread, the others do not."""
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    packed = gzip.compress(bytes(range(256)) * (LIMIT // 256))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(turn)
        await trio.lowlevel.checkpoint()
        turns = 0
        await gunzip(packed)
        nursery.cancel_scope.cancel()
    assert turns > 0
