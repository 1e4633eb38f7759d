"""Lifecycle policies between their REST form and :mod:`strongroom.lifecycle.policy`.

In REST an operation has ``op`` and ``parent``, the place of an earlier one counted from 0; a retention is ``30d``,
``12h``, a number of seconds, ``forever`` or ``target``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints

from strongroom.api.errors import BadRequestError
from strongroom.api.fields import Answer, Body, Line, Name
from strongroom.core.ids import DomainId
from strongroom.lifecycle import policy
from strongroom.lifecycle.policy import (
    LONGEST_NAME,
    LONGEST_RETENTION_SECONDS,
    MAX_OPERATIONS,
    AllTargets,
    Fixed,
    ForEver,
    Passed,
    Policy,
    Target,
    TargetRetention,
)

EVERY_TARGET: Final = "*"
FOR_EVER: Final = "forever"
AS_TARGET_IS_TOLD: Final = "target"
_UNITS: Final = {"s": 1, "min": 60, "h": 3_600, "d": 86_400, "w": 604_800, "y": 31_536_000}
_DURATION: Final = re.compile(r"(\d{1,10})(s|min|h|d|w|y)")

PolicyName = Annotated[str, StringConstraints(min_length=1, max_length=4 * LONGEST_NAME, pattern=r"^[^\x00]*$")]
LocalPolicyName = Annotated[
    str, StringConstraints(min_length=1, max_length=4 * LONGEST_NAME, pattern=r"^[^\x00-\x1f\x7f/]+$")
]
"""Of this domain: it stands in paths."""
Duration = (
    Annotated[int, Field(ge=1, le=LONGEST_RETENTION_SECONDS)]
    | Annotated[str, StringConstraints(pattern=r"^\d{1,10}(s|min|h|d|w|y)$")]
)
Retention = Duration | Literal["forever", "target"]


class BackupOperation(Body):
    """The backup itself, encrypted under a key group or, without one, in clear."""

    op: Literal["backup"]
    pool: Name
    retention: Retention
    key_group: Name | None = None


class ImportOperation(Body):
    """What another domain sends; with ``target`` it is kept as the sender wants, within bounds."""

    op: Literal["import"]
    pool: Name
    retention: Retention
    otherwise: Duration = Field(default="30d", description="with 'target', when the sender wants nothing in particular")
    at_least: Duration | None = None
    at_most: Duration | None = None


class ReplicationOperation(Body):
    """Sending the copy of an earlier operation to another domain, or to every target."""

    op: Literal["replication"]
    parent: int = Field(default=0, ge=0, lt=MAX_OPERATIONS)
    target: Line = Field(description="the other domain: id, name or server; '*' is every target")
    import_slp: PolicyName | None = Field(default=None, description="in the other domain; for '*' it has this name")
    retention: Retention | None = Field(default=None, description="what is wanted there; null leaves it to the target")


Operation = Annotated[BackupOperation | ImportOperation | ReplicationOperation, Field(discriminator="op")]


class PolicyDocument(Body):
    """What a lifecycle policy does."""

    data_class: Annotated[str, StringConstraints(max_length=64, pattern=r"^[^\x00-\x1f\x7f]*$")] = ""
    operations: Annotated[list[Operation], Field(min_length=1, max_length=MAX_OPERATIONS)]


class OperationShown(Answer):
    """An operation; what does not belong to its kind is null. Durations are seconds."""

    op: Literal["backup", "import", "replication"]
    pool: str | None = None
    retention: int | Literal["forever", "target"] | None = None
    key_group: str | None = None
    otherwise: int | None = None
    at_least: int | None = None
    at_most: int | None = None
    parent: int | None = None
    target: str | None = None
    import_slp: str | None = None


def to_policy(name: str, document: PolicyDocument, domain_of: Callable[[str], DomainId]) -> Policy:
    """Make the policy that a document describes; its rules are checked where it is saved.

    Args:
        name: of the policy.
        document: from a request.
        domain_of: finds a domain by what people call it.

    Raises:
        BadRequestError: a retention that this kind of operation does not have.
    """
    operations = tuple(_operation(place, operation, domain_of) for place, operation in enumerate(document.operations))
    return Policy(name=name, data_class=document.data_class, operations=operations)


def shown(operation: policy.Operation) -> OperationShown:
    """Show an operation."""
    match operation:
        case policy.Backup():
            kept: int | Literal["forever"] = FOR_EVER
            if isinstance(operation.retention, Fixed):
                kept = operation.retention.seconds
            return OperationShown(op="backup", pool=operation.storage, retention=kept, key_group=operation.key_group)
        case policy.Import():
            bounds = operation.retention
            if isinstance(bounds, Fixed):
                return OperationShown(op="import", pool=operation.storage, retention=bounds.seconds)
            return OperationShown(
                op="import",
                pool=operation.storage,
                retention=AS_TARGET_IS_TOLD,
                otherwise=bounds.otherwise_seconds,
                at_least=bounds.at_least_seconds,
                at_most=bounds.at_most_seconds,
            )
        case policy.Replication():
            one = operation.to if isinstance(operation.to, Target) else None
            wanted: int | Literal["target"] | None = None
            if operation.retention is not None:
                wanted = operation.retention.seconds if isinstance(operation.retention, Fixed) else AS_TARGET_IS_TOLD
            return OperationShown(
                op="replication",
                parent=operation.source - 1,
                target=one.domain if one else EVERY_TARGET,
                import_slp=one.slp if one else None,
                retention=wanted,
            )


def seconds(duration: int | str) -> int:
    """Read a duration: seconds, or a number with ``s``, ``min``, ``h``, ``d``, ``w`` or ``y`` (365 days).

    Raises:
        BadRequestError: neither, or longer than a retention may be.
    """
    if isinstance(duration, str):
        found = _DURATION.fullmatch(duration)
        if found is None:
            raise BadRequestError(f"'{duration[:32]}' is not a duration such as '30d'")
        duration = int(found[1]) * _UNITS[found[2]]
    if not 1 <= duration <= LONGEST_RETENTION_SECONDS:
        raise BadRequestError(f"a duration is 1 to {LONGEST_RETENTION_SECONDS} seconds")
    return duration


def _operation(place: int, operation: Operation, domain_of: Callable[[str], DomainId]) -> policy.Operation:
    match operation:
        case BackupOperation(retention="target"):
            raise BadRequestError(f"'operations.{place}.retention': a backup has no target retention")
        case BackupOperation(retention="forever"):
            return policy.Backup(storage=operation.pool, retention=ForEver(), key_group=operation.key_group)
        case BackupOperation():
            kept = Fixed(seconds(operation.retention))
            return policy.Backup(storage=operation.pool, retention=kept, key_group=operation.key_group)
        case ImportOperation(retention="forever"):
            raise BadRequestError(f"'operations.{place}.retention': an import is not kept for ever; set a duration")
        case ImportOperation(retention="target"):
            return policy.Import(storage=operation.pool, retention=_bounds(operation))
        case ImportOperation():
            return policy.Import(storage=operation.pool, retention=Fixed(seconds(operation.retention)))
        case ReplicationOperation(retention="forever"):
            raise BadRequestError(f"'operations.{place}.retention': nothing is wanted for ever elsewhere")
        case ReplicationOperation():
            return policy.Replication(
                source=operation.parent + 1,
                to=_target(place, operation, domain_of),
                retention=_wanted(operation.retention),
            )


def _bounds(operation: ImportOperation) -> TargetRetention:
    return TargetRetention(
        otherwise_seconds=seconds(operation.otherwise),
        at_least_seconds=0 if operation.at_least is None else seconds(operation.at_least),
        at_most_seconds=None if operation.at_most is None else seconds(operation.at_most),
    )


def _target(place: int, operation: ReplicationOperation, domain_of: Callable[[str], DomainId]) -> Target | AllTargets:
    if operation.target == EVERY_TARGET:
        return AllTargets()
    if operation.import_slp is None:
        raise BadRequestError(f"'operations.{place}.import_slp': a replication to one domain names its import policy")
    return Target(domain_of(operation.target).hex(), operation.import_slp)


def _wanted(retention: int | str | None) -> Fixed | Passed | None:
    if retention is None:
        return None
    return Passed() if retention == AS_TARGET_IS_TOLD else Fixed(seconds(retention))
