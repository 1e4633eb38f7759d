"""The OpenAPI document itself."""

from __future__ import annotations

from fastapi import Request
from fastapi.responses import JSONResponse

from strongroom.api.routing import Routes
from strongroom.api.security import ANYBODY

routes = Routes("openapi")


@routes.get("/openapi.json", ANYBODY)
def show_openapi(request: Request) -> JSONResponse:
    """Fetch the OpenAPI document.

    It describes this interface, and nothing of this domain.
    """
    return JSONResponse(request.app.state.describe())
