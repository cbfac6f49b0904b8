"""Which workers the server gives nothing new to: durable, and known to the runners.

It owns the drained ones, wherever they are: one that is away is drained when it comes back, at this
server or the next. What a drain means for what runs is the runner's (`JobRunner.drain`).
"""

from collections.abc import Callable, Mapping, Sequence

from queued_runner.errors import WorkerLeaves, WorkerNotFound
from queued_runner.store.commit import GroupCommit
from remote_runner.types import JobRunner, WorkerInfo


class Drains:
    """Drains and resumes workers of these runners.

    `drained` are the names of those that are drained already, by their ids.
    """

    def __init__(
        self,
        commits: GroupCommit,
        runners: Sequence[JobRunner],
        drained: Mapping[str, str],
        now: Callable[[], float],
    ) -> None:
        self._commits = commits
        self._runners = runners
        self._drained = dict(drained)
        self._now = now
        for worker_id in self._drained:
            self._order_drain(worker_id)

    def _order_drain(self, worker_id: str) -> None:
        for runner in self._runners:
            runner.drain(worker_id)

    def _connected(self, worker_id: str) -> WorkerInfo | None:
        for runner in self._runners:
            for worker in runner.workers():
                if worker.id == worker_id:
                    return worker
        return None

    def away(self) -> Sequence[WorkerInfo]:
        """The drained ones that are not connected."""
        connected = {worker.id for runner in self._runners for worker in runner.workers()}
        return [
            _away(worker_id, name)
            for worker_id, name in self._drained.items()
            if worker_id not in connected
        ]

    async def drain(self, worker_id: str) -> WorkerInfo:
        """The worker, which gets nothing new any more. Raises WorkerNotFound."""
        worker = self._connected(worker_id)
        if worker is None:
            if worker_id in self._drained:
                return _away(worker_id, self._drained[worker_id])
            raise WorkerNotFound(worker_id)
        name = worker.name

        def drained(_: None) -> None:
            self._drained[worker_id] = name
            self._order_drain(worker_id)

        if worker.is_baseline:  # its id ends with its connection: nothing to keep
            self._order_drain(worker_id)
        else:
            now = self._now()
            await self._commits.call(
                lambda store: store.drain_worker(worker_id, name, now), drained
            )
        return self._connected(worker_id) or _away(worker_id, name)

    async def resume(self, worker_id: str) -> WorkerInfo:
        """The worker, which gets jobs again.

        Raises:
            WorkerNotFound: it is neither connected nor drained.
            WorkerLeaves: it takes none until it is started again; the drain is taken back.
        """
        worker = self._connected(worker_id)
        name = worker.name if worker is not None else self._drained.get(worker_id)
        if name is None:
            raise WorkerNotFound(worker_id)

        def resumed(_: None) -> None:
            self._drained.pop(worker_id, None)
            for runner in self._runners:
                runner.resume(worker_id)

        if worker is not None and worker.is_baseline:
            resumed(None)
        else:
            await self._commits.call(lambda store: store.resume_worker(worker_id), resumed)
        if worker is not None and worker.is_leaving:
            raise WorkerLeaves(name)
        return self._connected(worker_id) or _away(worker_id, name)


def _away(worker_id: str, name: str) -> WorkerInfo:
    return WorkerInfo(
        id=worker_id, name=name, state="away", slots=0, free=0, labels={}, version="", address=""
    )
