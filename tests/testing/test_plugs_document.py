"""docs/plugs.md, from which plugs are written, leaves nothing out that the types name."""

import re

import pytest

from remote_runner.types import Host, JobRunner, Observer, Run
from tests.commands import ROOT

MEMBERS = [
    (protocol.__name__, name)
    for protocol in (JobRunner, Run, Observer, Host)
    for name in vars(protocol)
    if not name.startswith("_")
]


@pytest.mark.parametrize(("protocol", "member"), MEMBERS)
def test_it_is_named(protocol: str, member: str) -> None:
    text = (ROOT / "docs" / "plugs.md").read_text()
    owner = {"JobRunner": "", "Observer": ""}.get(protocol, rf"{protocol.lower()}\.")
    assert re.search(rf"`{owner}{member}[`(]", text, re.IGNORECASE), f"{protocol}.{member}"


@pytest.mark.parametrize("name", ["CAN_MASK", "Command.mask"])
def test_what_hides_secrets_is_named(name: str) -> None:
    assert f"`{name}`" in (ROOT / "docs" / "plugs.md").read_text()
