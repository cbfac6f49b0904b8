"""Jobs that take several slots of one worker: the real commands."""

from tests.commands import Service, kill

WAIT = "echo $JOB_SLOTS; until [ -e {go} ]; do sleep 0.05; done"


def started(service: Service, go: str, **fields: object) -> int:
    """A job that ends once there is a file of this name."""
    return service.submit("sh", "-c", WAIT.format(go=service.folder / go), **fields)


def states(service: Service, *jobs: int) -> list[str]:
    return [service.job(job)["state"] for job in jobs]


def test_who_comes_later_does_not_overtake_one_that_waits_for_more(service: Service) -> None:
    service.start_server()
    service.start_worker("w1", slots=3)
    first = [started(service, f"go-{number}") for number in range(2)]
    service.wait_for(lambda: states(service, *first) == ["running"] * 2, "the first two")
    done = service.verb(
        "submit", "--slots", 3, "--", "sh", "-c", WAIT.format(go=service.folder / "go-wide")
    )
    wide = int(done.stdout)
    later = service.submit("true")
    urgent, output = service.run("sh", "-c", "echo $JOB_SLOTS", priority=1)
    assert (urgent["state"], output) == ("succeeded", b"1\n")
    said = service.verb("explain", wide).stdout.decode().splitlines()
    assert said[0] == f"job {wide}: it waits until 3 slots of one fitting worker are free at once"
    assert said[1].endswith("free slots: 1 of 3, and it takes 3")
    said = service.job(later)["pending_reason"]
    assert said == f"the free slots are kept for job {wide}, which comes before it and takes more"

    (service.folder / "go-0").touch()
    service.wait_for(lambda: states(service, first[0]) == ["succeeded"], "the first")
    assert states(service, wide, later) == ["queued", "queued"]
    (service.folder / "go-1").touch()
    service.wait_for(lambda: states(service, wide) == ["running"], "its slots")
    assert states(service, later) == ["queued"]
    assert service.json("workers")[0]["free"] == 0
    assert service.verb("workers").stdout.splitlines()[1].split()[:3] == [b"w1", b"ready", b"3/3"]
    (service.folder / "go-wide").touch()
    service.wait_for(lambda: states(service, wide, later) == ["succeeded"] * 2, "the rest")
    assert service.output(wide) == b"3\n"


def test_what_was_kept_for_one_that_is_cancelled_is_for_others(service: Service) -> None:
    service.start_server()
    service.start_worker("w1", slots=2)
    first = started(service, "go")
    service.wait_for(lambda: states(service, first) == ["running"], "the first")
    wide, later = service.submit("true", slots=2), service.submit("true")
    service.run("true", priority=1)
    assert states(service, wide, later) == ["queued", "queued"]
    service.cancel(wide)
    service.wait_for(lambda: states(service, wide, later) == ["cancelled", "succeeded"], "the last")


def test_its_slots_stay_taken_through_a_server_that_is_killed(service: Service) -> None:
    server = service.start_server()
    port = service.facts["port"]
    service.start_worker("w1", slots=3)
    wide = started(service, "go", slots=2)
    service.wait_for(lambda: states(service, wide) == ["running"], "it")
    kill(server)
    service.start_server("--port", port)
    others = [started(service, "go") for _ in range(2)]
    service.wait_for(lambda: states(service, *others) == ["running", "queued"], "one beside it")
    [worker] = service.json("workers")
    assert (worker["free"], len(worker["running"])) == (0, 2)
    (service.folder / "go").touch()
    service.wait_for(lambda: states(service, wide, *others) == ["succeeded"] * 3, "all")


def test_one_that_nobody_can_run_says_so_and_holds_up_nobody(service: Service) -> None:
    service.start_server("--local-slots", 2)
    wide = service.submit("true", slots=3, priority=9)
    assert service.run("true")[0]["state"] == "succeeded"
    assert "no worker that fits has 3 slots" in service.job(wide)["pending_reason"]
    service.start_worker("w1", slots=3)
    service.wait_for(lambda: states(service, wide) == ["succeeded"], "a worker with as many")
    refused = service.verb("submit", "--slots", 1001, "--", "true")
    assert refused.returncode == 125
    assert b"slots" in refused.stderr
