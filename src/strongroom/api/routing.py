"""Routes that cannot be written down without a permission."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import APIRouter, Depends

from strongroom.api import problems
from strongroom.api.security import ANYBODY, SESSION, Guard

F = TypeVar("F", bound=Callable[..., Any])

PERMISSION_KEY = "x-strongroom-permission"
"""Where the OpenAPI document names a route's permission."""


class Routes:
    """The routes of one noun.

    Args:
        noun: groups them in the OpenAPI document.
    """

    def __init__(self, noun: str) -> None:
        self.router = APIRouter(tags=[noun])

    def get(self, path: str, permission: str, *, on: str | None = None) -> Callable[[F], F]:
        """Declare a route that only reads; see :meth:`_route`."""
        return self._route("GET", path, permission, on, 200)

    def post(
        self, path: str, permission: str, *, on: str | None = None, everywhere: bool = False, status: int = 200
    ) -> Callable[[F], F]:
        """Declare a route that makes something (``status`` 201) or acts on something; see :meth:`_route`."""
        return self._route("POST", path, permission, on, status, everywhere=everywhere)

    def put(self, path: str, permission: str, *, on: str | None = None) -> Callable[[F], F]:
        """Declare a route that takes the place of something; see :meth:`_route`."""
        return self._route("PUT", path, permission, on, 200)

    def patch(self, path: str, permission: str, *, on: str | None = None, everywhere: bool = False) -> Callable[[F], F]:
        """Declare a route that changes something; see :meth:`_route`."""
        return self._route("PATCH", path, permission, on, 200, everywhere=everywhere)

    def delete(self, path: str, permission: str, *, on: str | None = None) -> Callable[[F], F]:
        """Declare a route that removes something; see :meth:`_route`."""
        return self._route("DELETE", path, permission, on, 200)

    def _route(
        self, method: str, path: str, permission: str, on: str | None, status: int, *, everywhere: bool = False
    ) -> Callable[[F], F]:
        """Declare a route. Its summary is the first line of the function's docstring, the rest its description.

        Args:
            method: of HTTP.
            path: below ``/v1``.
            permission: ``noun.verb``, ``session`` or ``anybody``.
            on: what it is done to: see :class:`~strongroom.api.security.Guard`.
            status: of success.
            everywhere: a grant for one object will not do: see :class:`~strongroom.api.security.Guard`.

        Raises:
            ValueError: there is no such permission, or the function has no docstring.
        """
        guards = [] if permission == ANYBODY else [Depends(Guard(permission, on, everywhere=everywhere))]
        responses: dict[int | str, dict[str, Any]] = {"default": problems.RESPONSE}
        if permission != ANYBODY:
            responses[401] = problems.RESPONSE | {"description": "No session, or one that has ended"}
        if permission not in (ANYBODY, SESSION):
            responses[403] = problems.RESPONSE | {"description": f"The session lacks the permission '{permission}'"}

        def declare(function: F) -> F:
            summary, _, description = (function.__doc__ or "").strip().partition("\n")
            if not summary:
                raise ValueError(f"the route '{method} {path}' has no docstring")
            self.router.add_api_route(
                path,
                function,
                methods=[method],
                status_code=status,
                summary=summary.rstrip("."),
                description=_unindented(description) or summary,
                dependencies=guards,
                responses=responses,
                operation_id=function.__name__,
                openapi_extra={PERMISSION_KEY: permission},
            )
            return function

        return declare


def _unindented(text: str) -> str:
    return "\n".join(line.strip() for line in text.strip().splitlines())
