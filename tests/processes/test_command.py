"""The real command: as one of several processes, as the one that keeps them, and its options."""

import json
import os
import signal
import subprocess
import sys
import urllib.request

import pytest
import trio

from queued_runner.lifeline import VARIABLE
from tests.commands import PATIENCE, ROOT, is_alive
from tests.processes.conftest import gone

PASSWORD = "hush-hush"
WITH_PASSWORD = f"postgresql://me:{PASSWORD}@127.0.0.1:1/none"


def real(folder):
    """The service, with a queue of its own for each process: only what they share is looked at."""
    script = (
        'exec "$0" -m remote_runner --data-dir "$1" --store "sqlite:///$1/own-$$/queue.db"'
        " --no-baseline --drain"
    )
    return ["sh", "-c", script, sys.executable, str(folder)]


def own_facts(folder, number):
    return json.loads((folder / "processes" / str(number) / "server.json").read_text())


def is_ready(facts):
    """Asked on a new connection, with the token."""
    with open(facts["token_file"]) as file:
        headers = {"Authorization": f"Bearer {file.read().strip()}"}
    request = urllib.request.Request(f"{facts['url']}/readyz", headers=headers)
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return answer.status == 200


async def test_real_servers_share_what_is_shared_and_keep_the_rest_apart(kept):
    kept.start(real(kept.folder), http_port=0, json_port=0)
    await kept.ready()
    together = kept.facts
    apart = [own_facts(kept.folder, number) for number in (1, 2)]
    assert apart[0]["pid"] != apart[1]["pid"]
    for facts in apart:
        assert {**facts, "pid": os.getpid()} == together
    for _ in range(10):
        assert await trio.to_thread.run_sync(is_ready, together)
    kept.signal()
    assert await kept.end() == 0
    assert not any(is_alive(facts["pid"]) for facts in apart)
    assert not list(kept.folder.rglob("server.json"))


async def test_real_servers_end_with_their_keeper(keeper, kept):
    process = keeper(*real(kept.folder))
    await kept.ready()
    pids = [own_facts(kept.folder, number)["pid"] for number in (1, 2)]
    process.kill()
    await gone(pids)
    assert not list((kept.folder / "processes").rglob("server.json"))


def test_a_real_server_drains_until_the_second_signal(keeper, service):
    process = keeper(*real(service.data_dir), processes=1)
    service.wait_until_ready(process)
    service.start_worker(slots=1)
    running, waiting = service.submit("sleep", "1000"), service.submit("true")
    service.wait_for(lambda: service.job(running)["state"] == "running", "the job")
    process.send_signal(signal.SIGTERM)
    service.wait_for(
        lambda: "stopping" in (service.job(waiting)["pending_reason"] or ""), "the server to drain"
    )
    assert service.job(running)["state"] == "running"
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0


def serve(folder, *options, **environment):
    """The status and the words of a service that is expected not to run."""
    done = subprocess.run(
        [sys.executable, "-m", "remote_runner", "--data-dir", folder / "state", "--port", "0",
         "--http-port", "0", *options],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    return done.returncode, done.stderr


@pytest.mark.parametrize("options", [[], ["--store", "sqlite:///q.db"]])
def test_a_file_is_not_shared(tmp_path, options):
    status, words = serve(tmp_path, "--processes", "2", *options)
    assert status == 78
    assert "remote-runner: --processes needs --store postgresql://" in words
    assert words.count("\n") == 1
    assert not (tmp_path / "state").exists()


def test_a_store_that_no_process_can_open_ends_them_all(tmp_path):
    status, words = serve(tmp_path, "--processes", "2", "--store", "postgresql://127.0.0.1:1/none")
    assert status == 74
    assert "remote-runner: the database at 127.0.0.1:1/none does not answer" in words
    assert not (tmp_path / "state" / "server.json").exists()


def test_a_password_is_not_taken_where_others_can_see_it(tmp_path):
    for status, words in (
        serve(tmp_path, "--store", WITH_PASSWORD),
        serve(tmp_path, DUPLEX_RUNNER_STORE=WITH_PASSWORD),
        serve(tmp_path, "--store", f"postgresql://me@127.0.0.1:1/none?password={PASSWORD}"),
    ):
        assert status == 2
        assert "others on this machine could see" in " ".join(words.split())
        assert "PGPASSFILE" in words


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_password_is_taken_from_the_file_and_not_shown(tmp_path, processes):
    (tmp_path / "config.toml").write_text(f'[serve]\nstore = "{WITH_PASSWORD}"\n')
    config = str(tmp_path / "config.toml")
    status, words = serve(tmp_path, "--config", config, "--processes", processes)
    assert status == 74
    assert "the database at 127.0.0.1:1/none does not answer" in words


@pytest.mark.parametrize("store", ["mysql://db/q", "sqlite:///", f"host=db password={PASSWORD}"])
def test_a_store_that_is_none(tmp_path, store):
    status, words = serve(tmp_path, "--store", store)
    assert status == 2
    assert "--store" in words


@pytest.mark.parametrize("text", ["", "7", "{}", '{"number": 1}'])
def test_a_place_that_nobody_gave(tmp_path, text):
    status, words = serve(tmp_path, **{VARIABLE: text})
    assert status == 78
    assert f"{VARIABLE} is for the processes of --processes alone; unset it" in words


def test_a_file_of_sqlite_elsewhere_has_one_server(service, tmp_path):
    file = tmp_path / "elsewhere" / "queue.db"
    service.start_server("--store", f"sqlite:///{file}")
    assert file.exists()
    status, words = serve(tmp_path / "second", "--store", f"sqlite:///{file}")
    assert status == 74
    assert "is in use by the server with process id" in words


def test_a_link_to_a_file_of_sqlite_has_the_server_of_that_file(service, tmp_path):
    service.start_server()
    for name in ("elsewhere", "second/state"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "queue.db").symlink_to(service.data_dir / "queue.db")
    url = f"sqlite:///{tmp_path / 'elsewhere' / 'queue.db'}"
    for folder, options in (("third", ["--store", url]), ("second", [])):
        status, words = serve(tmp_path / folder, *options)
        assert status == 74
        assert "is in use by the server with process id" in words


def test_a_program_has_one_process(tmp_path):
    from queued_runner import open_runner
    from remote_runner.errors import UnusableSettings

    async def main():
        async with open_runner(tmp_path, processes=2):
            pass

    with pytest.raises(UnusableSettings, match="one process"):
        trio.run(main)
