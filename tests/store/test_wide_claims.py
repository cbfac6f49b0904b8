"""Jobs that take several slots: which worker they are claimed for, and who waits for whom."""

from remote_runner.types import Offer, Slot


def at(worker, of, free, turns=None):
    """A worker with so many slots, of which some are free; `turns`: what is offered of these."""
    return (Slot(worker, f"id-{worker}", "boot", of, free),) * (free if turns is None else turns)


def places(store, *slots):
    """Which jobs a claim of these slots gives to which workers."""
    jobs = store(lambda raw: raw.claim([Offer({}, slots)], store.now, 9))
    return {job.id: job.worker for job in jobs}


def test_a_job_of_several_slots_takes_them_of_one_worker(store):
    wide, narrow = store.submit(slots=3), [store.submit() for _ in range(4)]
    taken = places(store, *at("a", 2, 2), *at("b", 4, 4))
    assert taken.pop(wide) == "b"
    assert sorted(taken.items()) == [
        *zip(narrow[:2], "aa", strict=True),
        (narrow[2], "b"),
    ]


def test_its_slots_need_not_be_offered_each(store):
    ids = [store.submit(slots=3) for _ in range(3)]
    assert places(store, *at("a", 8, 8, turns=2)) == {ids[0]: "a", ids[1]: "a"}


def test_what_is_free_is_kept_for_the_first_that_waits_for_more(store):
    wide = store.submit(slots=3)
    narrow = [store.submit() for _ in range(4)]
    assert places(store, *at("a", 4, 2), *at("b", 4, 1), *at("c", 2, 2)) == {
        narrow[0]: "b", narrow[1]: "c", narrow[2]: "c"
    }  # fmt: skip
    assert places(store, *at("a", 4, 3)) == {wide: "a"}


def test_who_comes_before_it_does_not_wait_for_it(store):
    first, wide, last = store.submit(), store.submit(slots=3), store.submit()
    urgent = store.submit(priority=1)
    assert places(store, *at("a", 3, 3)) == {first: "a", urgent: "a"}
    assert places(store, *at("a", 3, 3)) == {wide: "a"}
    assert places(store, *at("a", 3, 1)) == {last: "a"}


def test_one_that_is_too_wide_for_all_keeps_nobody_waiting(store):
    store.submit(slots=5, priority=9)
    narrow = [store.submit() for _ in range(2)]
    assert places(store, *at("a", 4, 4)) == dict.fromkeys(narrow, "a")


def test_it_does_not_wait_at_a_worker_and_nobody_else_does_before_it(store):
    wide, narrow = store.submit(slots=2), store.submit()
    assert places(store, *at("a", 4, 0, turns=8)) == {}
    assert places(store, *at("a", 4, 0, turns=8), *at("b", 1, 1)) == {narrow: "b"}
    assert places(store, *at("a", 4, 2)) == {wide: "a"}


def test_a_worker_of_which_nobody_says_how_wide_it_is_takes_none(store):
    store.submit(slots=2)
    narrow = store.submit()
    slots = (Slot("a", "1", "x"),) * 2
    assert places(store, *slots) == {narrow: "a"}


def test_scarce_labels_are_not_kept_for_one_that_can_do_without(store):
    wide, special = store.submit(slots=3), store.submit(needs={"gpu": "1"})
    gpu, plain = Offer({"gpu": "1"}, at("a", 4, 2)), Offer({}, at("b", 4, 1))
    jobs = store(lambda raw: raw.claim([gpu, plain], store.now, 9))
    assert [job.id for job in jobs] == [special]
    jobs = store(lambda raw: raw.claim([gpu, Offer({}, at("b", 4, 3))], store.now, 9))
    assert {job.id: job.worker for job in jobs} == {wide: "b"}


def test_labels_and_several_slots_go_together(store):
    both = store.submit(needs={"gpu": "1"}, slots=2)
    plain = store.submit(slots=2)
    gpu, other = Offer({"gpu": "1"}, at("a", 2, 2)), Offer({}, at("b", 9, 9))
    jobs = store(lambda raw: raw.claim([gpu, other], store.now, 9))
    assert {job.id: job.worker for job in jobs} == {both: "a", plain: "b"}
