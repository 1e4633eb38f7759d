"""Storage targets at the source: the pools of trusted domains to which images may be sent (R3).

The secret of a target's credential is sealed with the service keys; the table has its id.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, insert, select
from sqlalchemy.exc import IntegrityError as ConstraintError

from strongroom.core.errors import NotFoundError, RefusedError, Retry
from strongroom.core.ids import DomainId, MediumId
from strongroom.replication.tables import storage_targets

KEY_PREFIX: Final = "storage-"


class TargetNotFoundError(NotFoundError):
    """There is no such storage target."""

    code = "storage.target-not-found"
    retry: Retry = "later"  # what was promised waits until there is one again
    default_hint = "see 'strongroom storage target list'; add one with 'strongroom storage target add'"


class TargetExistsError(RefusedError):
    """The name, or the domain, has a storage target already."""

    code = "storage.target-exists"
    default_hint = "remove the other one first, or choose another name"


class TargetNeededError(RefusedError):
    """An active lifecycle policy sends to this storage target."""

    code = "storage.target-needed"
    default_hint = "change or deactivate the policies first"


@dataclass(frozen=True)
class StorageTarget:
    """One pool of a trusted domain."""

    name: str
    domain: DomainId
    server: str
    medium: MediumId
    addresses: tuple[str, ...]
    credential: bytes
    added: datetime

    @property
    def key_name(self) -> str:
        """Under which name the credential's secret lies among the service keys."""
        return KEY_PREFIX + self.credential.hex()


def add(connection: Connection, target: StorageTarget) -> None:
    """Keep a target.

    Raises:
        TargetExistsError: the name or the domain has one.
    """
    try:
        with connection.begin_nested():
            connection.execute(
                insert(storage_targets).values(
                    name=target.name,
                    domain=target.domain,
                    server=target.server,
                    medium=target.medium,
                    addresses=list(target.addresses),
                    credential=target.credential,
                    added=target.added,
                )
            )
    except ConstraintError as error:
        raise TargetExistsError(f"'{target.name}', or its domain, is a storage target already") from error


def get(connection: Connection, name: str) -> StorageTarget:
    """Look a target up by its name.

    Raises:
        TargetNotFoundError: there is none.
    """
    row = connection.execute(select(storage_targets).where(storage_targets.c.name == name)).one_or_none()
    if row is None:
        raise TargetNotFoundError(f"there is no storage target '{name}'")
    return _target(row)


def of_domain(connection: Connection, domain: DomainId) -> StorageTarget:
    """Look the target in a domain up.

    Raises:
        TargetNotFoundError: there is none.
    """
    row = connection.execute(select(storage_targets).where(storage_targets.c.domain == domain)).one_or_none()
    if row is None:
        raise TargetNotFoundError(f"the domain '{domain.hex()}' has no storage target here")
    return _target(row)


def list_all(connection: Connection) -> list[StorageTarget]:
    """Give all targets by name."""
    return [_target(row) for row in connection.execute(select(storage_targets).order_by(storage_targets.c.name))]


def remove(connection: Connection, name: str) -> StorageTarget:
    """Take a target away; images that were promised to it wait.

    Raises:
        TargetNotFoundError: there is none.
    """
    target = get(connection, name)
    connection.execute(delete(storage_targets).where(storage_targets.c.name == name))
    return target


def _target(row: Row[Any]) -> StorageTarget:
    return StorageTarget(row.name, row.domain, row.server, row.medium, tuple(row.addresses), row.credential, row.added)
