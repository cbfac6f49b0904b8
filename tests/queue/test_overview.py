"""How often a server looks at its workers for those who ask why jobs wait."""

from types import SimpleNamespace

from queued_runner.overview import SHARE, Overview


async def test_a_look_holds_for_as_long_as_it_is_dear(mock_clock):
    looks = []

    def own_workers():
        mock_clock.jump(cost)
        looks.append(len(looks))
        return looks[:]

    overview = Overview(
        None, SimpleNamespace(is_shared=False), None,
        own_workers=own_workers, own_attempts=lambda: 0,
    )  # fmt: skip
    cost = 0.0
    assert [len(await overview.recent_workers()) for _ in range(3)] == [1, 2, 3]
    cost = 0.04
    assert [len(await overview.recent_workers()) for _ in range(3)] == [4, 4, 4]
    mock_clock.jump(SHARE * cost)
    assert len(await overview.recent_workers()) == 5
