"""Authorization tokens: what lets a host that nobody knows yet ask for one thing, a few times, for a while.

A token is 200 random bits, shown once. Stored is only its SHA-256: with so much randomness there is nothing
to guess, so a slow hash would add nothing; and the row is found by the digest, so timing tells of the digest
only.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Connection, Row, insert, or_, select, update

from strongroom.core.entropy import Entropy
from strongroom.core.errors import InputError
from strongroom.core.ids import DomainId, HostId, to_text
from strongroom.core.secret import Secret
from strongroom.database import racing
from strongroom.formats.algorithms import label
from strongroom.pki.errors import (
    NameTakenError,
    TokenBindingError,
    TokenExpiredError,
    TokenNotFoundError,
    TokenPurposeError,
    TokenRevokedError,
    TokenUnknownError,
    TokenUsedUpError,
)
from strongroom.pki.roles import Role
from strongroom.pki.tables import pki_tokens

PREFIX: Final = "SRT"
TOKEN_BYTES: Final = 25
DEFAULT_VALIDITY: Final = timedelta(hours=24)
MAX_VALIDITY: Final = timedelta(days=999)
MAX_USES: Final = 99_999
MAX_REASON: Final = 512
_DIGITS: Final = 8 * TOKEN_BYTES // 5
_LABEL: Final = label("authorization-token")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_SHAPE: Final = re.compile(rf"{PREFIX}[A-Z2-7]{{{_DIGITS}}}")


class TokenRequestError(InputError):
    """A token as asked for would be too strong, or good for nothing."""

    code = "token.bad-request"
    default_hint = "see 'strongroom token create --help'"


class Purpose(StrEnum):
    """The one thing that a token is good for."""

    ENROL_HOST = "enrol-host"
    REISSUE = "reissue"
    TRUST = "trust"
    ENROL_FOREIGN_MEDIA = "enrol-foreign-media"


@dataclass(frozen=True)
class TokenOrder:
    """What an administrator asks for.

    Args:
        name: unique among all tokens ever made here.
        purpose: what it is good for.
        reason: for the audit.
        validity: from now.
        max_uses: how often it may be used.
        role: for ``enrol-host``: media or client.
        domain: the home domain of whoever uses it; must be given for ``enrol-foreign-media``.
        host: the host that uses it; must be given for ``reissue``, with its domain.
    """

    name: str
    purpose: Purpose
    reason: str
    validity: timedelta = DEFAULT_VALIDITY
    max_uses: int = 1
    role: Role | None = None
    domain: DomainId | None = None
    host: HostId | None = None

    def check(self) -> None:
        """Refuse an order that no administrator can want.

        Raises:
            TokenRequestError: says what is missing or too much.
        """
        problem = _problem(self)
        if problem:
            raise TokenRequestError(problem)


@dataclass(frozen=True)
class Token:
    """What is known of a token after it was shown: everything but its value."""

    name: str
    purpose: Purpose
    role: Role | None
    reason: str
    domain: DomainId | None
    host: HostId | None
    max_uses: int
    uses: int
    created: datetime
    created_by: str
    expires: datetime
    last_used: datetime | None
    revoked: datetime | None


def create(connection: Connection, order: TokenOrder, *, created_by: str, now: datetime, entropy: Entropy) -> Secret:
    """Make a token.

    Returns:
        Its text, ASCII; it cannot be had again.

    Raises:
        TokenRequestError: see :meth:`TokenOrder.check`.
        NameTakenError: a token has this name.
    """
    order.check()
    taken = connection.execute(select(pki_tokens.c.name).where(pki_tokens.c.name == order.name)).first()
    if taken is not None:
        raise NameTakenError(f"a token named '{order.name}' exists", hint="choose another name")
    digits = base64.b32encode(entropy.bytes(TOKEN_BYTES)).decode("ascii")
    groups = [digits[start : start + 8] for start in range(0, len(digits), 8)]
    token = Secret("-".join([PREFIX, *groups]).encode("ascii"))
    with racing():
        connection.execute(
            insert(pki_tokens).values(
                name=order.name,
                digest=_digest(token),
                purpose=order.purpose.value,
                role=order.role.value if order.role else None,
                reason=order.reason,
                bound_domain=order.domain,
                bound_host=order.host,
                max_uses=order.max_uses,
                uses=0,
                created=now,
                created_by=created_by,
                expires=now + order.validity,
            )
        )
    return token


def redeem(
    connection: Connection,
    token: Secret,
    purpose: Purpose,
    *,
    now: datetime,
    domain: DomainId | None = None,
    host: HostId | None = None,
    role: Role | None = None,
) -> Token:
    """Spend one use of a token, in the transaction of what it is spent on.

    Args:
        connection: if its transaction is undone, the use is given back.
        token: as the caller sent it; hyphens, spaces and case do not matter.
        purpose: what is being asked for.
        now: judges its validity.
        domain: home domain of the caller.
        host: id of the caller, if it has one.
        role: wanted role.

    Raises:
        TokenUnknownError, TokenPurposeError, TokenBindingError, TokenRevokedError, TokenExpiredError,
        TokenUsedUpError: as named; nothing was spent.
    """
    digest = _digest(token)
    table = pki_tokens.c
    # One statement that checks and counts: two that spend the last use at once cannot both find it there.
    spent = connection.execute(
        update(pki_tokens)
        .where(
            table.digest == digest,
            table.purpose == purpose.value,
            table.revoked.is_(None),
            table.expires > now,
            table.uses < table.max_uses,
            or_(table.bound_domain.is_(None), table.bound_domain == domain),
            or_(table.bound_host.is_(None), table.bound_host == host),
            or_(table.role.is_(None), table.role == (role.value if role else None)),
        )
        .values(uses=table.uses + 1, last_used=now)
        .returning(pki_tokens)
    ).one_or_none()
    if spent is not None:
        return _token(spent)
    row = connection.execute(select(pki_tokens).where(table.digest == digest)).one_or_none()
    if row is None:
        raise TokenUnknownError("this token was not made here")
    raise _explain(_token(row), purpose, now=now, domain=domain, host=host, role=role)


def tokens(connection: Connection) -> list[Token]:
    """List all tokens, newest first."""
    query = select(pki_tokens).order_by(pki_tokens.c.created.desc(), pki_tokens.c.name)
    return [_token(row) for row in connection.execute(query)]


def revoke(connection: Connection, name: str, *, now: datetime) -> Token:
    """Withdraw a token; it stays in the list.

    Raises:
        TokenNotFoundError: none has this name.
    """
    table = pki_tokens.c
    row = connection.execute(select(pki_tokens).where(table.name == name)).one_or_none()
    if row is None:
        raise TokenNotFoundError(f"no token is named '{name}'")
    if row.revoked is not None:
        return _token(row)
    changed = connection.execute(
        update(pki_tokens).where(table.name == name).values(revoked=now).returning(pki_tokens)
    ).one()
    return _token(changed)


def _digest(token: Secret) -> bytes:
    try:
        text = token.reveal().decode("ascii")
    except UnicodeDecodeError:
        raise TokenUnknownError("this is not a token: it has letters that no token has") from None
    compact = re.sub(r"[\s-]", "", text).upper()
    if not _SHAPE.fullmatch(compact):
        raise TokenUnknownError(f"this is not a token: a token is '{PREFIX}' and {_DIGITS} letters and digits")
    return hashlib.sha256(_LABEL + compact.encode("ascii")).digest()


def _problem(order: TokenOrder) -> str | None:
    if not _NAME.fullmatch(order.name):
        return f"'{order.name[:128]}' is not a name of letters, digits, '.', '_' and '-'"
    if not order.reason.strip() or len(order.reason) > MAX_REASON:
        return f"a token needs a reason of at most {MAX_REASON} characters"
    if not timedelta(0) < order.validity <= MAX_VALIDITY:
        return f"a token is valid for at most {MAX_VALIDITY.days} days"
    if not 0 < order.max_uses <= MAX_USES:
        return f"a token has 1 to {MAX_USES} uses"
    match order.purpose:
        case Purpose.ENROL_HOST:
            if order.role not in (Role.MEDIA, Role.CLIENT):
                return "a token for a new host names its role, media or client"
            return "a new host has no id yet to be bound to" if order.host else None
        case Purpose.REISSUE:
            if order.host is None or order.domain is None or order.max_uses != 1:
                return "a token for reissue is bound to one host and has one use"
        case Purpose.ENROL_FOREIGN_MEDIA:
            if order.domain is None:
                return "a token for foreign media servers is bound to their domain"
        case Purpose.TRUST:
            pass
    return "the role follows from the purpose of this token" if order.role else None


def _explain(
    token: Token,
    purpose: Purpose,
    *,
    now: datetime,
    domain: DomainId | None,
    host: HostId | None,
    role: Role | None,
) -> Exception:
    if token.purpose is not purpose:
        return TokenPurposeError(f"the token '{token.name}' is for '{token.purpose}', not for '{purpose}'")
    if token.domain is not None and token.domain != domain:
        return TokenBindingError(f"the token '{token.name}' is bound to the domain '{token.domain.hex()}'")
    if token.host is not None and token.host != host:
        return TokenBindingError(f"the token '{token.name}' is bound to the host '{to_text(token.host)}'")
    if token.role is not None and token.role is not role:
        return TokenBindingError(f"the token '{token.name}' is bound to the role '{token.role}'")
    if token.revoked is not None:
        return TokenRevokedError(f"the token '{token.name}' was withdrawn")
    if token.expires <= now:
        return TokenExpiredError(f"the token '{token.name}' was valid until {token.expires:%Y-%m-%d %H:%M} UTC")
    return TokenUsedUpError(f"the token '{token.name}' was used {token.uses} times, as often as it may be")


def _token(row: Row[Any]) -> Token:
    return Token(
        name=row.name,
        purpose=Purpose(row.purpose),
        role=Role(row.role) if row.role else None,
        reason=row.reason,
        domain=DomainId(row.bound_domain) if row.bound_domain else None,
        host=HostId(row.bound_host) if row.bound_host else None,
        max_uses=row.max_uses,
        uses=row.uses,
        created=row.created,
        created_by=row.created_by,
        expires=row.expires,
        last_used=row.last_used,
        revoked=row.revoked,
    )
