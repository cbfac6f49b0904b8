"""`Settings`: only addresses that no other machine reaches are safe without credentials."""

from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queued_runner.config import Settings, UnsafeBind, is_loopback

own = (
    st.integers(0x7F000000, 0x7FFFFFFF).map(IPv4Address).map(str)
    | st.sampled_from(["localhost", "::1", "0:0:0:0:0:0:0:1"])
)  # fmt: skip
others = st.integers(0x01000000, 0x7EFFFFFF) | st.integers(0x80000000, 0xFFFFFFFF)
foreign = (
    others.map(IPv4Address).map(str)
    | st.integers(2**96, 2**128 - 1).map(IPv6Address).map(str)
    | st.sampled_from(["", "0.0.0.0", "::", "*", "example.com", "localhost.example.com"])
    | st.text(st.characters(categories=["L", "P"], exclude_characters="."), max_size=9).filter(
        lambda text: text not in ("localhost", "::1")
    )
)


@given(own, own)
def test_this_machine_alone_is_safe(host, http_host):
    assert is_loopback(host)
    Settings(Path(), host=host, http_host=http_host).require_safe()


@pytest.mark.parametrize("option", ["host", "http_host"])
@given(foreign)
def test_any_other_address_is_refused_with_the_option(option, address):
    assert not is_loopback(address)
    with pytest.raises(UnsafeBind) as caught:
        Settings(Path(), **{option: address}).require_safe()
    flag = "--" + option.replace("_", "-")
    assert str(caught.value).startswith(f"{flag} {address} would let")
    assert f"use {flag} 127.0.0.1" in str(caught.value)
