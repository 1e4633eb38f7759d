"""Storage credentials at the target: what a sender must show, besides its certificate, to add images to one pool (R3).

A credential is good for one sender and one pool, and for adding; it can be revoked at any moment. Its text is shown
once: id and secret, in hexadecimal, with a point between.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import IntegrityError as ConstraintError

from strongroom.core.entropy import Entropy
from strongroom.core.errors import InputError, NotFoundError, RefusedError
from strongroom.core.ids import DIGEST_BYTES, UUID_BYTES, DomainId, MediumId
from strongroom.core.secret import Secret
from strongroom.replication.errors import CredentialRefusedError
from strongroom.replication.tables import storage_credentials


class CredentialTextError(InputError):
    """The text is not a storage credential."""

    code = "storage.bad-credential"
    default_hint = "copy the whole text that 'strongroom storage credential create' showed at the target"


class CredentialNameTakenError(RefusedError):
    """A credential has this name."""

    code = "storage.credential-name-taken"
    default_hint = "choose another name"


class CredentialNotFoundError(NotFoundError):
    """There is no such credential."""

    code = "storage.credential-not-found"
    default_hint = "see 'strongroom storage credential list'"


@dataclass(frozen=True)
class Credential:
    """One credential, without its secret."""

    id: bytes
    name: str
    medium: MediumId
    sender: DomainId
    created: datetime
    used: datetime | None
    revoked: datetime | None


def create(
    connection: Connection, name: str, medium: MediumId, sender: DomainId, *, now: datetime, entropy: Entropy
) -> tuple[Credential, Secret]:
    """Make a credential.

    Returns:
        The credential, and its text, which cannot be had again.

    Raises:
        CredentialNameTakenError: another one has the name.
    """
    identity, secret = entropy.bytes(UUID_BYTES), entropy.bytes(DIGEST_BYTES)
    try:
        with connection.begin_nested():
            connection.execute(
                insert(storage_credentials).values(
                    id=identity, name=name, medium=medium, sender=sender, digest=_digest(secret), created=now
                )
            )
    except ConstraintError as error:
        raise CredentialNameTakenError(f"a storage credential is named '{name}'") from error
    text = Secret(f"{identity.hex()}.{secret.hex()}".encode("ascii"))
    return Credential(identity, name, medium, sender, now, None, None), text


def read_text(text: Secret) -> tuple[bytes, Secret]:
    """Cut a credential's text into id and secret.

    Raises:
        CredentialTextError: it is none.
    """
    first, point, second = text.reveal().strip().partition(b".")
    try:
        identity, secret = bytes.fromhex(first.decode("ascii")), bytes.fromhex(second.decode("ascii"))
    except ValueError:
        raise CredentialTextError("this is not a storage credential") from None  # the cause would show it
    if not point or len(identity) != UUID_BYTES or len(secret) != DIGEST_BYTES:
        raise CredentialTextError("this is not a storage credential")
    return identity, Secret(secret)


def check(connection: Connection, identity: bytes, secret: bytes, sender: DomainId, *, now: datetime) -> Credential:
    """Take a sender's credential.

    Raises:
        CredentialRefusedError: unknown, wrong, revoked, or another sender's.
    """
    row = connection.execute(select(storage_credentials).where(storage_credentials.c.id == identity)).one_or_none()
    if row is None or not hmac.compare_digest(bytes(row.digest), _digest(secret)):
        raise CredentialRefusedError("the storage credential is not known here")
    if row.revoked is not None:
        raise CredentialRefusedError(f"the storage credential '{row.name}' was revoked")
    if row.sender != sender:
        raise CredentialRefusedError(f"the storage credential '{row.name}' is another domain's")
    connection.execute(update(storage_credentials).where(storage_credentials.c.id == identity).values(used=now))
    return _credential(row)


def list_all(connection: Connection) -> list[Credential]:
    """Give all credentials, the newest first."""
    query = select(storage_credentials).order_by(storage_credentials.c.created.desc(), storage_credentials.c.name)
    return [_credential(row) for row in connection.execute(query)]


def revoke(connection: Connection, identity: bytes, *, now: datetime) -> Credential:
    """Withdraw a credential; may be repeated.

    Raises:
        CredentialNotFoundError: there is none.
    """
    this = storage_credentials.c.id == identity
    connection.execute(
        update(storage_credentials).where(this, storage_credentials.c.revoked.is_(None)).values(revoked=now)
    )
    row = connection.execute(select(storage_credentials).where(this)).one_or_none()
    if row is None:
        raise CredentialNotFoundError("there is no such storage credential")
    return _credential(row)


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()  # 256 random bits need no slow hash


def _credential(row: object) -> Credential:
    names = ("id", "name", "medium", "sender", "created", "used", "revoked")
    return Credential(*(getattr(row, name) for name in names))
