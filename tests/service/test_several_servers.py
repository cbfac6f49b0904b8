"""Two servers of one queue in PostgreSQL: what runs at one is seen, and goes on, at the other."""

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest
import trio

from tests.postgres import Postgres
from tests.torture.shared import Peer

LINES = "".join(f"{number}\n" for number in range(1, 20_001)).encode()
"""What each part of the job prints: more than fits beside a row of the database."""
SCRIPT = """
part() { until [ -e "$1" ]; do sleep 0.05; done; seq 20000; }
echo begun; part first; part second; part third; exit 7
"""


class Pair:
    """Two servers, and the worker that both of them know."""

    def __init__(self, folder: Path, address: str) -> None:
        logs = folder / "shared"
        logs.mkdir()
        self.peers = [Peer(folder, name, address, logs) for name in ("a", "b")]
        self._address = address

    def start(self) -> None:
        """Both of them, with the same token."""
        for peer in self.peers:
            peer.service.data_dir.mkdir()
            (peer.service.data_dir / "token").write_text("the-token-of-both")
            peer.launch()
        for peer in self.peers:
            peer.wait_until_ready()

    def start_worker(self, ports: Iterable[int]) -> tuple[Peer, Peer]:
        """A worker: the server where it is, and the other one."""
        servers = [part for port in ports for part in ("--server", f"127.0.0.1:{port}")]
        service = self.peers[0].service
        service.start_worker("w1", 2, *servers)
        service.wait_for(lambda: any(map(self.has_worker, self.peers)), "the worker")
        home, other = sorted(self.peers, key=self.has_worker, reverse=True)
        return home, other

    def _count(self, peer: Peer, what: str) -> int:
        name = (peer.service.data_dir / "name").read_text().split()[0]
        with psycopg.connect(self._address) as connection:
            query = f"SELECT count(*) FROM {what} WHERE name = %s"
            ((count,),) = connection.execute(query, (name,)).fetchall()  # type: ignore[call-overload]
        return int(count)

    def lives(self, peer: Peer) -> int:
        """How many servers of this folder the others take for alive."""
        return self._count(peer, "servers")

    def has_worker(self, peer: Peer) -> bool:
        """Whether it is connected to this server."""
        return self._count(peer, "workers JOIN servers ON server = id") > 0

    def wait_for_worker(self, peer: Peer) -> None:
        """Until it is there."""
        peer.service.wait_for(partial(self.has_worker, peer), "the worker to move")


@pytest.fixture
def pair(tmp_path: Path, postgres: Postgres) -> Iterator[Pair]:
    """Both run."""
    pair = Pair(tmp_path, postgres.new_queue())
    with pair.peers[0].service, pair.peers[1].service:
        pair.start()
        yield pair
    postgres.drop_queues()


@pytest.mark.parametrize("knows_both", [False, True])
def test_run_goes_on_while_its_job_moves_to_another_server(
    pair: Pair, tmp_path: Path, knows_both: bool
) -> None:
    home, other = pair.start_worker(peer.service.facts["port"] for peer in pair.peers)
    where = ("--url", ",".join(peer.locate().url for peer in (home, other)))
    client = home.service.start_verb(
        "run", *(where if knows_both else ()), "--cwd", tmp_path, "--", "sh", "-c", SCRIPT
    )
    assert client.stdout is not None
    first = client.stdout.readline()
    (tmp_path / "first").touch()
    home.kill()
    pair.wait_for_worker(other)
    (tmp_path / "second").touch()
    if not knows_both:
        home.launch()
        home.wait_until_ready()
        home.service.wait_for(lambda: pair.lives(home) == 1, "the burial of its earlier life")
    (tmp_path / "third").touch()
    stdout, stderr = client.communicate(timeout=60)
    assert first + stdout == b"begun\n" + 3 * LINES
    assert client.returncode == 7, stderr
    if knows_both:
        assert stderr == b""


async def test_a_server_does_not_show_what_it_had_of_a_job_that_has_moved(
    pair: Pair, tmp_path: Path, nursery: trio.Nursery
) -> None:
    in_thread = trio.to_thread.run_sync
    for peer in pair.peers:
        await nursery.start(peer.proxy.run)
    home, other = await in_thread(pair.start_worker, [peer.proxy.port for peer in pair.peers])
    script = f"echo one; until [ -e {tmp_path}/go ]; do sleep 0.05; done; echo two"
    job_id = await in_thread(partial(home.service.submit, "sh", "-c", script))
    output = partial(home.service.output, job_id)
    await in_thread(home.service.wait_for, lambda: output() == b"one\n", "the first line")
    home.proxy.refuses = True
    home.proxy.cut()
    await in_thread(pair.wait_for_worker, other)
    (tmp_path / "go").touch()
    job = partial(other.service.job, job_id)
    await in_thread(other.service.wait_for, lambda: job()["finished_at"], "the end")
    assert await in_thread(output) == b"one\ntwo\n"
    nursery.cancel_scope.cancel()
