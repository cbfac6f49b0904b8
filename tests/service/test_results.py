"""Results with the real commands: whoever is killed or cut off while they are on their way."""

import hashlib
import json
import signal
import threading

import pytest
import trio

from tests.commands import PATIENCE, Service, kill
from tests.torture.proxy import Proxy

SIZE = 8 * 1024 * 1024
LEAVE = (
    'mkdir -p "$JOB_SCRATCH/results/a"; cd "$JOB_SCRATCH/results"; echo $JOB_ATTEMPT > a/attempt;'
    f" head -c {SIZE} /dev/urandom > big; sha256sum < big; ln -s /etc/passwd link; exit 3"
)


class SlowLink:
    """The way of a worker to the server, in a thread: slow until it is told to be quick."""

    def __init__(self, service):
        self._service = service
        self._ready = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._main,))
        self.proxy = Proxy(self._port)

    def _port(self):
        try:
            return self._service.facts["port"]
        except OSError:
            return None

    async def _main(self):
        self._token = trio.lowlevel.current_trio_token()
        self.proxy.up.delay = 0.2
        async with trio.open_nursery() as self._nursery:
            await self._nursery.start(self.proxy.run)
            self._ready.set()

    def do(self, action, *args, **given):
        return trio.from_thread.run_sync(lambda: action(*args, **given), trio_token=self._token)

    def __enter__(self):
        self._thread.start()
        assert self._ready.wait(PATIENCE)
        return self

    def __exit__(self, *error):
        self.do(self._nursery.cancel_scope.cancel)
        self._thread.join(PATIENCE)


@pytest.fixture
def link(service):
    service.start_server()
    with SlowLink(service) as link:
        yield link


def start_sending(service, link, **fields):
    """A job that leaves results, some of which have come, on the slow way of its worker."""
    worker = service.start_worker("w1", 2, "--server", f"127.0.0.1:{link.proxy.port}")
    job = service.submit("sh", "-c", LEAVE, **fields)
    file = service.data_dir / "results" / "0" / str(job) / "1"
    service.wait_for(lambda: file.exists() and file.stat().st_size > 100_000, "the first results")
    assert file.stat().st_size < SIZE
    assert service.job(job)["state"] == "running"
    assert service.json("results", job) == []
    return worker, job


def check(service, job, attempt, tmp_path):
    """The job has failed as it should, and its results are what it left."""
    assert service.verb("wait", job).returncode == 3
    facts = service.job(job)
    assert (facts["state"], facts["exit_code"], facts["attempt"]) == ("failed", 3, attempt)
    done = service.verb("results", job, "-o", tmp_path / "out", "--json")
    assert [row["name"] for row in json.loads(done.stdout)] == ["a/attempt", "big"]
    assert b"left out: link: it is a link" in done.stderr
    digest = hashlib.sha256((tmp_path / "out" / "big").read_bytes()).hexdigest()
    assert service.output(job).decode().split()[0] == digest
    assert (tmp_path / "out" / "a" / "attempt").read_text() == f"{attempt}\n"


def test_a_server_killed_while_they_come(service, link, tmp_path):
    server = service._processes[0]
    worker, job = start_sending(service, link)
    kill(server)
    service.start_server()
    link.do(link.proxy.up.go_on)
    check(service, job, 1, tmp_path)
    assert worker.poll() is None


def test_a_way_that_breaks_again_and_again(service, link, tmp_path):
    _, job = start_sending(service, link)
    file = service.data_dir / "results" / "0" / str(job) / "1"
    for with_reset in (False, True, True):
        before = file.stat().st_size
        link.do(link.proxy.cut, with_reset=with_reset)
        service.wait_for(lambda before=before: file.stat().st_size > before, "more of them")
        assert service.json("results", job) == []
    link.do(link.proxy.up.go_on)
    check(service, job, 1, tmp_path)


def test_a_worker_killed_while_it_sends_them(service, link, tmp_path):
    worker, job = start_sending(service, link)
    kill(worker)
    service.start_worker("w1")  # its new process does not have them, and says so
    check(service, job, 2, tmp_path)
    assert service.json("results", job, "--attempt", 1) == []
    assert not (service.data_dir / "results" / "0" / str(job) / "1").exists()
    assert b"bytes of them came" in service.verb("results", job, "--attempt", 1).stderr


def test_a_worker_told_to_leave_sends_them_first(service, link, tmp_path):
    worker, job = start_sending(service, link)
    worker.send_signal(signal.SIGTERM)
    link.do(link.proxy.up.go_on)
    assert worker.wait(PATIENCE) == 0
    check(service, job, 1, tmp_path)


# --- in the server itself ---


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    with Service(tmp_path_factory.mktemp("service")) as service:
        service.start_server("--local-slots", 1, "--max-results-size", "1KiB")
        yield service


def test_the_server_itself_runs_a_job(local, tmp_path):
    check(local, local.submit("sh", "-c", LEAVE, max_results_size=2 * SIZE), 1, tmp_path)


def test_the_limit_is_the_servers_or_the_jobs_own(local):
    script = 'mkdir "$JOB_SCRATCH/results"; head -c 2000 /dev/zero > "$JOB_SCRATCH/results/x"'
    for fields, kept in (({}, 0), ({"max_results_size": 2000}, 1)):
        job, _ = local.run("sh", "-c", script, **fields)
        assert job["state"] == "succeeded"
        results = json.loads(local.request(f"/api/v1/jobs/{job['id']}/results"))
        assert len(results) == kept


def test_what_a_job_is_told(local):
    fields = {"name": "n", "group": "g", "env": {"JOB_ID": "99"}}
    job, output = local.run("sh", "-c", "env | grep ^JOB_ | sort", **fields)
    told = dict(line.split("=", 1) for line in output.decode().splitlines())
    cookie, scratch = told.pop("JOB_COOKIE"), told.pop("JOB_SCRATCH")
    assert told == {
        "JOB_ID": str(job["id"]), "JOB_ATTEMPT": "1", "JOB_NAME": "n", "JOB_GROUP": "g",
        "JOB_WORKER": "local",
        "JOB_SLOTS": "1",
    }  # fmt: skip
    assert len(cookie) == 16
    assert scratch.startswith("/")
