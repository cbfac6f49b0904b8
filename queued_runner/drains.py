"""Which workers get nothing new: durable, known to all servers of a queue and to the runners here.

It owns the drained ones, wherever they are: one that is away is drained when it comes back, at this
server or another; one that is connected to another server is drained by that, once it hears of it
or looks again. What a drain means for what runs is the runner's (`JobRunner.drain`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from queued_runner.dispatcher import Dispatcher
from queued_runner.errors import WorkerLeaves, WorkerNotFound
from queued_runner.sightings import worker_info
from queued_runner.store.base import Store
from queued_runner.store.commit import GroupCommit
from remote_runner.types import JobRunner, WorkerInfo


class Drains:
    """Drains and resumes workers.

    Args:
        commits: the one writer of the store.
        dispatcher: of this server; tells the others.
        runners: those of this server.
        drained: the names of those that are drained already, by their ids.
        is_shared: there may be other servers.
    """

    def __init__(
        self,
        commits: GroupCommit,
        dispatcher: Dispatcher,
        runners: Sequence[JobRunner],
        drained: Mapping[str, str],
        *,
        is_shared: bool,
    ) -> None:
        self._commits = commits
        self._dispatcher = dispatcher
        self._runners = runners
        self._drained = dict(drained)
        self._is_shared = is_shared
        for worker_id in self._drained:
            self._order_drain(worker_id)

    def _order_drain(self, worker_id: str) -> None:
        for runner in self._runners:
            runner.drain(worker_id)

    def _order_resume(self, worker_id: str) -> None:
        for runner in self._runners:
            runner.resume(worker_id)

    def learn(self, drained: Mapping[str, str]) -> None:
        """These are drained by now, whoever has done it."""
        before, self._drained = self._drained, dict(drained)
        for worker_id in drained.keys() - before.keys():
            self._order_drain(worker_id)
        for worker_id in before.keys() - drained.keys():
            self._order_resume(worker_id)

    def _connected(self, worker_id: str) -> WorkerInfo | None:
        for runner in self._runners:
            for worker in runner.workers():
                if worker.id == worker_id:
                    return worker
        return None

    def _elsewhere(self, store: Store, worker_id: str) -> WorkerInfo | None:
        """The worker, if it is connected to another server."""
        for record in store.workers(worker_id):
            names = {server.id: server.name for server in store.servers()}
            if record.server != self._dispatcher.server and record.server in names:
                return worker_info(record, names[record.server], store.placed(worker_id))
        return None

    def away(self) -> Sequence[WorkerInfo]:
        """The drained ones that are not connected here."""
        connected = {worker.id for runner in self._runners for worker in runner.workers()}
        return [
            _away(worker_id, name)
            for worker_id, name in self._drained.items()
            if worker_id not in connected
        ]

    def shown(self, worker: WorkerInfo) -> WorkerInfo:
        """A worker of another server, which may not have heard yet that it is drained."""
        return _drained(worker) if worker.id in self._drained else worker

    async def drain(self, worker_id: str) -> WorkerInfo:
        """The worker, which gets nothing new any more. Raises WorkerNotFound."""
        here = self._connected(worker_id)
        if here is not None and here.is_baseline and not self._is_shared:
            self._order_drain(worker_id)  # its id ends with its connection: nothing to keep
            return self._connected(worker_id) or here

        def drain(store: Store) -> WorkerInfo:
            worker = here or self._elsewhere(store, worker_id)
            if worker is None:
                if worker_id not in self._drained:
                    raise WorkerNotFound(worker_id)
                worker = _away(worker_id, self._drained[worker_id])
            store.drain_worker(worker_id, worker.name, self._dispatcher.now())
            return worker

        def drained(worker: WorkerInfo) -> None:
            self._drained[worker_id] = worker.name
            self._order_drain(worker_id)
            self._dispatcher.changes.tell_drains()

        worker = await self._commits.call(drain, drained)
        return self._connected(worker_id) or _drained(worker)

    async def resume(self, worker_id: str) -> WorkerInfo:
        """The worker, which gets jobs again.

        Raises:
            WorkerNotFound: it is neither connected nor drained.
            WorkerLeaves: it takes none until it is started again; the drain is taken back.
        """
        here = self._connected(worker_id)

        def resume(store: Store) -> WorkerInfo:
            worker = here or self._elsewhere(store, worker_id)
            if worker is None:
                if worker_id not in self._drained:
                    raise WorkerNotFound(worker_id)
                worker = _away(worker_id, self._drained[worker_id])
            store.resume_worker(worker_id)
            return worker

        def resumed(worker: WorkerInfo) -> None:
            self._drained.pop(worker_id, None)
            self._order_resume(worker_id)
            self._dispatcher.changes.tell_drains()

        if here is not None and here.is_baseline and not self._is_shared:
            resumed(here)
            worker = here
        else:
            worker = await self._commits.call(resume, resumed)
        if worker.is_leaving:
            raise WorkerLeaves(worker.name)
        return self._connected(worker_id) or _resumed(worker)


def _away(worker_id: str, name: str) -> WorkerInfo:
    return WorkerInfo(
        id=worker_id, name=name, state="away", slots=0, free=0, labels={}, version="", address=""
    )


def _drained(worker: WorkerInfo) -> WorkerInfo:
    """As its server shows it once it has heard that it is drained."""
    if worker.state != "ready":
        return worker
    return replace(worker, state="draining" if worker.running else "drained", free=0)


def _resumed(worker: WorkerInfo) -> WorkerInfo:
    """As its server shows it once it has heard that it is resumed."""
    if worker.state not in ("draining", "drained"):
        return worker
    free = max(0, worker.slots - worker.busy)
    return replace(worker, state="ready", free=free)
