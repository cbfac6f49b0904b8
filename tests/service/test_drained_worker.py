"""A drained worker and a follower of events, through a server that is killed: the real commands."""

import json
import subprocess

from tests.commands import Service, kill


def test_a_drain_and_a_follower_outlive_the_server(service: Service) -> None:
    server = service.start_server()
    worker = service.start_worker("w1", slots=1)
    service.wait_for(lambda: service.json("workers"), "the worker")
    follower = service.start_verb("events", "-f")
    assert follower.stdout is not None
    assert next_event(follower)["event"] == "worker.joined"

    long = service.submit(
        "sh", "-c", "until [ -e go ]; do sleep 0.05; done", cwd=str(service.folder)
    )
    assert next_event(follower)["event"] == "job.new"
    assert next_event(follower)["event"] == "job.started"
    assert service.verb("drain", "w1").returncode == 0
    assert next_event(follower)["event"] == "worker.draining"
    later = service.submit("true")
    assert next_event(follower)["event"] == "job.new"

    port = service.facts["port"]
    kill(server)
    service.start_server("--port", port)
    seen = [next_event(follower)]
    assert (seen[0]["event"], seen[0]["missed"]) == ("gap", None)
    while seen[-1]["event"] != "job.attached":
        seen.append(next_event(follower))
    assert [item["event"] for item in seen[1:]] == [
        "job.detached", "worker.joined", "worker.draining", "job.attached",
    ]  # fmt: skip
    assert service.json("workers")[0]["state"] == "draining"
    (service.folder / "go").touch()
    ends = [next_event(follower) for _ in range(2)]
    assert {item["event"] for item in ends} == {"worker.drained", "job.done"}
    assert service.job(long)["state"] == "succeeded"
    assert service.job(later)["state"] == "queued"
    assert "resume" in service.job(later)["pending_reason"]

    kill(worker)
    assert next_event(follower)["event"] == "worker.left"
    assert [item["state"] for item in service.json("workers")] == ["away"]
    service.start_worker("w1", slots=1)
    assert [next_event(follower)["event"] for _ in range(2)] == ["worker.joined", "worker.drained"]
    assert service.verb("resume", "w1").returncode == 0
    assert next_event(follower)["event"] == "worker.resumed"
    assert next_event(follower)["event"] == "job.started"
    assert next_event(follower)["job"] == later


def next_event(follower: "subprocess.Popen[bytes]") -> dict[str, object]:
    assert follower.stdout is not None
    return dict(json.loads(follower.stdout.readline()))
