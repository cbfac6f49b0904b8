"""Who is a relative of whom, in every process table there can be."""

from hypothesis import given
from hypothesis import strategies as st

from simple_worker.family import relatives
from simple_worker.tree import Facts

PIDS = st.integers(1, 12)
TABLES = st.dictionaries(PIDS, st.builds(Facts, PIDS, PIDS, st.just(0)))


@given(TABLES, st.sets(PIDS))
def test_relatives_are_the_founders_and_whoever_is_bound_to_a_relative_and_nobody_else(
    processes, founders
):
    found = relatives(processes, founders)
    bound = found | founders
    for pid, facts in processes.items():
        is_bound = pid in founders or facts.parent in bound or facts.session in bound
        assert (pid in found) == is_bound
    assert found <= processes.keys()


def test_a_dead_founder_leaves_its_session_and_a_stranger_is_none():
    processes = {
        3: Facts(parent=1, session=2, start=0),
        4: Facts(parent=3, session=4, start=0),
        5: Facts(parent=1, session=5, start=0),
    }
    assert relatives(processes, {2}) == {3, 4}
