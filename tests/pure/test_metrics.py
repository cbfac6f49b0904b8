"""The figures as Prometheus reads them, with its own parser."""

from typing import Any

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
    found = read(
        Figures(tally, jobs, 2, 64, 10, 20, 50, {"ready": 3}, 12, 11, "s-1", "life", False, 2, True)
    )
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


def figures(**more: Any) -> Figures:
    known = {"server": "s-1", "server_id": "life", "is_shared": False, "servers": 2, "is_up": True}
    tally = Tally(handovers=3)
    return Figures(tally, {JobState.QUEUED: 7}, 0, 0, 0, 0, 0, {}, 0, 0, **{**known, **more})


def samples(figures: Figures) -> dict[str, list[tuple[dict[str, str], float]]]:
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(exposition(figures).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((dict(sample.labels), sample.value))
    return found


def test_a_server_says_who_it_is_and_what_it_knows_of_the_others() -> None:
    found = samples(figures())
    assert found["duplex_runner_server_info"] == [({"server": "s-1", "id": "life"}, 1)]
    assert found["duplex_runner_servers"] == [({}, 2)]
    assert found["duplex_runner_handovers_total"] == [({}, 3)]
    assert found["duplex_runner_database_up"] == [({}, 1)]


def test_one_of_several_servers_has_its_name_on_every_series() -> None:
    found = samples(figures(is_shared=True, is_up=False))
    assert found["duplex_runner_database_up"] == [({"server": "s-1"}, 0)]
    assert found["duplex_runner_jobs"] == [({"state": "queued", "server": "s-1"}, 7)]
    assert len(found) == len(samples(figures()))
    for values in found.values():
        assert all(labels["server"] == "s-1" for labels, _ in values)


def test_times_on_a_border_belong_below_it() -> None:
    times = Times((1.0, 2.0))
    for seconds in (0.0, 1.0, 1.5, 2.0, 2.1):
        times.add(seconds)
    assert times.counts == [2, 2, 1]
