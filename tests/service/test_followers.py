"""Everyone who follows a job goes on through restarts of the server: each byte once, then its end.

The server comes back with another HTTP port each time; workers find it on their own port.
"""

import signal
import subprocess
import threading
import urllib.request
from pathlib import Path

import pytest

from tests.commands import PATIENCE, Service, kill
from tests.http.events import Event, bytes_of, parse_events

RESTARTS = 3
BACK = 75.0
"""Seconds until a worker is back: where all is slow it waits up to 30 s before a try."""


class Page(threading.Thread):
    """Follows a job as a page does: with `Last-Event-ID`, again and again until its end."""

    def __init__(self, service: Service, job_id: int) -> None:
        super().__init__(daemon=True)
        self._service = service
        self._path = f"/api/v1/jobs/{job_id}/logs/stream"
        self.events: list[Event] = []

    @property
    def received(self) -> int:
        return len(self.events)

    def run(self) -> None:
        while not self.events or self.events[-1][0] != "end":
            try:
                self._read()
            except (OSError, ValueError):  # no server, or no announcement of one
                threading.Event().wait(0.02)

    def _read(self) -> None:
        facts = self._service.facts
        token = Path(facts["token_file"]).read_text().strip()
        headers = {"Authorization": f"Bearer {token}"}
        if self.events:
            headers["Last-Event-ID"] = self.events[-1][1]
        request = urllib.request.Request(facts["url"] + self._path, headers=headers)
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            block = b""
            for line in answer:
                block += line
                if line == b"\n":
                    self.events += parse_events(block)
                    block = b""


class Verb:
    """A client verb that writes into files."""

    def __init__(self, service: Service, name: str, *arguments: object) -> None:
        self._files = service.folder / f"{name}.out", service.folder / f"{name}.err"
        with self._files[0].open("wb") as stdout, self._files[1].open("wb") as stderr:
            self._process: subprocess.Popen[bytes] = service.start_verb(
                *arguments, stdout=stdout, stderr=stderr
            )

    @property
    def received(self) -> int:
        return len(self.stdout)

    @property
    def stdout(self) -> bytes:
        return self._files[0].read_bytes()

    @property
    def stderr(self) -> list[str]:
        return self._files[1].read_text().splitlines()

    @property
    def notices(self) -> int:
        return sum(not line.isdigit() for line in self.stderr)

    def end(self) -> int:
        return self._process.wait(BACK)


@pytest.mark.timeout(2 * RESTARTS * BACK)
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_whoever_follows_a_job_goes_on_through_restarts(service, tmp_path, how):
    go = tmp_path / "go"
    script = (  # with bytes that are no UTF-8, and a character that is written in two parts
        f"n=0; while [ ! -e {go} ]; do n=$((n + 1)); printf \"$n \\303\"; printf '\\251\\377\\n';"
        " echo $n >&2; sleep 0.01; done; echo end; exit 5"
    )
    server = service.start_server()
    port = service.facts["port"]
    service.start_worker()
    run = Verb(service, "run", "run", "--", "sh", "-c", script)
    service.wait_for(lambda: run.stdout, "the first output")
    logs = Verb(service, "logs", "logs", "-f", 1)
    part = Verb(service, "part", "logs", "-f", 1, "--stdout")
    verbs = [run, logs, part]
    page = Page(service, 1)
    page.start()
    followers = [*verbs, page]
    before = [0] * len(followers)

    def all_go_on() -> bool:
        return all(each.received > size for each, size in zip(followers, before, strict=True))

    service.wait_for(all_go_on, "everyone to follow")
    for number in range(1, RESTARTS + 1):
        kill(server, how)
        service.wait_for(
            lambda number=number: all(each.notices == 2 * number - 1 for each in verbs),
            "everyone to have read all that the server sent",
        )
        before = [each.received for each in followers]
        server = service.start_server("--port", port)
        service.wait_for(all_go_on, "everyone to go on", BACK)
    go.touch()
    assert [each.end() for each in verbs] == [5, 0, 0]
    page.join(BACK)
    assert service.job(1)["attempt"] == 1

    *lines, last = run.stdout.splitlines()
    assert last == b"end"
    assert lines == [b"%d \xc3\xa9\xff" % (index + 1) for index in range(len(lines))]
    counted = [str(index + 1) for index in range(len(lines))]
    assert logs.stdout == part.stdout == run.stdout
    for each in (run, logs):
        assert [line for line in each.stderr if line.isdigit()] == counted
    assert bytes_of(page.events, "stdout") == run.stdout
    assert bytes_of(page.events, "stderr").decode().splitlines() == counted
    assert [name for name, _, _ in page.events if name not in ("stdout", "stderr")] == ["end"]
    for each in verbs:
        said = [line.partition(";")[0] for line in each.stderr if not line.isdigit()]
        words = ["queued-runner: the server is away", "queued-runner: the server is back"]
        assert said == words * RESTARTS
