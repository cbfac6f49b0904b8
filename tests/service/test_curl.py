"""The whole API with curl: all that the command line does, and output that resumes exactly."""

import re
import subprocess
import sys

from queued_runner.cli.verbs import VERBS
from tests.commands import PATIENCE, ROOT, Service
from tests.http.events import bytes_of, parse_events

SCRIPT = ROOT / "examples" / "curl.sh"
NOT_HTTP = {"serve", "migrate", "export", "import"}


def test_the_script_does_what_every_verb_does(service: Service) -> None:
    assert set(re.findall(r"^verb (\w+)", SCRIPT.read_text(), re.M)) == VERBS.keys() - NOT_HTTP
    service.start_server()
    service.start_worker("w1")
    service.wait_for(lambda: service.json("workers"), "the worker")
    done = subprocess.run(
        [SCRIPT], env=service.env, capture_output=True, timeout=2 * PATIENCE, text=True,
        check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), (done.stdout, service.logs())
    parts = re.split(r"\n== queued-runner (\w+)\n", done.stdout)[1:]
    said = {name: text.strip() for name, text in zip(parts[::2], parts[1::2], strict=True)}
    assert said["submit"] == '{"ids":[2,3]}'
    assert said["wait"] == "3"
    assert '"name":"hello"' in said["show"]
    assert sorted(said["logs"].split()) == ["err", "err", "out"]
    assert 'event: stdout\nid: 5\ndata: {"at":' in said["run"]
    assert said["run"].endswith("\n0")
    assert said["cancel"] == "5\ncancelled"
    assert '"name":"w1"' in said["workers"]
    assert '"workers":1' in said["servers"]
    assert said["drain"] in ("draining", "drained")
    assert said["resume"] == "ready"
    assert '"event":"job.cancelled"' in said["events"]
    assert "duplex_runner_jobs_added_total 5" in done.stdout


PIECES = """
import os, time
for out, data in ((1, b"a\\xc3"), (2, b"e\\xff"), (1, b"\\xa4b"), (2, b"\\xe2\\x82"), (1, b"c\\n"),
                  (2, b"\\xac."), (1, bytes(70_000)), (2, b"\\xf0\\x9f"), (1, b"\\xf0\\x9f\\x98"),
                  (1, b"\\x80"), (2, b"end")):
    os.write(out, data)
    time.sleep(0.02)
"""
STDOUT = b"a\xc3\xa4bc\n" + bytes(70_000) + b"\xf0\x9f\x98\x80"
STDERR = b"e\xff\xe2\x82\xac.\xf0\x9fend"


def test_a_stream_that_is_cut_after_each_event_is_resumed_exactly(service: Service) -> None:
    """`curl -N`, killed as soon as it has shown one event, asked again with the id of that one."""
    service.start_server()
    service.start_worker("w1")
    job = service.submit(sys.executable, "-c", PIECES)
    token = (service.data_dir / "token").read_text().strip()
    url = f"{service.facts['url']}/api/v1/jobs/{job}/logs/stream"
    received, place, cuts = b"", "0", 0
    while b"event: end" not in received:
        curl = subprocess.Popen(
            ["curl", "-sSN", "-H", f"Authorization: Bearer {token}",
             "-H", f"Last-Event-ID: {place}", url],
            stdout=subprocess.PIPE,
        )  # fmt: skip
        assert curl.stdout is not None
        block = b""
        try:
            while not (block.endswith(b"\n\n") and b"id: " in block):
                line = curl.stdout.readline()
                assert line, block
                block += line
        finally:
            curl.kill()
            curl.communicate()
        received += block
        place = parse_events(block)[-1][1]
        cuts += 1
    assert cuts > 3
    events = parse_events(received)
    assert bytes_of(events, "stdout") == STDOUT
    assert bytes_of(events, "stderr") == STDERR
    assert events[-1][2]["state"] == "succeeded"
