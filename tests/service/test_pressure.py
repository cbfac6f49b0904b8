"""A job that prints as fast as it can harms nobody: the figures of `tests.pressure`, in short."""

from pathlib import Path

from tests.commands import Service
from tests.pressure import measure


def test_a_flood_slows_only_itself(tmp_path: Path) -> None:
    figures = measure(tmp_path, seconds=3)
    assert [str(figure) for figure in figures if not figure.is_kept] == []


def test_output_beyond_its_limit_is_counted_and_told(service: Service) -> None:
    service.start_server()
    service.start_worker()
    done = service.verb("run", "--max-log-size", "1MiB", "--", "head", "-c", "3000000", "/dev/zero")
    assert done.returncode == 0
    assert done.stdout == bytes(1 << 20)
    dropped = 3_000_000 - (1 << 20)
    assert f"{dropped} bytes of output were beyond --max-log-size" in done.stderr.decode()
    (job,) = service.json("ps")
    assert (job["log_bytes"], job["log_dropped"]) == (1 << 20, dropped)
