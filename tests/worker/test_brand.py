"""The brand: every process below bears it, and it is in nobody's way."""

import os
import resource
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from simple_worker.brand import NONE, Brands, brand_of, branding, is_of
from tests.commands import ROOT

LIMIT = resource.RLIMIT_RTTIME


def test_what_is_started_meanwhile_bears_it_and_nothing_else_does():
    before = resource.getrlimit(LIMIT)
    with subprocess.Popen(["sleep", "1000"]) as older, branding() as brands:
        brand = brands.give()
        with subprocess.Popen(["setsid", "env", "-i", "sleep", "1000"]) as younger:
            try:
                assert brand_of(younger.pid) == brand_of(os.getpid()) == brand
                assert brands.give() not in (brand, NONE)
                assert brand_of(younger.pid) == brand
                assert brand_of(older.pid) == NONE
            finally:
                younger.kill()
                older.kill()
    assert resource.getrlimit(LIMIT) == before


def test_one_below_another_has_a_herd_of_its_own():
    with branding() as outer:
        brand = outer.give()
        with branding() as inner:
            assert is_of(inner.herd, inner.give())
            assert not is_of(outer.herd, brand_of(os.getpid()))
        assert brand_of(os.getpid()) == brand
        assert is_of(outer.herd, brand)


@given(st.integers(0, (1 << 63) - 1))
def test_nothing_is_of_no_herd(brand):
    assert not is_of(NONE, brand)


def test_without_a_herd_nothing_is_branded():
    before = resource.getrlimit(LIMIT)
    assert Brands(NONE).give() == NONE
    assert resource.getrlimit(LIMIT) == before


def test_a_limit_that_somebody_has_set_in_earnest_is_left_alone():
    script = (
        "import resource; from simple_worker.brand import branding\n"
        "for limits in [(1000, -1), (1000, 2000)]:\n"
        "    resource.setrlimit(resource.RLIMIT_RTTIME, limits)\n"
        "    with branding() as brands:\n"
        "        print(brands.give(), resource.getrlimit(resource.RLIMIT_RTTIME) == limits)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, check=True)
    assert done.stdout.decode().split() == ["0", "True"] * 2


def test_a_process_that_is_gone_bears_nothing():
    with branding() as brands, subprocess.Popen(["true"]) as process:
        brands.give()
        process.wait()
        assert brand_of(process.pid) == NONE
