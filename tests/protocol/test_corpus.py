"""The corpus of the fuzzer, without the fuzzer: all that ever broke an invariant, and its seeds."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.invariants import check

CORPUS = sorted((Path(__file__).parents[2] / "fuzz" / "corpus").iterdir())


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_the_corpus_breaks_nothing(path):
    check(path.read_bytes())


@given(st.sampled_from(CORPUS), st.data())
def test_what_is_near_the_corpus_breaks_nothing(path, data):
    seed = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        place = data.draw(st.integers(0, len(seed)))
        how = data.draw(st.sampled_from(("change", "cut", "insert")))
        if how == "change":
            seed[place : place + 1] = bytes([data.draw(st.integers(0, 255))])
        elif how == "cut":
            del seed[place : place + data.draw(st.integers(1, 9))]
        else:
            seed[place:place] = data.draw(st.binary(max_size=9))
    check(bytes(seed))
