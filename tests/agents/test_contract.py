"""An agent that was written from the ancestor's contract alone runs jobs to the end, unmodified."""

import sys
from pathlib import Path

from tests.commands import PATIENCE

AGENT = Path(__file__).with_name("contract_agent.py")


def test_an_agent_of_the_ancestor_runs_100_jobs_8_at_a_time_with_exact_output(service):
    service.start_server("--agent-api")
    script = "for i in $(seq $2); do echo $1 line $i $3; done; echo $1 >&2; exit $4"
    bodies = [
        {"command": "bash", "args": ["-c", script, "x", str(n), "20000" if n % 10 == 0 else "3",
         "it's \"exact\" $HOME ä€😀 \\", "1" if n % 25 == 7 else "0"]}
        for n in range(100)
    ]  # fmt: skip
    jobs = service.submit_many(bodies)
    agent = service.start("agent", sys.executable, AGENT, service.facts["url"], 100, 8)
    service.wait_for(lambda: agent.poll() is not None, "the agent", 2 * PATIENCE)
    assert agent.returncode == 0, service.logs()
    service.wait_for(lambda: all(j["finished_at"] for j in service.jobs()), "the jobs")
    for n, job_id in enumerate(jobs):
        job = service.job(job_id)
        assert job["state"] == ("failed" if n % 25 == 7 else "succeeded")
        assert (job["attempt"], job["worker"]) == (1, "agent")
        lines = 20000 if n % 10 == 0 else 3
        text = "".join(f'{n} line {i} it\'s "exact" $HOME ä€😀 \\\n' for i in range(1, lines + 1))
        assert service.request(f"/api/v1/jobs/{job_id}/logs?stream=stdout") == text.encode()
        assert service.request(f"/api/v1/jobs/{job_id}/logs?stream=stderr") == f"{n}\n".encode()
