"""What the verbs that do not stay ask of the server, and what they print."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from queued_runner.client.api import Client
from queued_runner.jobs import JobSpec, JobState
from tests.cli.conftest import Verb, jobs
from tests.cli.service_thread import ServiceThread


def ran(service: ServiceThread, *chunks: tuple[str, bytes], exit_code: int = 0) -> int:
    """A job that has written these chunks and ended."""
    (job_id,) = service.do(service.queue.add, JobSpec(command="make", args=("-j", "2")))
    service.do(service.queue.start, job_id)
    for stream, data in chunks:
        service.do(service.queue.write, job_id, stream, data)
    service.do(service.queue.finish, job_id, exit_code)
    return int(job_id)


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ([], {}),
        (["--name", "n", "-g", "g", "--key", "k"], {"name": "n", "group": "g", "key": "k"}),
        (["-e", "A=1", "--env", "B=x=y"], {"env": {"A": "1", "B": "x=y"}}),
        (["--needs", "gpu=1"], {"needs": {"gpu": "1"}}),
        (["--cwd", "/src", "--shell"], {"cwd": "/src", "shell": True}),
        (["--priority", "-3", "--retries", "2"], {"priority": -3, "retries": 2}),
        (["--timeout", "1m", "--backoff", "500ms"], {"timeout": 60.0, "backoff": 0.5}),
        (["--delay", "1h", "--on-lost", "fail"], {"delay": 3600.0, "on_lost": "fail"}),
        (["--max-log-size", "64KiB"], {"max_log_size": 65_536}),
        (["--max-results-size", "1MiB"], {"max_results_size": 1_048_576}),
    ],
)
def test_options_become_the_job(
    service: ServiceThread, verb: Verb, options: list[str], fields: dict[str, Any]
) -> None:
    done = verb("submit", *options, "--", "make", "-j", "--help")
    assert (done.exit_code, done.stdout) == (0, "1\n")
    spec = service.queue.jobs[1].spec
    assert len(spec.key) == 32 or "key" in fields  # one of its own, unless one was given
    expected = JobSpec(command="make", args=("-j", "--help"), **{"key": spec.key, **fields})
    assert spec == expected


@pytest.mark.parametrize("data", [b"caf\xc3\xa9\n", b"\xff\x00", b""])
def test_input_goes_with_the_job(
    service: ServiceThread, verb: Verb, tmp_path: Path, data: bytes
) -> None:
    file = tmp_path / "input"
    file.write_bytes(data)
    verb("submit", "--stdin", file, "cat")
    verb("submit", "--stdin", "-", "cat", input=data)
    for job in service.queue.jobs.values():
        assert job.spec.stdin_bytes() == data
    if data == b"\xff\x00":
        assert service.queue.jobs[1].spec.model_dump()["stdin"] == {
            "base64": base64.b64encode(data).decode()
        }


def test_what_the_server_refuses_is_told(service: ServiceThread, verb: Verb) -> None:
    done = verb("submit", "--priority", 10**9, "true")
    assert done.exit_code == 125
    assert "priority" in done.stderr
    assert verb("submit", "\udcff").exit_code == 125


def test_json_shapes(service: ServiceThread, verb: Verb) -> None:
    assert json.loads(verb("submit", "--json", "true").stdout) == {"id": 1}
    ran(service, ("stdout", b"x"))
    assert [job["id"] for job in json.loads(verb("ps", "--json").stdout)] == [2, 1]
    shown = json.loads(verb("show", 2, "--json").stdout)
    assert (shown["state"], [item["attempt"] for item in shown["attempts"]]) == ("succeeded", [1])
    assert [job["id"] for job in json.loads(verb("wait", 2, "--json").stdout)] == [2]
    assert [worker["name"] for worker in json.loads(verb("workers", "--json").stdout)] == ["w1"]
    (cancelled,) = json.loads(verb("cancel", 1, "--json").stdout)
    assert cancelled["state"] == "cancelled"


def test_tables(service: ServiceThread, verb: Verb) -> None:
    ran(service, exit_code=3)
    service.do(service.queue.add, JobSpec(command="a\x1b[2Jb", args=("[red]",), group="g"))
    lines = [line.split() for line in verb("ps").stdout.splitlines()]
    assert lines[0] == ["ID", "STATE", "TRY", "CREATED", "TOOK", "WORKER", "GROUP", "JOB"]
    assert [line[:3] for line in lines[1:]] == [["2", "queued", "0"], ["1", "failed", "1"]]
    assert lines[2][-7:] == ["2", "s", "w1", "-", "make", "-j", "2"]
    assert lines[1][-3:] == ["g", "$'a\\x1b[2Jb'", "'[red]'"]
    assert "\x1b" not in verb("ps").stdout
    assert verb("workers").stdout.splitlines()[1].split()[:3] == ["w1", "ready", "1/4"]


def test_show_tells_everything_once(service: ServiceThread, verb: Verb) -> None:
    fields = {
        "name": "n", "group": "g", "cwd": "/src", "env": {"A": "1"}, "needs": {"gpu": "1"},
        "stdin": "caf\u00e9", "timeout": 90, "kill_signal": "SIGINT", "kill_grace": 2,
        "retries": 3, "priority": -5, "on_lost": "fail", "detach": 30, "max_log_size": 1 << 20,
        "delay": 3600, "slots": 4,
    }  # fmt: skip
    service.do(service.queue.add, JobSpec(command="sh", args=("-c", "echo 'a b'\n"), **fields))
    service.do(service.queue.start, 1)
    service.do(service.queue.finish, 1, 3, retry=True)
    service.do(service.queue.start, 1)
    service.do(service.queue.write, 1, "stdout", b"x" * 2000)
    service.do(service.queue.finish, 1, None, reason="timeout", signal="SIGINT", dropped=7)
    done = verb("show", 1)
    first, *rest = done.stdout.splitlines()
    assert first == "job 1  failed (timeout)  sh -c $'echo \\'a b\\'\\x0a'"
    facts = dict(line.split(maxsplit=1) for line in rest[: rest.index("")])
    assert facts["why"] == "it took longer than its timeout"
    assert {name: facts[name] for name in ("name", "group", "cwd", "env", "needs", "priority")} == {
        "name": "n", "group": "g", "cwd": "/src", "env": "A=1", "needs": "gpu=1", "priority": "-5",
    }  # fmt: skip
    assert facts["stdin"] == "5 B"
    assert facts["slots"] == "4 of one worker"
    assert facts["timeout"] == "1 min 30 s"
    assert facts["kill"] == "SIGINT, and SIGKILL after 2 s"
    assert facts["retries"].startswith("3, after 1 s")
    assert facts["output"].endswith("read it with: queued-runner logs 1")
    assert facts["created"].endswith("d ago  (2023-11-14T22:13:20.000Z)")
    heads, *attempts = (line.split() for line in rest[rest.index("") + 1 :])
    assert heads == ["TRY", "STARTED", "TOOK", "CPU", "MEMORY", "OUTPUT", "WORKER", "END"]
    assert [(line[0], " ".join(line[-2:])) for line in attempts] == [
        ("1", "(exit 3)"), ("2", "failed (timeout)"),
    ]  # fmt: skip
    assert "7 bytes of output were beyond" in done.stderr


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("given-back", "given-back, before it began"), ("refused", "refused, before it began"),
        ("stopped", "stopped with its server"),
        ("unheard", "lost with its worker, before it began as it seems"),
        ("worker-lost", "failed (worker-lost)"),
    ],
)  # fmt: skip
def test_an_attempt_that_is_no_fault_of_the_job_is_not_called_failed(
    service: ServiceThread, verb: Verb, reason: str, words: str
) -> None:
    service.do(service.queue.add, *jobs(1))
    service.do(service.queue.start, 1)
    service.do(service.queue.finish, 1, None, reason=reason, retry=True)
    assert verb("show", 1).stdout.splitlines()[-1].endswith(words)
    assert "w1" not in verb("ps").stdout


def test_show_says_why_a_job_waits(service: ServiceThread, verb: Verb) -> None:
    service.do(service.queue.add, *jobs(1))
    assert "waits    no worker is connected" in verb("show", 1).stdout
    assert "TRY" not in verb("show", 1).stdout
    assert "slots" not in verb("show", 1).stdout


def test_ps_of_selectors(service: ServiceThread, verb: Verb) -> None:
    service.do(service.queue.add, *jobs(2500, group="g"), *jobs(10))
    service.do(service.queue.start, 3)

    def ids(*arguments: object) -> list[int]:
        return [job["id"] for job in json.loads(verb("ps", "--json", *arguments).stdout)]

    assert ids("1-5:2", 2509, 99999) == [2509, 5, 3, 1]
    assert ids("1-2505", "--state", "running") == [3]
    assert ids("2-2502", "--limit", 3) == [2502, 2501, 2500]
    assert ids("last") == [2510]
    assert ids("1-2510") == list(range(2510, 0, -1))
    assert ids("--group", "g") == list(range(2500, 0, -1))
    assert len(ids()) == 100
    assert len(verb("ps", "--group", "g").stdout.splitlines()) == 102


def test_ps_of_a_group_tells_how_it_is(
    service: ServiceThread, verb: Verb, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.do(service.queue.add, *jobs(2, group="a/b"))
    counts = {"queued": 9_998, "running": 2, "failed": 0}
    asked = []

    def group_counts(client: Client, group: str) -> dict[str, int]:
        asked.append(group)
        return counts

    monkeypatch.setattr(Client, "group_counts", group_counts)
    last = verb("ps", "-g", "a/b").stdout.splitlines()[-1]
    assert last == "10,000 jobs: 9,998 queued, 2 running"
    assert asked == ["a/b"]


def test_ps_filters(service: ServiceThread, verb: Verb) -> None:
    service.do(service.queue.add, *jobs(3, group="g"), *jobs(2, name="n"))
    service.do(service.queue.start, 1)

    def ids(*options: object) -> list[int]:
        return [job["id"] for job in json.loads(verb("ps", "--json", *options).stdout)]

    assert ids("--group", "g") == [3, 2, 1]
    assert ids("--group", "g", "--state", "running") == [1]
    assert ids("--name", "n", "--limit", 1) == [5]
    assert ids("--limit", 2) == [5, 4]


def test_selectors_name_their_jobs(service: ServiceThread, verb: Verb) -> None:
    service.do(service.queue.add, *jobs(7))
    service.do(service.queue.start, 2)
    service.do(service.queue.finish, 2)
    assert json.loads(verb("show", "last", "--json").stdout)["id"] == 7

    def cancelled(*selectors: str) -> list[int]:
        service.queue.cancels.clear()
        assert verb("cancel", *selectors).exit_code == 0
        return sorted(job_id for job_id, _, _ in service.queue.cancels)

    assert cancelled("4,1", "4-5") == [1, 4, 5]
    assert cancelled("last") == [7]
    service.do(service.queue.start, 3)
    assert cancelled("all") == [3, 6]
    assert cancelled("all") == []


def test_the_last_of_none_is_told(service: ServiceThread, verb: Verb) -> None:
    done = verb("logs", "last")
    assert done.exit_code == 125
    assert "There is no job yet" in done.stderr


def test_cancel_says_how_and_goes_on(service: ServiceThread, verb: Verb) -> None:
    service.do(service.queue.add, *jobs(2, group="g"), *jobs(1))
    done = verb("cancel", "1", "99", "3", "--signal", "int", "--grace", "2s")
    assert done.exit_code == 125
    assert "no job 99" in done.stderr
    assert sorted(service.queue.cancels) == [(1, "SIGINT", 2.0), (3, "SIGINT", 2.0)]
    assert verb("cancel", "--group", "g").exit_code == 0
    assert service.queue.cancels[2:] == [(2, None, None)]


def test_cancel_tells_of_what_had_already_ended(service: ServiceThread, verb: Verb) -> None:
    ran(service)
    ran(service, exit_code=3)
    service.do(service.queue.add, *jobs(1))
    first = verb("cancel", "1-3")
    assert (first.exit_code, first.stdout) == (0, "")
    assert first.stderr.splitlines() == [
        "queued-runner: job 1 has already succeeded",
        "queued-runner: job 2 has already failed (exit 3)",
    ]
    again = verb("cancel", 3, "--json")
    assert again.stderr == ""  # it is what was asked for
    assert [job["state"] for job in json.loads(again.stdout)] == ["cancelled"]


def test_a_thousand_jobs_are_cancelled_in_one_request(service: ServiceThread, verb: Verb) -> None:
    service.do(service.queue.add, *jobs(1010))
    done = verb("cancel", "2-1009", "--json")
    assert [job["id"] for job in json.loads(done.stdout)] == list(range(2, 1010))
    left = [job.id for job in service.queue.jobs.values() if job.state is JobState.QUEUED]
    assert left == [1, 1010]
    many = verb("cancel", "5000-5099")
    assert many.exit_code == 125
    assert len(many.stderr.splitlines()) == 21


@pytest.mark.parametrize("name", ["show", "logs", "wait", "cancel"])
def test_a_job_that_does_not_exist(service: ServiceThread, verb: Verb, name: str) -> None:
    done = verb(name, 99)
    assert (done.exit_code, done.stdout) == (125, "")
    assert "There is no job 99" in done.stderr


@pytest.mark.parametrize("arguments", [["ps"], ["wait", "1"], ["logs", "-f", "1"], ["run", "true"]])
class TestNoWayToTheServer:
    def test_no_server(self, verb: Verb, arguments: list[str]) -> None:
        done = verb(*arguments)
        assert done.exit_code == 125
        assert "start it with: queued-runner serve" in done.stderr

    def test_a_server_that_is_gone(
        self, service: ServiceThread, verb: Verb, arguments: list[str]
    ) -> None:
        service.stop()
        done = verb(*arguments)
        assert done.exit_code == 125
        assert "start it with: queued-runner serve" in done.stderr

    def test_a_wrong_token(
        self,
        service: ServiceThread,
        verb: Verb,
        monkeypatch: pytest.MonkeyPatch,
        arguments: list[str],
    ) -> None:
        monkeypatch.setenv("DUPLEX_RUNNER_TOKEN", "wrong")
        done = verb(*arguments)
        assert done.exit_code == 125
        assert "did not accept the token" in done.stderr
        assert "DUPLEX_RUNNER_TOKEN" in done.stderr


@pytest.mark.parametrize(
    ("options", "stdout", "stderr"),
    [
        ([], b"1\n2\n3", b"e\nf\n"),
        (["--stdout"], b"1\n2\n3", b""),
        (["--stderr"], b"", b"e\nf\n"),
        (["--offset", "3"], b"\n3", b"e\nf\n"),
        (["--tail", "2"], b"3", b"f\n"),
        (["--tail", "2", "--stdout"], b"2\n3", b""),
        (["--tail", "0"], b"", b""),
        (["--tail", "99"], b"1\n2\n3", b"e\nf\n"),
        (["--tail", "1", "--follow"], b"3", b""),
    ],
)
def test_logs(
    service: ServiceThread, verb: Verb, options: list[str], stdout: bytes, stderr: bytes
) -> None:
    ran(service, ("stdout", b"1\n2"), ("stderr", b"e\n"), ("stdout", b"\n"), ("stderr", b"f\n"),
        ("stdout", b"3"))  # fmt: skip
    done = verb("logs", "last", *options)
    assert (done.exit_code, done.stdout_bytes, done.stderr_bytes) == (0, stdout, stderr)


def test_logs_with_times(service: ServiceThread, verb: Verb) -> None:
    ran(service, ("stdout", b"a\nb"), ("stderr", b"e\n"))
    done = verb("logs", 1, "--timestamps")
    time = "1970-01-01T00:00:00.005Z"
    assert (done.stdout, done.stderr) == (f"{time} a\n{time} b", f"{time} e\n")


def test_logs_of_a_job_that_has_not_started(service: ServiceThread, verb: Verb) -> None:
    service.do(service.queue.add, *jobs(1))
    for options in ([], ["--tail", "3"]):
        done = verb("logs", 1, *options)
        assert (done.exit_code, done.stdout, done.stderr) == (0, "", "")


def test_logs_of_each_attempt(service: ServiceThread, verb: Verb) -> None:
    service.do(service.queue.add, *jobs(1))
    for number in (1, 2):
        service.do(service.queue.start, 1)
        service.do(service.queue.write, 1, "stdout", b"try %d\n" % number)
        service.do(service.queue.finish, 1, 1, retry=number == 1)
    assert service.queue.jobs[1].state is JobState.FAILED
    assert verb("logs", 1).stdout == "try 2\n"
    assert verb("logs", 1, "--attempt", 1).stdout == "try 1\n"
    assert verb("logs", 1, "--attempt", 1, "-f").stdout == "try 1\n"
    done = verb("logs", 1, "--attempt", 3)
    assert done.exit_code == 125
    assert "there is no 3 yet" in done.stderr


def test_a_group_without_such_jobs_and_one_with_many_are_told(
    service: ServiceThread, verb: Verb
) -> None:
    done = verb("cancel", "--group", "typo")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == "queued-runner: there is no job to cancel in the group 'typo'\n"
    service.do(service.queue.add, *jobs(1200, group="g"))
    done = verb("cancel", "--group", "g")
    assert done.stderr == "queued-runner: 1,200 jobs are cancelled, or are to end\n"
    done = verb("retry", "--group", "g")
    assert done.stderr == "queued-runner: 1,200 jobs are queued once more\n"
