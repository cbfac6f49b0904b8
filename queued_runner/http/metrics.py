"""The figures of the server for Prometheus: every name, its type and its line of help.

It owns `/metrics`. It counts nothing: those who know do (`tally.py`), and are asked at each scrape.
The registry is made for that scrape; nothing of it is global.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from fastapi import APIRouter
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector
from starlette.responses import Response

from queued_runner.http.parameters import StrictRoute
from queued_runner.jobs import JobState
from queued_runner.queue import Queue
from queued_runner.tally import Figures, Times

MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
PREFIX: Final = "duplex_runner_"
WORKER_STATES: Final = ("greeting", "ready", "draining", "drained")


def build_metrics_route(queue: Queue) -> APIRouter:
    """The route over this queue."""
    router = APIRouter(tags=["service"], route_class=StrictRoute)

    @router.get("/metrics")
    async def show_metrics() -> Response:
        """The figures of this server, as Prometheus reads them."""
        return Response(exposition(await queue.figures()), media_type=MEDIA_TYPE)

    return router


def exposition(figures: Figures) -> bytes:
    """The figures as text, and those of this process.

    Where several servers share a queue each series says whose it is: who scrapes them through one
    address, as that of `--processes`, may reach another one each time.
    """
    families = [*_families(figures), *ProcessCollector(registry=None).collect()]
    if figures.is_shared:
        for family in families:
            family.samples = [
                sample._replace(labels={**sample.labels, "server": figures.server})
                for sample in family.samples
            ]
    registry = CollectorRegistry()
    registry.register(_Once(families))
    return generate_latest(registry)


class _Once(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _families(figures: Figures) -> Iterator[Metric]:
    tally = figures.tally
    yield InfoMetricFamily(
        PREFIX + "server",
        "The name of this server, and the id of this life of it.",
        value={"server": figures.server, "id": figures.server_id},
    )
    yield _gauge("servers", "Servers of the queue that are alive.", figures.servers)
    yield _gauge("database_up", "Whether the last try has reached the database.", figures.is_up)
    yield _counter("handovers", "Attempts taken over from another server.", tally.handovers)
    jobs = GaugeMetricFamily(PREFIX + "jobs", "Jobs in each state.", labels=["state"])
    for state, number in figures.jobs.items():
        jobs.add_metric([state.value], number)
    yield jobs
    yield _counter("jobs_added", "Jobs that were submitted.", tally.added)
    ended = CounterMetricFamily(
        PREFIX + "jobs_ended", "Jobs that reached a final state.", labels=["state"]
    )
    for state in JobState:
        if state.is_terminal:
            ended.add_metric([state.value], tally.ended[state])
    yield ended
    yield _counter("retries", "Attempts after which a job was queued again.", tally.retried)
    yield _histogram(
        "dispatch_seconds", "From the time a job may start to its start.", tally.dispatch
    )
    yield _gauge("attempts_running", "Attempts that run, or whose worker is away.", figures.running)
    yield _counter("output_bytes", "Bytes of output that workers sent.", tally.output_bytes)
    yield _counter("log_bytes", "Bytes of output written into files.", figures.log_bytes)
    yield _gauge(
        "output_unacknowledged_bytes",
        "Bytes of output that came and are not on disk.",
        figures.unacknowledged,
    )
    workers = GaugeMetricFamily(PREFIX + "workers", "Connected workers.", labels=["state"])
    for name in WORKER_STATES:
        workers.add_metric([name], figures.workers.get(name, 0))
    yield workers
    yield _gauge("slots", "Slots of the connected workers.", figures.slots)
    yield _gauge("slots_free", "Those of them that would take a job now.", figures.free)
    yield _counter("commits", "Transactions of the queue.", figures.commits)
    yield _counter("operations", "What these were made of.", figures.operations)
    yield _counter("stale_writes", "Words about attempts that were over.", tally.stale)
    yield _counter(
        "protocol_errors", "Worker connections ended for what was sent.", tally.protocol_errors
    )


def _counter(name: str, says: str, value: float) -> Metric:
    return CounterMetricFamily(PREFIX + name, says, value=value)


def _gauge(name: str, says: str, value: float) -> Metric:
    return GaugeMetricFamily(PREFIX + name, says, value=value)


def _histogram(name: str, says: str, times: Times) -> Metric:
    buckets, total = [], 0
    for step, count in zip((*times.steps, "+Inf"), times.counts, strict=True):
        total += count
        buckets.append((str(step), float(total)))
    return HistogramMetricFamily(PREFIX + name, says, buckets=buckets, sum_value=times.sum)
