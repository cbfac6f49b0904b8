"""The example host hears every phase of its job, and the end of the one that it cancels."""

import sys

from tests.commands import PATIENCE, ROOT, Service


def test_it_hears_everything(service: Service) -> None:
    code = service.start("host", sys.executable, ROOT / "examples" / "strider_host.py").wait(
        PATIENCE
    )
    said = (service.folder / "host.log").read_text()
    assert code == 0, said
    lines = said.splitlines()
    good = [line for line in lines if line.startswith("good: ")]
    assert good == [
        "good: phase environment has exit code 0",
        "good: preparing",
        "good: phase prepare has exit code 0",
        "good: testing",
        "good: phase test has exit code 0",
        "good: deploying",
        "good: phase deploy has exit code 0",
        "good: phase cleanup has exit code 0",
    ]
    assert [line for line in lines if line.startswith("bad: ")] == [
        "bad: phase environment has exit code 0",
        "bad: phase prepare has exit code 0",
        "bad: waiting",
        "bad: Cancelled by the user",
    ]
