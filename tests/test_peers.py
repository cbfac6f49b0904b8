"""The benchmarks' peers as far as that needs no network: what each offers, and what it says when it
cannot be had."""

from pathlib import Path
from types import ModuleType

import pytest

from benchmarks.harness import Skipped
from benchmarks.peers import OUTPUT, TRUE, ancestor, environment, parallel


@pytest.mark.parametrize("peer", dict.fromkeys(TRUE + OUTPUT), ids=lambda peer: peer.NAME)
def test_a_peer_says_what_it_is_and_how_the_comparison_is_fair(peer: ModuleType) -> None:
    assert peer.NAME
    assert callable(peer.prepare)
    assert peer not in TRUE or callable(peer.true_rate)
    assert peer not in OUTPUT or callable(peer.output_rate)
    for part in ("Run as: ", "Fair because: ", "It does not: "):
        assert part in (peer.__doc__ or "")


@pytest.mark.parametrize("peer", [parallel, ancestor], ids=lambda peer: peer.NAME)
def test_a_peer_whose_program_is_missing_is_skipped_with_a_reason(
    peer: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Skipped, match="not installed"):
        peer.prepare(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_every_package_of_a_peer_is_pinned() -> None:
    for listed in environment.HERE.glob("*.txt"):
        for line in listed.read_text().splitlines():
            assert line.count("==") == 1, f"{listed.name}: {line}"
