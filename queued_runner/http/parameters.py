"""Query parameters that a route does not have: they are refused, as a slip in one would be lost.

It owns that one check. What a route has is read from the route itself.
"""

from collections.abc import Callable, Coroutine
from itertools import islice
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.responses import Response

from queued_runner.refusals import MAX_ERRORS, no_such

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class StrictRoute(APIRoute):
    """A route that takes the parameters it names, and no others."""

    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()
        known = [parameter.alias for parameter in self.dependant.query_params]

        async def check(request: Request) -> Response:
            if request.scope["query_string"]:
                _refuse_unknown(request, known)
            return await handle(request)

        return check


def _refuse_unknown(request: Request, known: list[str]) -> None:
    errors = [
        {"type": "refused", "loc": ("query", name), "msg": no_such("parameter", name, known)}
        for name in islice((name for name in request.query_params if name not in known), MAX_ERRORS)
    ]
    if errors:
        raise RequestValidationError(errors)
