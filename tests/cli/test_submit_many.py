"""`submit` of many jobs: arrays, lines, JSON; in batches, of which none is stored twice."""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from queued_runner.client import batches
from tests.cli.conftest import StartVerb, Verb
from tests.cli.service_thread import PATIENCE, ServiceThread


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MAX_JOBS", 4)


def stored(service: ServiceThread) -> list[tuple[str, ...]]:
    """What each job runs, and its index."""
    specs = [job.spec for job in service.queue.jobs.values()]
    return [(spec.command, *spec.args, spec.env.get("JOB_ARRAY_INDEX", "-")) for spec in specs]


def test_an_array(service: ServiceThread, verb: Verb) -> None:
    verb("submit", "true")
    done = verb("submit", "--array", "0-2,8-12:2", "-e", "A=1", "-g", "g", "--", "make", "-j")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "2-7\n", "")
    assert stored(service)[1:] == [("make", "-j", i) for i in ("0", "1", "2", "8", "10", "12")]
    last = service.queue.jobs[7].spec
    assert (last.env, last.group) == ({"A": "1", "JOB_ARRAY_INDEX": "12"}, "g")


def test_what_is_printed_can_be_passed_on(service: ServiceThread, verb: Verb) -> None:
    selector = verb("submit", "--array", "3-5", "true").stdout.strip()
    assert verb("cancel", selector).exit_code == 0
    assert sorted(job_id for job_id, _, _ in service.queue.cancels) == [1, 2, 3]
    assert verb("submit", "--array", "7", "true").stdout == "4\n"


def test_ids_as_json(service: ServiceThread, verb: Verb) -> None:
    done = verb("submit", "--json", "--array", "1-3", "true")
    assert json.loads(done.stdout) == {"ids": [1, 2, 3]}
    assert json.loads(verb("submit", "--json", "--each-line", "/dev/null", "x").stdout) == {
        "ids": []
    }


def test_each_line(service: ServiceThread, verb: Verb, tmp_path: Path) -> None:
    file = tmp_path / "lines"
    file.write_bytes(b"a b\n\nc\r\nd")
    assert verb("submit", "--each-line", file, "du", "-sh").stdout == "1-3\n"
    assert (
        verb("submit", "--each-line", "-", "--", "cp", "{}", "/x/{}", input="e\n").stdout == "4\n"
    )
    assert stored(service) == [
        ("du", "-sh", "a b", "0"), ("du", "-sh", "c", "1"), ("du", "-sh", "d", "2"),
        ("cp", "e", "/x/e", "0"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        '{"command": "a"}\n{"args": ["x"], "name": "n"}\n',
        '[{"command": "a"},\n {"args": ["x"], "name": "n"}]',
    ],
)
def test_jobs_from_json(service: ServiceThread, verb: Verb, text: str) -> None:
    done = verb("submit", "--from-json", "-", "--retries", 2, "--", "b", "y", input=text)
    assert (done.exit_code, done.stdout) == (0, "1-2\n")
    assert stored(service) == [("a", "-"), ("b", "x", "-")]
    specs = [job.spec for job in service.queue.jobs.values()]
    assert [(spec.retries, spec.name) for spec in specs] == [(2, None), (2, "n")]


def test_one_object_from_json(service: ServiceThread, verb: Verb, tmp_path: Path) -> None:
    file = tmp_path / "job.json"
    file.write_text(json.dumps({"command": "make", "key": "k"}, indent=2))
    assert verb("submit", "--from-json", file).stdout == "1\n"
    assert verb("submit", "--from-json", file).stdout == "1\n"
    assert service.queue.jobs[1].spec.key == "k"


def test_a_refusal_names_the_field_and_the_line(
    service: ServiceThread, verb: Verb, small_batches: None
) -> None:
    lines = [json.dumps({"command": "true"})] * 9
    lines[6] = '{"command": "true", "nam": "x"}'
    lines[7] = '{"comand": "true", "timeout": -1}'
    done = verb("submit", "--from-json", "-", input="\n".join(lines))
    assert (done.exit_code, done.stdout) == (125, "1-4\n")  # those of the first batch will run
    assert "line 7: nam: there is no such field; did you mean 'name'?" in done.stderr
    assert "line 8: comand: there is no such field; did you mean 'command'?" in done.stderr
    assert "line 8: timeout: " in done.stderr
    assert len(service.queue.jobs) == 4


def test_no_name_in_a_refusal_steers_a_terminal(service: ServiceThread, verb: Verb) -> None:
    done = verb("submit", "--from-json", "-", input='{"command": "true", "\\u001b[2J": 1}')
    assert done.exit_code == 125
    assert "line 1: \\x1b[2J: there is no such field" in done.stderr
    assert "\x1b" not in done.stderr


def test_a_line_that_no_argument_can_be_is_told(service: ServiceThread, verb: Verb) -> None:
    done = verb("submit", "--each-line", "-", "echo", input=b"a\nb\0c\n")
    assert (done.exit_code, done.stdout) == (125, "")
    assert "line 2: args[0]: it may not contain a NUL character" in done.stderr
    done = verb("submit", "--each-line", "-", "echo", input=b"a\n\xff\n")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "line 2: it is not UTF-8" in done.stderr


@pytest.mark.parametrize("key", [(), ("--key", "k")])
def test_a_batch_whose_answer_is_lost_is_stored_once(
    service: ServiceThread,
    verb: Verb,
    small_batches: None,
    monkeypatch: pytest.MonkeyPatch,
    key: tuple[str, ...],
) -> None:
    send = httpx2.HTTPTransport.handle_request
    requests = []

    def lossy(transport: httpx2.HTTPTransport, request: httpx2.Request) -> httpx2.Response:
        answer = send(transport, request)
        requests.append(request)
        if len(requests) % 2:
            answer.close()
            raise httpx2.ReadError("reset")
        return answer

    monkeypatch.setattr(httpx2.HTTPTransport, "handle_request", lossy)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    done = verb("submit", *key, "--array", "0-9", "true")
    assert (done.exit_code, done.stdout) == (0, "1-10\n")
    assert len(requests) == 6
    assert [index for _, index in stored(service)] == [str(index) for index in range(10)]
    if key:
        assert [job.spec.key for job in service.queue.jobs.values()] == [
            f"k/{n}" for n in range(10)
        ]
        assert verb("submit", *key, "--array", "0-9", "true").stdout == "1-10\n"


def interrupt(monkeypatch: pytest.MonkeyPatch, times: Iterator[int]) -> None:
    """Ctrl-C, so often, while the answer to each request is on its way."""
    send = httpx2.HTTPTransport.handle_request

    def interrupted(transport: httpx2.HTTPTransport, request: httpx2.Request) -> httpx2.Response:
        answer = send(transport, request)
        for _ in range(next(times)):
            signal.raise_signal(signal.SIGINT)
        return answer

    monkeypatch.setattr(httpx2.HTTPTransport, "handle_request", interrupted)


@pytest.mark.parametrize(
    ("second", "printed", "words"),
    [
        (1, "1-8", "these jobs are stored first; Ctrl-C again leaves at once"),
        (2, "1-4", "some more jobs may have been stored"),
    ],
)
def test_what_is_on_its_way_is_stored_and_told_unless_one_leaves_at_once(
    service: ServiceThread,
    verb: Verb,
    small_batches: None,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    second: int,
    printed: str,
    words: str,
) -> None:
    interrupt(monkeypatch, iter([0, second]))
    done = verb("submit", "--array", "0-99", "true")
    assert (done.exit_code, done.stdout) == (130, f"{printed}\n")
    assert len(service.queue.jobs) == 8
    assert words in capfd.readouterr().err


def test_a_batch_is_bounded_in_bytes(
    service: ServiceThread, verb: Verb, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "MAX_BYTES", 1000)
    line = "x" * 300
    assert verb("submit", "--each-line", "-", "echo", input=f"{line}\n" * 9).stdout == "1-9\n"
    assert len(stored(service)) == 9


def test_a_dry_run_shows_what_would_be_sent_and_asks_no_server(verb: Verb) -> None:
    done = verb("submit", "--dry-run", "--array", "1-2", "--name", "n", "true")
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"command": "true", "name": "n", "env": {"JOB_ARRAY_INDEX": index}} for index in "12"
    ]
    assert json.loads(verb("submit", "--dry-run", "make", "-j").stdout) == {
        "command": "make", "args": ["-j"],
    }  # fmt: skip


def test_nothing_to_submit_is_told(service: ServiceThread, verb: Verb) -> None:
    done = verb("submit", "--from-json", "-", input="[]")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "nothing to submit" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--array", "x", "true"], "write 0-99, 1-10:2 or 3,5-8"),
        (["--array", "9-1", "true"], "write 1-9"),
        (["--array", "0-99999999", "true"], "more than 1,000,000"),
        (["--array", "0-9"], "Missing argument 'COMMAND...'"),
        (["--each-line", "/dev/null"], "Missing argument 'COMMAND...'"),
        (["--each-line", "/no/such", "x"], "/no/such"),
        (["--array", "0-9", "--each-line", "-", "x"], "Give one of"),
        (["--stdin", "-", "--each-line", "-", "x"], "Two options read this input"),
        (["--arry", "0-9", "x"], "--array"),
        (["--from-jsn", "x"], "--from-json"),
    ],
)
def test_usage_errors(verb: Verb, arguments: list[str], words: str) -> None:
    done = verb("submit", *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert words in done.stderr


def test_json_that_is_none_is_told_with_its_line(verb: Verb, service: ServiceThread) -> None:
    done = verb("submit", "--from-json", "-", input='{"command": "a"}\n{"command" "b"}\n')
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("queued-runner: line 2: this is not JSON")


def test_input_of_any_length_takes_bounded_memory(
    service: ServiceThread, start_verb: StartVerb
) -> None:
    count = 3000
    line = json.dumps({"command": "true", "args": ["x" * 30_000]}) + "\n"  # 90 MB in all
    client = start_verb(
        "submit", "--dry-run", "--from-json", "-", stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    assert client.stdin is not None
    for _ in range(count):
        client.stdin.write(line.encode())
    status = Path(f"/proc/{client.pid}/status").read_text()
    client.stdin.close()
    client.stdin = None
    client.communicate(timeout=PATIENCE)
    peak = next(row for row in status.splitlines() if row.startswith("VmHWM"))
    assert int(peak.split()[1]) < 60_000
    assert client.returncode == 0
