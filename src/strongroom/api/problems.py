"""Errors as RFC 9457 documents, the only place where they become HTTP."""

from __future__ import annotations

import logging
from typing import Any, Final, Literal, cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import Field
from sqlalchemy.exc import StatementError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from strongroom.api.errors import (
    BadRequestError,
    MethodNotAllowedError,
    NoSuchRouteError,
    UnexpectedError,
)
from strongroom.api.fields import Answer
from strongroom.core.entropy import Entropy
from strongroom.core.errors import StrongroomError, to_document

logger = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/problem+json"
MAX_NAMED: Final = 5
INCIDENT_BYTES: Final = 8


class Problem(Answer):
    """An error, as RFC 9457 has it, with a stable code and a cure."""

    type: str = Field(description="urn:strongroom:error: and the code")
    title: str = Field(description="what this code means")
    status: int = Field(description="the HTTP status")
    detail: str = Field(description="the facts of this case")
    code: str = Field(description="stable, such as 'kms.key-not-found'")
    hint: str = Field(description="what can be done, one sentence; may be empty")
    retry: Literal["never", "later"] = Field(description="whether the same request may succeed later")
    context: dict[str, str | int] = Field(description="facts for programs")


RESPONSE: Final[dict[str, Any]] = {
    "description": "An error",
    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


def response_of(error: StrongroomError, headers: dict[str, str] | None = None) -> JSONResponse:
    """Make the response that tells of an error."""
    more = dict(headers or {})
    if error.http_status == 401:
        more["WWW-Authenticate"] = "Bearer"
    return JSONResponse(to_document(error), error.http_status, headers=more, media_type=MEDIA_TYPE)


def install(app: FastAPI, entropy: Entropy) -> None:
    """Let an application answer every error so."""
    app.add_exception_handler(StrongroomError, _known)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _of_framework)
    app.add_middleware(UnexpectedErrors, entropy=entropy)


async def _known(_request: Request, error: Exception) -> JSONResponse:
    return response_of(cast("StrongroomError", error))


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    faults = cast("RequestValidationError", error).errors()
    # Only where and what: the value may be a password.
    told = [f"'{_place(fault['loc'])}': {_sentence(str(fault['msg']))}" for fault in faults[:MAX_NAMED]]
    more = f", and {len(faults) - MAX_NAMED} more" if len(faults) > MAX_NAMED else ""
    field = _place(faults[0]["loc"]) if faults else ""
    return response_of(BadRequestError("; ".join(told) + more, context={"field": field}))


async def _of_framework(request: Request, error: Exception) -> JSONResponse:
    refused = cast("HTTPException", error)
    headers = dict(refused.headers or {})
    match refused.status_code:
        case 404:
            return response_of(NoSuchRouteError(f"nothing is at '{request.url.path[:200]}'"), headers)
        case 405:
            return response_of(MethodNotAllowedError(f"'{request.method}' is not possible here"), headers)
        case _:
            return response_of(BadRequestError("the body cannot be read as JSON"), headers)


class UnexpectedErrors:
    """Answers what nobody expected with a number, under which the log has the traceback.

    Args:
        app: the application within.
        entropy: for the number.
    """

    def __init__(self, app: ASGIApp, entropy: Entropy) -> None:
        self._app = app
        self._entropy = entropy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:  # noqa: BLE001 - the last line: a defect must not show itself to the caller
            incident = self._entropy.bytes(INCIDENT_BYTES).hex()
            _log(error, incident, scope.get("path", ""))
            if not started:  # else the server ends the connection, because the answer is not complete
                told = UnexpectedError(f"an unexpected error, number {incident}", context={"incident": incident})
                await response_of(told)(scope, receive, send)


def _log(error: Exception, incident: str, path: str) -> None:
    _hide_parameters(error)
    facts = {"event": UnexpectedError.code, "incident": incident, "path": path}
    logger.error("unexpected error %s", incident, exc_info=error, extra=facts)


def _hide_parameters(error: BaseException) -> None:
    """Keep the values of a statement, which may be hashes of passwords, out of the log."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        if isinstance(link, StatementError):
            link.hide_parameters = True
        link = link.__cause__ or link.__context__


def _place(location: tuple[int | str, ...] | list[int | str]) -> str:
    return "".join(letter for letter in ".".join(map(str, location)) if letter.isprintable())[:200]


def _sentence(message: str) -> str:
    plain = message.removeprefix("Value error, ")
    return plain[:1].lower() + plain[1:]
