"""Ten thousand jobs from the command line, on the real server."""

from tests.commands import Service

COUNT = 10_000


def test_ten_thousand_jobs(service: Service) -> None:
    service.start_server()
    submitted = service.verb("submit", "--array", f"0-{COUNT - 1}", "--group", "g", "--", "true")
    assert (submitted.returncode, submitted.stderr) == (0, b"")
    selector = submitted.stdout.decode().strip()
    assert selector == f"1-{COUNT}"

    listed = service.json("ps", "--group", "g")
    assert [job["id"] for job in listed] == list(range(COUNT, 0, -1))
    indices = [job["env"]["JOB_ARRAY_INDEX"] for job in reversed(listed)]
    assert indices == [str(index) for index in range(COUNT)]

    assert service.verb("cancel", selector).returncode == 0
    waited = service.verb("wait", selector)
    assert waited.returncode == 1
    assert waited.stderr.endswith(b"and 9,980 more did not succeed\n")
