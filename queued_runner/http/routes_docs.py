"""The page `/docs`: the API for people, without anything from elsewhere.

It owns the headers under which a browser shows it. The page holds nothing of this server: it needs
no token, and asks for it before it can show `/openapi.json`, which does.
"""

import base64
import hashlib
import re
from importlib import resources
from typing import Final

from fastapi import APIRouter
from starlette.responses import Response

from queued_runner.http.parameters import StrictRoute

PATH: Final = "/docs"


def build_docs_route() -> APIRouter:
    """The route; the page is read once, here."""
    router = APIRouter(tags=["service"], route_class=StrictRoute)
    page = resources.files("queued_runner").joinpath("web", "docs.html").read_text("utf-8")
    headers = {"Content-Security-Policy": policy(page), "Referrer-Policy": "no-referrer"}

    @router.get(PATH)
    async def show_docs() -> Response:
        """A page about this API, for browsers. Needs no token."""
        return Response(page, 200, headers, "text/html")

    return router


def policy(page: str) -> str:
    """What a browser lets this page do: run its own script and style, ask its own server."""
    script, style = (_hash(page, tag) for tag in ("script", "style"))
    return (
        f"default-src 'none'; script-src '{script}'; style-src '{style}'; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _hash(page: str, tag: str) -> str:
    """The hash of the one element of this kind, as a policy names it."""
    (text,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
