"""The clients of a simulation: each submits one job, and does with it what its plan says.

They talk to the queue as an HTTP handler does, in the server's process; when that dies, they do not
know what became of their request, and ask the next server.
"""

import trio

from queued_runner.jobs import JobState
from queued_runner.store.base import BadDependency, Deposed, KeyConflict, NotEnded, StoreAway

RETRY = 0.3


class Gone(Exception):
    """The server died, or left, before it answered; or there was none to be asked."""

    def __init__(self, was_asked):
        super().__init__()
        self.was_asked = was_asked


AWAY = (Gone, StoreAway, Deposed)
"""What makes somebody ask again."""


class Client:
    """Who is interested in one job."""

    def __init__(self, world, plan):
        self._world = world
        self._plan = plan
        self.done = trio.Event()

    async def run(self):
        await self._run()
        self.done.set()

    async def _run(self):
        plan = self._plan
        await trio.sleep(plan.submit_at)
        job_id = await self._submit()
        if job_id is None:
            return
        async with trio.open_nursery() as nursery:
            if plan.follows:
                nursery.start_soon(self._follow, job_id)
            if plan.cancel_after is not None:
                nursery.start_soon(self._cancel, job_id)
            if plan.retry_after is not None:
                nursery.start_soon(self._retry, job_id)
            if plan.again_after is not None and plan.spec.key is not None:
                nursery.start_soon(self._submit_again)

    async def _ask(self, request):
        """What the server answers; again at the next one if it does not."""
        while True:
            try:
                return await self._world.call(request)
            except AWAY:
                await trio.sleep(RETRY)

    async def _submit(self):
        """The job's id; None if nobody knows whether it was added."""
        spec = self._plan.spec
        while True:
            try:
                (job_id,) = await self._world.call(lambda queue: queue.submit_many([spec]))
            except Gone as gone:
                if spec.key is None and gone.was_asked:
                    return None
                await trio.sleep(RETRY)
                continue
            except (BadDependency, StoreAway, Deposed):  # what it comes after is not there yet
                await trio.sleep(RETRY)
                continue
            self._world.checks.on_submitted(job_id, spec)
            self._world.note("client heard", f"job {job_id} is added")
            return job_id

    async def _submit_again(self):
        await trio.sleep(self._plan.again_after)
        await self._submit()
        other = self._plan.spec.model_copy(update={"args": ("other",)})
        try:
            await self._ask(lambda queue: queue.submit_many([other]))
        except KeyConflict:
            return
        self._world.fail("I12", f"{other.key} was taken for another job")

    async def _retry(self, job_id):
        await trio.sleep(self._plan.retry_after)
        try:
            job = await self._ask(lambda queue: queue.retry(job_id))
        except NotEnded:
            return
        self._world.note("client heard", f"job {job_id} is {job.state} once more")

    async def _cancel(self, job_id):
        await trio.sleep(self._plan.cancel_after)
        job = await self._ask(lambda queue: queue.cancel(job_id))
        self._world.checks.on_cancelled(job_id, job)
        self._world.note("client heard", f"the cancel of job {job_id} in attempt {job.attempt}")

    async def _follow(self, job_id):
        """Read attempt after attempt by offset, across servers, until the job has ended."""
        number, offset = 1, 0

        async def read(queue):
            nonlocal number, offset
            while True:
                async for record in queue.records(job_id, attempt=number, offset=offset):
                    if record.offset != offset:
                        text = f"{job_id}.{number}: {record.offset} follows {offset}"
                        self._world.fail("I5", f"a follower's output has a gap: {text}")
                    self._world.checks.check_output(
                        f"{job_id}.{number}", record.offset, record.stream, record.data, "follower"
                    )
                    offset = record.offset + len(record.data)
                job = await queue.get(job_id)
                if job.attempt == number and job.state is JobState.RUNNING:
                    self._world.fail("I5", f"the output of {job_id}.{number} ends, and it runs")
                if job.state.is_terminal and job.attempt <= number:
                    return
                number, offset = number + 1, 0

        await self._ask(read)
