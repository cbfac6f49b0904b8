"""`simple_worker --pull`: the worker as an agent over HTTP, through every fault that one meets."""

import signal
import sys

from tests.commands import PATIENCE, is_alive, kill


def start_agent(service, slots=2, *options, **more):
    return service.start(
        "agent", sys.executable, "-m", "simple_worker", "--pull", service.facts["url"],
        "--name", "puller", "--slots", slots, "--state-dir", service.folder / "agent-state",
        *options, **more,
    )  # fmt: skip


def test_it_runs_100_jobs_8_at_a_time_and_survives_a_killed_server(service, tmp_path):
    server = service.start_server("--agent-api")
    ports = service.facts
    script = "i=0; while [ $i -lt $2 ]; do echo $1 line $i; i=$((i+1)); done; echo $JOB_ID >> $3"
    witness = tmp_path / "witness"
    bodies = [
        {"command": "sh", "args": ["-c", script, "x", str(n), str(1 + 100 * (n % 7)), str(witness)]}
        for n in range(100)
    ]
    jobs = service.submit_many(bodies)
    start_agent(service, 8)
    service.wait_for(lambda: witness.exists() and witness.read_text().count("\n") > 10, "jobs")
    kill(server)
    service.start_server("--agent-api", "--port", ports["port"], "--http-port", ports["http_port"])
    service.wait_for(
        lambda: all(job["finished_at"] for job in service.jobs()), "the jobs", 2 * PATIENCE
    )
    for n, job_id in enumerate(jobs):
        job = service.job(job_id)
        assert (job["state"], job["worker"]) == ("succeeded", "puller")
        text = "".join(f"{n} line {i}\n" for i in range(1 + 100 * (n % 7)))
        assert service.output(job_id) == text.encode()
    # One whose pull was answered by nobody, because the server died, runs again; no other does.
    assert sorted(set(map(int, witness.read_text().split()))) == jobs


def test_a_running_job_goes_on_while_the_server_restarts(service, tmp_path):
    begun, go = tmp_path / "begun", tmp_path / "go"
    server = service.start_server("--agent-api")
    ports = service.facts
    start_agent(service)
    script = (
        f"echo early; touch {begun}; until [ -e {go} ]; do sleep 0.01; done;"
        " printf 'a\\377no end'; exit 5"
    )
    client = service.start_verb("run", "--", "sh", "-c", script)
    service.wait_for(begun.exists, "the job")
    kill(server)
    go.touch()
    service.start_server("--agent-api", "--port", ports["port"], "--http-port", ports["http_port"])
    output = client.communicate(timeout=PATIENCE)[0]
    assert (client.returncode, output) == (5, b"early\na\xffno end")
    assert service.jobs()[0]["attempt"] == 1, service.verb("show", "1", "--json").stdout


def test_a_cancel_reaches_the_whole_tree_at_once(service, tmp_path):
    service.start_server("--agent-api")
    start_agent(service)
    pids = tmp_path / "pids"
    script = f"sleep 1000 & echo $! $$ > {pids}; wait"
    job_id = service.submit("sh", "-c", script)
    tree = service.read_pids(pids, 2)
    service.cancel(job_id)
    service.wait_for(lambda: service.job(job_id)["finished_at"], "the end", 5.0)
    assert service.job(job_id)["state"] == "cancelled"
    assert not any(map(is_alive, tree))


def test_it_drains_at_the_first_signal_and_gives_jobs_back_at_the_second(service, tmp_path):
    service.start_server("--agent-api")
    agent = start_agent(service)
    pids = tmp_path / "pids"
    job_id = service.submit("sh", "-c", f"echo $$ > {pids}; exec sleep 1000")
    (pid,) = service.read_pids(pids, 1)
    agent.send_signal(signal.SIGTERM)
    service.wait_for(lambda: "draining" in service.logs(), "the drain")
    assert is_alive(pid)
    agent.send_signal(signal.SIGTERM)
    assert agent.wait(PATIENCE) == 0
    assert not is_alive(pid)
    service.wait_for(lambda: service.job(job_id)["state"] == "queued", "the job to be queued")


def test_once_it_leaves_when_the_work_is_done(service):
    service.start_server("--agent-api")
    job_id = service.submit("sh", "-c", "cat; echo $JOB_NAME; pwd; exit 3", stdin="in", name="n'n",
                            cwd="/usr")  # fmt: skip
    missing = service.submit("/no such command")
    slow = service.submit("sleep", "100", timeout=0.2, kill_grace=0.1)
    agent = start_agent(service, 2, "--once", "--label", "os=linux")
    assert agent.wait(PATIENCE) == 0
    job = service.job(job_id)
    assert (job["state"], job["exit_code"]) == ("failed", 3)
    assert service.output(job_id) == b"inn'n\n/usr\n"
    assert (service.job(missing)["exit_code"], service.job(missing)["reason"]) == (127, "exit")
    assert b"no such command" in service.output(missing)
    assert service.job(slow)["reason"] == "timeout"


def test_it_says_what_is_wrong(service):
    service.start_server()
    start_agent(service, 1)
    service.wait_for(lambda: "start the server with --agent-api" in service.logs(), "a word")


def test_a_needed_label_is_looked_at(service):
    service.start_server("--agent-api")
    job_id = service.submit("true", needs={"os": "linux"})
    other = service.submit("true", needs={"os": "plan9"})
    agent = start_agent(service, 2, "--once", "--label", "os=linux")
    assert agent.wait(PATIENCE) == 0
    assert service.job(job_id)["state"] == "succeeded"
    assert service.job(other)["state"] == "queued"
