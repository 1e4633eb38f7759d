"""Policies as they are stored: every save makes a version, and versions are never changed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, insert, select, update

from strongroom.core.ids import DomainId
from strongroom.lifecycle.errors import PolicyNotActiveError, PolicyNotFoundError
from strongroom.lifecycle.policy import Policy, check, check_name
from strongroom.lifecycle.tables import policies, policy_versions


@dataclass(frozen=True)
class StoredPolicy:
    """One version of a policy; ``active`` is of the policy, whatever the version."""

    policy: Policy
    version: int
    active: bool
    made: datetime


def save_policy(connection: Connection, policy: Policy, *, now: datetime) -> StoredPolicy:
    """Store a policy as its next version; the first one makes the policy, active.

    Raises:
        PolicyNameError, OperationsError: it breaks a rule; nothing was stored.
    """
    policy = check(policy)
    known = connection.execute(select(policies.c.newest).where(policies.c.name == policy.name)).scalar_one_or_none()
    version = 1 if known is None else known + 1
    if known is None:
        connection.execute(insert(policies).values(name=policy.name, newest=version, active=True, changed=now))
    else:
        connection.execute(update(policies).where(policies.c.name == policy.name).values(newest=version, changed=now))
    connection.execute(
        insert(policy_versions).values(
            name=policy.name, version=version, document=msgspec.to_builtins(policy), made=now
        )
    )
    return get_policy(connection, policy.name)


def get_policy(connection: Connection, name: str, version: int | None = None) -> StoredPolicy:
    """Look a version of a policy up; without a number the newest.

    Raises:
        PolicyNotFoundError: there is no such policy, or no such version.
    """
    query = select(policies.c.active, policies.c.newest, policy_versions).select_from(policies.join(policy_versions))
    query = query.where(policies.c.name == name)
    query = query.where(policy_versions.c.version == (policies.c.newest if version is None else version))
    row = connection.execute(query).one_or_none()
    if row is None:
        which = "" if version is None else f" in version {version}"
        raise PolicyNotFoundError(f"there is no lifecycle policy '{name}'{which}")
    return _stored(row)


def require_active(connection: Connection, name: str) -> StoredPolicy:
    """Give the newest version of a policy that takes new images.

    Raises:
        PolicyNotFoundError: there is no such policy.
        PolicyNotActiveError: it is deactivated.
    """
    stored = get_policy(connection, name)
    if not stored.active:
        raise PolicyNotActiveError(f"the lifecycle policy '{name}' is not active")
    return stored


def list_policies(connection: Connection) -> list[StoredPolicy]:
    """Give the newest version of every policy, by name."""
    query = select(policies.c.active, policies.c.newest, policy_versions).select_from(policies.join(policy_versions))
    query = query.where(policy_versions.c.version == policies.c.newest)
    return [_stored(row) for row in connection.execute(query.order_by(policies.c.name))]


def set_active(connection: Connection, name: str, active: bool, *, now: datetime) -> None:
    """Activate or deactivate a policy, in all its versions.

    A deactivated policy takes no new images, and starts nothing for those it has; what they were promised stays.

    Raises:
        PolicyNotFoundError: there is no such policy.
    """
    changed = connection.execute(
        update(policies).where(policies.c.name == check_name(name)).values(active=active, changed=now)
    )
    if not changed.rowcount:
        raise PolicyNotFoundError(f"there is no lifecycle policy '{name}'")


def policies_naming(connection: Connection, target: DomainId) -> list[str]:
    """Name the policies whose newest version sends to a domain, by name or as one of all targets."""
    return [
        stored.policy.name
        for stored in list_policies(connection)
        if stored.policy.sends_to_all or target in stored.policy.named_targets
    ]


def _stored(row: Row[Any]) -> StoredPolicy:
    return StoredPolicy(msgspec.convert(row.document, Policy), row.version, row.active, row.made)
