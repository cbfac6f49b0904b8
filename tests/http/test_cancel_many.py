"""Many jobs are cancelled in one request."""

import pytest

from queued_runner.http.routes_cancel import MAX_IDS
from queued_runner.jobs import JobSpec
from queued_runner.queue import NoRoom
from tests.http.fake_queue import FakeQueue

URL = "/api/v1/jobs/cancel"


async def test_each_is_cancelled_and_shown_in_order(client, queue: FakeQueue) -> None:
    queue.add(*(JobSpec(command="true") for _ in range(4)))
    queue.start(2)
    queue.finish(2)
    body = {"ids": [4, 2, 99, 1, 4, 98], "signal": "SIGINT", "grace": 2}
    response = await client.post(URL, json=body)
    assert response.status_code == 200
    answer = response.json()
    assert [(job["id"], job["state"]) for job in answer["jobs"]] == [
        (4, "cancelled"), (2, "succeeded"), (1, "cancelled"),
    ]  # fmt: skip
    assert answer["missing"] == [99, 98]
    assert sorted(queue.cancels) == [(1, "SIGINT", 2.0), (2, "SIGINT", 2.0), (4, "SIGINT", 2.0)]
    assert queue.jobs[3].state.value == "queued"


async def test_none_and_many(client, queue: FakeQueue) -> None:
    assert (await client.post(URL, json={"ids": []})).json() == {"jobs": [], "missing": []}
    queue.add(*(JobSpec(command="true") for _ in range(MAX_IDS)))
    answer = (await client.post(URL, json={"ids": list(range(1, MAX_IDS + 1))})).json()
    assert [job["id"] for job in answer["jobs"]] == list(range(1, MAX_IDS + 1))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "ids: this field is required"),
        ({"ids": [1, "2"]}, "ids[1]: it must be a whole number"),
        ({"ids": [0]}, "ids[0]: "),
        ({"ids": [2**63]}, "ids[0]: "),
        ({"ids": [True]}, "ids[0]: "),
        ({"ids": list(range(1, MAX_IDS + 2))}, f"at most {MAX_IDS} entries"),
        ({"ids": [1], "signal": "x"}, "signal: "),
        ({"ids": [1], "grce": 1}, "did you mean 'grace'?"),
    ],
)
async def test_what_is_refused_cancels_nothing(
    client, queue: FakeQueue, body: object, words: str
) -> None:
    queue.add(JobSpec(command="true"))
    response = await client.post(URL, json=body)
    assert response.status_code == 422
    assert words in response.json()["detail"]
    assert not queue.cancels


async def test_what_is_no_json_is_refused(client) -> None:
    assert (await client.post(URL, content=b"{")).status_code == 400
    assert (await client.get(URL)).status_code in (404, 405, 422)


async def test_a_full_disk_is_told(client, queue: FakeQueue, monkeypatch) -> None:
    async def cancel(job_id: int, **how: object) -> None:
        raise NoRoom("the disk is full; free some space")

    monkeypatch.setattr(queue, "cancel", cancel)
    response = await client.post(URL, json={"ids": list(range(1, 500))})
    assert response.status_code == 507
    assert "free some space" in response.json()["detail"]
