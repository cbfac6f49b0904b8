"""Pages of other origins: none may use the API but those that the operator names."""

import urllib.error
import urllib.request
from email.message import Message

import pytest

from tests.commands import PATIENCE, Service


def preflight(service: Service, origin: str) -> tuple[int, Message]:
    """What a browser is told before it lets a page of this origin send a job."""
    request = urllib.request.Request(
        service.facts["url"] + "/api/v1/jobs",
        method="OPTIONS",
        headers={"Origin": origin, "Access-Control-Request-Method": "POST"},
    )
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers


@pytest.fixture(params=["flag", "environment", "file"])
def allowing(service: Service, request: pytest.FixtureRequest) -> Service:
    """A server that allows two origins, told in one of the ways there are."""
    origins = ["https://ci.example", "http://localhost:3000"]
    options: list[object] = []
    if request.param == "flag":
        options = ["--cors-origin", origins[0], "--cors-origin", origins[1]]
    elif request.param == "environment":
        service.env["DUPLEX_RUNNER_CORS_ORIGIN"] = " ".join(origins)
    else:
        file = service.folder / "config.toml"
        file.write_text(f"[serve]\ncors-origin = {origins}\n")
        options = ["--config", file]
    service.start_server(*options)
    return service


def test_pages_of_a_named_origin_are_allowed(allowing: Service) -> None:
    for origin in ("https://ci.example", "http://localhost:3000"):
        status, headers = preflight(allowing, origin)
        assert (status, headers["Access-Control-Allow-Origin"]) == (204, origin)
    for origin in ("https://evil.example", "http://ci.example", "null"):
        status, headers = preflight(allowing, origin)
        assert (status, headers["Access-Control-Allow-Origin"]) == (403, None)


def test_no_other_page_is_allowed_by_default(service: Service) -> None:
    service.start_server()
    status, headers = preflight(service, "https://ci.example")
    assert (status, headers["Access-Control-Allow-Origin"]) == (403, None)
