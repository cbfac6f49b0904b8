"""Jobs that come after others, retries and deletion, with the real commands; kills in between."""

import json

import pytest

from tests.commands import PATIENCE, kill


@pytest.fixture
def started(service):
    """A service with one worker, and its server."""
    server = service.start_server("--retention", "1d")
    service.start_worker()
    return service, server


def lines(done):
    """What a verb prints."""
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().split()


def test_a_chain_that_broke_is_mended_and_runs_to_its_end(started, tmp_path):
    service, _ = started
    mended, order = tmp_path / "mended", tmp_path / "order"
    script = f"echo $JOB_NAME >> {order}; test $JOB_NAME != build -o -e {mended}"
    ids = []
    for name in ("build", "test", "publish"):
        options = ["--after", "last"] if ids else []
        submit = ("submit", "--group", "g", "--name", name, *options, "--", "sh", "-c", script)
        ids += lines(service.verb(*submit))
    done = service.verb("wait", ids[2])
    assert (done.returncode, b"failed (dependency)" in done.stderr) == (1, True)
    why = service.verb("explain", ids[1]).stdout.decode()
    assert why == f"job {ids[1]}: it failed without a start: job {ids[0]} that it came after did" \
        " not succeed\n"  # fmt: skip
    follower = service.start_verb("logs", "-f", ids[0], "--attempt", 2)
    mended.touch()
    assert service.verb("retry", "--group", "g", "--failed").returncode == 0
    assert service.verb("wait", "--group", "g").returncode == 0
    assert order.read_text().split() == ["build", "build", "test", "publish"]
    assert follower.communicate(timeout=PATIENCE) == (b"", b"")
    counts = json.loads(service.request("/api/v1/groups/g"))["counts"]
    assert (counts["succeeded"], counts["failed"]) == (3, 0)


def test_who_waits_for_what_fails_while_the_server_dies_is_told_by_the_next(started):
    service, server = started
    gate = service.submit("true", needs={"no": "such worker"})
    service.submit_many([{"command": "true", "after": [gate], "group": "w"}] * 5000)
    service.cancel(gate)
    kill(server)
    service.start_server()

    def failed():
        return json.loads(service.request("/api/v1/groups/w"))["counts"]["failed"]

    service.wait_for(lambda: failed() == 5000, "the end of all that wait")


def test_what_ended_is_deleted_with_its_files(started):
    service, _ = started
    done = service.verb("run", "--", "sh", "-c", "head -c 1000000 /dev/zero; exit 3")
    assert (done.returncode, len(done.stdout)) == (3, 1_000_000)
    segments = service.data_dir / "logs"
    assert list(segments.rglob("*.seg"))
    kept = service.verb("prune", "--older-than", "0", "--keep-failed", "--json")
    assert json.loads(kept.stdout) == {"deleted": 0}
    assert json.loads(service.verb("prune", "--older-than", "0", "--json").stdout) == {"deleted": 1}
    assert not list(segments.rglob("*.seg"))
    assert service.json("ps") == []
