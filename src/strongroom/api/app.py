"""The application: all routes under ``/v1``, and the OpenAPI document."""

from __future__ import annotations

import functools
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from strongroom import __version__
from strongroom.api import problems
from strongroom.api.bodies import BodyLimit
from strongroom.api.parts import Parts
from strongroom.api.problems import Problem
from strongroom.api.routes import ALL

PREFIX = "/v1"


def create_app(parts: Parts) -> FastAPI:
    """Make the application of the people's listener.

    Args:
        parts: of one primary.

    Returns:
        An ASGI application. It serves no pages, and loads nothing from elsewhere.
    """
    app = FastAPI(
        title="strongroom",
        version=__version__,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # It would hand requests, bodies included, to whatever collector the environment names.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.parts = parts
    for routes in ALL:
        app.include_router(routes.router, prefix=PREFIX)
    app.state.describe = describe  # a second of work, when somebody asks for it
    problems.install(app, parts.entropy)
    app.add_middleware(BodyLimit)
    app.add_middleware(NotKept)
    return app


class NotKept:
    """Tells everybody on the way not to keep answers: some have secrets in them.

    Args:
        app: the application within.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Cache-Control"] = "no-store"
                headers["X-Content-Type-Options"] = "nosniff"
            await send(message)

        await self._app(scope, receive, marked)


@functools.cache
def describe() -> dict[str, Any]:
    """Make the OpenAPI document of all routes, which nobody changes; it is the same for every domain."""
    app = FastAPI(openapi_url=None)
    for routes in ALL:
        app.include_router(routes.router, prefix=PREFIX)
    document = get_openapi(
        title="strongroom",
        version=__version__,
        summary="Enterprise backup: the REST interface of a primary",
        description=(
            "Sign in with POST /v1/login and send the token as a bearer token. Each route names the permission that "
            "it takes under 'x-strongroom-permission'. Errors are documents of RFC 9457."
        ),
        routes=app.routes,
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"] = Problem.model_json_schema()
    return document
