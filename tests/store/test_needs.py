"""Needs as text, and the slots that claims fill: against the plain meaning of both."""

from ast import literal_eval
from bisect import bisect_right

from hypothesis import given
from hypothesis import strategies as st

from queued_runner.store.needs import needs_text, satisfied_needs, slots_of
from queued_runner.store.room import Room
from remote_runner.types import Offer, Slot, satisfies

# Few and close to each other, so that they meet; characters on both sides of the separators.
words = st.sampled_from(["a", "b", "ab", "a\t", "a b", "é", "~", "zz"])
values = st.sampled_from(["", "1", "2", "a", "\n", "1\n", "1\x01", "\\", "\\x01", "~"])
labels = st.dictionaries(words, values, max_size=4)
wanted = st.tuples(labels, st.sampled_from([1, 1, 2, 3, 10, 11]))
"""What a job needs: labels, and slots."""


def seek_in(texts):
    """An index over some texts, as a database has it, that counts the looks into it."""
    ordered = sorted(texts)

    def seek(after):
        seek.count += 1
        at = bisect_right(ordered, after)
        return ordered[at] if at < len(ordered) else None

    seek.count = 0
    return seek


@given(wanted, wanted)
def test_texts_are_equal_for_equal_needs_alone(one, other):
    assert (needs_text(*one) == needs_text(*other)) == (one == other)
    assert slots_of(needs_text(*one)) == one[1]


@given(labels, st.integers(0, 12), st.lists(wanted, max_size=12))
def test_the_walk_finds_what_the_labels_satisfy(ours, most, queued):
    index = {needs_text(*wants): wants for wants in queued}
    found = list(satisfied_needs(ours, seek_in(index), most))
    expected = {
        text
        for text, (needs, slots) in index.items()
        if satisfies(ours, needs) and (slots == 1 or slots <= most)
    }
    assert set(found) == expected | {""}
    assert len(found) == len(set(found))


def test_a_million_needs_for_others_cost_a_few_looks():
    index = [needs_text({"host": f"h{number}"}) for number in range(100_000)]
    seek = seek_in([*index, needs_text({"os": "linux"})])
    ours = {f"label-{number}": "x" for number in range(100)} | {"host": "h500", "os": "linux"}
    found = list(satisfied_needs(ours, seek))
    assert found == ["", needs_text({"host": "h500"}), needs_text({"os": "linux"})]
    assert seek.count < 12


def offer(mine, free):
    return Offer(mine, (Slot(repr(mine), "", ""),) * free)


@given(st.lists(st.tuples(labels, st.integers(0, 3)), max_size=4), st.lists(labels, max_size=12))
def test_no_slot_is_taken_twice_nor_by_one_whom_it_does_not_suit(offers, queued):
    index = {needs_text(needs): needs for needs in queued}
    room = Room([offer(mine, free) for mine, free in offers], seek_in(index))
    known = dict(room.sizes())
    taken = []
    for needs in queued:
        suiting = sum(free for mine, free in offers if satisfies(mine, needs))
        text = needs_text(needs)
        assert known.get(text, 0) == suiting
        slot = room.take(text, 1) if suiting else None
        if slot is not None:
            assert satisfies(literal_eval(slot.worker), needs)
            taken.append(needs)
    # Hall's condition for every set of needs that was served: enough suiting slots for them all.
    for needs in taken:
        rivals = [other for other in taken if all(needs.get(k) == v for k, v in other.items())]
        fitting = sum(free for mine, free in offers if any(satisfies(mine, r) for r in rivals))
        assert len(rivals) <= fitting
    assert len(taken) <= sum(free for _, free in offers)


workers = st.tuples(labels, st.integers(1, 4), st.integers(0, 4), st.integers(1, 4))
"""Labels, slots in all, how many of these are free, and how many runs of one slot are offered."""


@given(st.lists(workers, max_size=4), st.lists(wanted, max_size=12))
def test_the_first_that_waits_for_several_slots_is_not_overtaken_for_ever(here, queued):
    offers, left, total = [], {}, {}
    for number, (mine, of, free, turns) in enumerate(here):
        slot = Slot(repr(mine), str(number), "", of, min(of, free))
        turns = min(turns, slot.free) or turns
        offers.append(Offer(mine, (slot,) * turns))
        left[slot], total[slot] = slot.free, max(slot.free, turns)
    room = Room(offers, seek_in([needs_text(*wants) for wants in queued]))
    known, given, waiting = dict(room.sizes()), [], []
    for needs, slots in queued:
        suiting = {s for s in left if satisfies(literal_eval(s.worker), needs) and s.of >= slots}
        text = needs_text(needs, slots)
        slot = room.take(text, 1) if text in known else None
        if slot is not None:
            assert slot in suiting or (slots == 1 and satisfies(literal_eval(slot.worker), needs))
            left[slot] -= slots
            total[slot] -= slots
            given.append(slot)
            assert total[slot] >= 0
            assert slots == 1 or left[slot] >= 0
        elif slots > 1:
            # Who might have it is kept by one that came sooner and waits.
            assert sum(left[s] >= slots for s in suiting) <= len(waiting)
            waiting.append(({s for s in suiting if total[s]}, len(given), len(waiting)))
    for nearest, since, before in waiting:
        untouched = nearest - set(given[since:])
        assert untouched or not nearest or before, "what is free is kept for the one that waits"


def test_the_offer_with_the_fewest_labels_is_filled_first():
    room = Room([offer({"gpu": "1"}, 1), offer({}, 1)], seek_in([needs_text({"gpu": "1"})]))
    assert room.take("", 1)
    assert room.take(needs_text({"gpu": "1"}), 1)
    assert not room.take("", 1)
