"""Files that become part of a job: what is too much is refused at once, and never in memory."""

from pathlib import Path

import pytest

from queued_runner.cli.job_options import MAX_STDIN
from queued_runner.jobs import MAX_STDIN as MAX_STDIN_OF_THE_SERVER
from tests.cli.conftest import StartVerb, Verb
from tests.cli.service_thread import PATIENCE, ServiceThread


def test_the_client_knows_the_limit_of_the_server() -> None:
    assert MAX_STDIN == MAX_STDIN_OF_THE_SERVER


def test_as_much_input_as_a_job_may_have(
    service: ServiceThread, verb: Verb, tmp_path: Path
) -> None:
    file = tmp_path / "input"
    file.write_bytes(b"a" * MAX_STDIN)
    assert verb("submit", "--stdin", file, "wc").exit_code == 0
    assert verb("submit", "--stdin", "-", "wc", input=b"\xff" * MAX_STDIN).exit_code == 0
    sizes = [len(job.spec.stdin_bytes() or b"") for job in service.queue.jobs.values()]
    assert sizes == [MAX_STDIN, MAX_STDIN]
    done = verb("submit", "--stdin", "-", "wc", input=b"a" * (MAX_STDIN + 1))
    assert done.exit_code == 2
    assert "--stdin - has more than 4,194,304 bytes; put larger input in a file" in done.stderr
    assert len(service.queue.jobs) == 2


@pytest.mark.parametrize("option", ["--stdin", "--mask-file"])
def test_a_file_without_an_end_is_not_read_to_it(start_verb: StartVerb, option: str) -> None:
    process = start_verb("submit", option, "/dev/zero", "true")
    _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert f"{option} /dev/zero has more than".encode() in stderr
