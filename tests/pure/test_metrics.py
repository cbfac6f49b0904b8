"""The figures as Prometheus reads them, with its own parser."""

from prometheus_client.parser import text_string_to_metric_families

from queued_runner.http.metrics import exposition
from queued_runner.jobs import JobState
from queued_runner.tally import Figures, Tally, Times


def read(figures: Figures) -> dict[tuple[str, str], float]:
    """Each value by its name and its label."""
    text = exposition(figures).decode()
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_every_figure_is_shown() -> None:
    tally = Tally(added=9, retried=2, output_bytes=100, stale=3, protocol_errors=4)
    tally.ended[JobState.FAILED] += 5
    for seconds in (0.001, 0.002, 1000.0):
        tally.dispatch.add(seconds)
    jobs = dict.fromkeys(JobState, 0) | {JobState.QUEUED: 7}
    found = read(Figures(tally, jobs, 2, 64, 10, 20, 50, {"ready": 3}, 12, 11))
    expected = {
        ("jobs", "queued"): 7, ("jobs", "running"): 0, ("jobs_added_total", ""): 9,
        ("jobs_ended_total", "failed"): 5, ("jobs_ended_total", "succeeded"): 0,
        ("retries_total", ""): 2, ("attempts_running", ""): 2, ("output_bytes_total", ""): 100,
        ("log_bytes_total", ""): 50, ("output_unacknowledged_bytes", ""): 64,
        ("workers", "ready"): 3, ("workers", "drained"): 0, ("slots", ""): 12,
        ("slots_free", ""): 11, ("commits_total", ""): 10, ("operations_total", ""): 20,
        ("stale_writes_total", ""): 3, ("protocol_errors_total", ""): 4,
        ("dispatch_seconds_count", ""): 3, ("dispatch_seconds_bucket", "0.001"): 1,
        ("dispatch_seconds_bucket", "0.0025"): 2, ("dispatch_seconds_bucket", "300.0"): 2,
        ("dispatch_seconds_bucket", "+Inf"): 3,
    }  # fmt: skip
    for (name, label), value in expected.items():
        assert found[f"duplex_runner_{name}", label] == value, name
    assert found["duplex_runner_dispatch_seconds_sum", ""] == 1000.003
    assert found["process_resident_memory_bytes", ""] > 0


def test_times_on_a_border_belong_below_it() -> None:
    times = Times((1.0, 2.0))
    for seconds in (0.0, 1.0, 1.5, 2.0, 2.1):
        times.add(seconds)
    assert times.counts == [2, 2, 1]
