"""Who is calling, whether it may, and the evidence of both: the one place where authority is used."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Final, TypeVar

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import Connection

from strongroom import audit
from strongroom.api.errors import NoSessionError, UnexpectedError
from strongroom.api.parts import Parts
from strongroom.audit import Actor, Fact, Outcome
from strongroom.core.errors import StrongroomError
from strongroom.core.secret import Secret
from strongroom.database import transact
from strongroom.people.errors import PermissionRefusedError
from strongroom.people.roles import ALL_PERMISSIONS
from strongroom.people.sessions import Session, authorise

ANYBODY: Final = "anybody"
"""Stands in place of a permission: no session is needed."""
SESSION: Final = "session"
"""Stands in place of a permission: any session will do."""
MAX_REASON: Final = 512

T = TypeVar("T")

_bearer = HTTPBearer(auto_error=False, description="a session's token, from POST /v1/login")


def parts_of(request: Request) -> Parts:
    """Give the parts of the application that serves a request."""
    parts: Parts = request.app.state.parts
    return parts


async def _parts(request: Request) -> Parts:
    return parts_of(request)  # a coroutine costs no thread


PartsDep = Annotated[Parts, Depends(_parts)]


@dataclass(frozen=True)
class Caller:
    """Who passed the guard of a route, for this one request.

    Args:
        session: whose.
        actor: for evidence, with the address.
        permission: what the guard checked, or :data:`SESSION`.
        object: what it is done to, as far as the request names it.
        token: of the session.
        parts: where evidence is kept.
    """

    session: Session
    actor: Actor
    permission: str
    object: str
    token: Secret = field(repr=False)
    parts: Parts = field(repr=False)

    def transact(
        self,
        deed: Callable[[Connection], T],
        *,
        object_: str | None = None,
        facts: Mapping[str, Fact] | None = None,
        describe: Callable[[T], Mapping[str, Fact]] | None = None,
    ) -> T:
        """Change the database, in one transaction with the evidence: see :func:`strongroom.audit.exercise`."""
        return audit.exercise(
            self.parts.engine,
            self.parts.clock,
            self.actor,
            self.permission,
            object_ or self.object,
            deed,
            facts=facts,
            describe=describe,
        )

    def act(
        self,
        deed: Callable[[], T],
        *,
        object_: str | None = None,
        facts: Mapping[str, Fact] | None = None,
        describe: Callable[[T], Mapping[str, Fact]] | None = None,
    ) -> T:
        """Do something outside the database, between two rows of evidence, each on stable storage.

        A crash in the middle leaves the first row: that it was tried, and not how it ended.
        """
        known = dict(facts or {})
        on = object_ or self.object
        self._record(Outcome.ATTEMPTED, on, known)
        outcome = Outcome.REFUSED
        more: dict[str, Fact] = {"code": UnexpectedError.code}
        try:
            result = deed()
            outcome, more = Outcome.DONE, dict(describe(result) if describe else {})
        except StrongroomError as error:
            more = _why(error)
            raise
        finally:
            self._record(outcome, on, known | more)
        return result

    def refuse(self, error: StrongroomError) -> None:
        """Leave evidence that the caller may not do this."""
        self._record(Outcome.REFUSED, self.object, _why(error))

    def _record(self, outcome: Outcome, object_: str, facts: Mapping[str, Fact]) -> None:
        now = self.parts.clock.now()
        action = self.permission if self.permission != SESSION else "session.use"
        transact(
            self.parts.engine,
            lambda connection: audit.record(connection, now, self.actor, action, object_, outcome, facts),
        )


def _why(error: StrongroomError) -> dict[str, Fact]:
    return {"code": error.code, "reason": error.message[:MAX_REASON]}


async def _words(request: Request) -> dict[str, str]:
    """Give what a request names: parts of its path, and plain text in its body."""
    words = {name: value for name, value in request.path_params.items() if isinstance(value, str)}
    if request.method in ("POST", "PUT", "PATCH") and await request.body():
        try:
            document: Any = await request.json()
        except ValueError:
            return words  # what is wrong with it is told after the caller is known
        if isinstance(document, dict):
            words |= {name: value for name, value in document.items() if isinstance(value, str) and name not in words}
    return words


class Guard:
    """Lets a request to a route pass when its session has the permission.

    Args:
        permission: ``noun.verb``, or :data:`SESSION`.
        on: what it is done to, such as ``slp:{name}``, where the braces name a part of the path or a text of the body.
            A grant for that very object will do then; without it only one that holds everywhere.
        everywhere: only a grant that holds everywhere will do, because what is done reaches beyond the object.

    Raises:
        ValueError: there is no such permission.
    """

    def __init__(self, permission: str, on: str | None = None, *, everywhere: bool = False) -> None:
        if permission != SESSION and permission not in ALL_PERMISSIONS:
            raise ValueError(f"'{permission}' is no permission")
        self.permission = permission
        self.on = on
        self.everywhere = everywhere
        self._fields = [name for _, name, _, _ in string.Formatter().parse(on or "") if name]

    def __call__(
        self,
        request: Request,
        parts: PartsDep,
        words: Annotated[dict[str, str], Depends(_words)],
        shown: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    ) -> Caller:
        """Find the session, check it, and note who calls.

        Raises:
            NoSessionError, SessionUnknownError, SessionExpiredError: nobody we know.
            PermissionRefusedError: known, and may not; noted in the evidence.
        """
        if shown is None:
            raise NoSessionError("the request has no session")
        token = Secret(shown.credentials.encode("utf-8", "surrogateescape"))
        session = parts.door.session(token)
        object_ = self._object(words)
        address = request.client.host if request.client else ""
        caller = Caller(
            session=session,
            actor=replace(session.actor, address=address),
            permission=self.permission,
            object=object_ or f"{self.permission.partition('.')[0]}:*",
            token=token,
            parts=parts,
        )
        if self.permission != SESSION:
            try:
                authorise(session, self.permission, None if self.everywhere else object_)
            except PermissionRefusedError as error:
                caller.refuse(error)
                raise
        request.state.caller = caller
        return caller

    def _object(self, words: Mapping[str, str]) -> str | None:
        if self.on is None or any(name not in words for name in self._fields):
            return None
        return self.on.format_map(words)


async def _caller(request: Request) -> Caller:
    caller: Caller = request.state.caller  # the guard of the route ran first, and has put it there
    return caller


CallerDep = Annotated[Caller, Depends(_caller)]
