"""The page of the API: it needs nothing from elsewhere, and may do nothing but its own."""

import base64
import hashlib
import re

import httpx2


async def test_the_page_is_open_and_closed_in(client: httpx2.AsyncClient) -> None:
    response = await client.get("/docs", headers={"Authorization": ""})
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    rules = dict(
        rule.strip().split(" ", 1)
        for rule in response.headers["content-security-policy"].split(";")
    )
    assert rules["default-src"] == "'none'"
    assert rules["connect-src"] == "'self'"
    assert rules["frame-ancestors"] == rules["form-action"] == rules["base-uri"] == "'none'"
    for tag in ("script", "style"):
        (text,) = re.findall(f"<{tag}>(.*?)</{tag}>", response.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"


async def test_nothing_comes_from_elsewhere(client: httpx2.AsyncClient) -> None:
    page = (await client.get("/docs")).text
    assert not re.search(r"https?://|//[a-z]|src=|href=|@import|\burl\(| on[a-z]+=| style=", page)
    assert "innerHTML" not in page


async def test_the_description_itself_needs_the_token(client: httpx2.AsyncClient) -> None:
    response = await client.get("/openapi.json", headers={"Authorization": ""})
    assert response.status_code == 401
