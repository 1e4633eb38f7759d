"""Storage lifecycle policies as checked values: what a document may say, and the rules of the field.

A policy's operations are numbered from 1 in their order; ``source`` is the number of the operation from whose copy an
operation starts, and is always lower, so that the list is a tree.
"""

from __future__ import annotations

import unicodedata
from typing import Annotated, Final

import msgspec

from strongroom.core.errors import InputError
from strongroom.core.ids import DomainId
from strongroom.lifecycle.errors import OperationsError, PolicyDocumentError, PolicyNameError

LONGEST_NAME: Final = 112
LONGEST_RETENTION_SECONDS: Final = 1 << 33
MAX_OPERATIONS: Final = 64
MAX_DOCUMENT_BYTES: Final = 64 << 10

# Control and format characters, surrogates, private use, unassigned, separators of lines: nobody can see or type them.
_REFUSED_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})

Seconds = Annotated[int, msgspec.Meta(ge=1, le=LONGEST_RETENTION_SECONDS)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Source = Annotated[int, msgspec.Meta(ge=1, le=MAX_OPERATIONS)]
DomainText = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


class Fixed(msgspec.Struct, frozen=True, tag="fixed", forbid_unknown_fields=True):
    """So long, counted from the start of the backup, or from arrival for a copy that came from elsewhere."""

    seconds: Seconds


class ForEver(msgspec.Struct, frozen=True, tag="for-ever", forbid_unknown_fields=True):
    """Until somebody expires it."""


class TargetRetention(msgspec.Struct, frozen=True, kw_only=True, tag="target", forbid_unknown_fields=True):
    """As the domain that sends the image wants it, within bounds that this domain sets.

    ``otherwise_seconds`` counts when the sender wants nothing in particular.
    """

    otherwise_seconds: Seconds
    at_least_seconds: Annotated[int, msgspec.Meta(ge=0, le=LONGEST_RETENTION_SECONDS)] = 0
    at_most_seconds: Seconds | None = None


class Passed(msgspec.Struct, frozen=True, tag="target", forbid_unknown_fields=True):
    """As the domain that sent the image wanted it here: handed on to the next."""


class Backup(msgspec.Struct, frozen=True, kw_only=True, tag="backup", forbid_unknown_fields=True):
    """Write the backup itself into a storage pool, encrypted under a key group or, without one, in clear."""

    storage: Name
    retention: Fixed | ForEver
    key_group: Name | None = None
    source: Source | None = None


class Import(msgspec.Struct, frozen=True, kw_only=True, tag="import", forbid_unknown_fields=True):
    """Take in an image that another domain sends."""

    storage: Name
    retention: Fixed | TargetRetention
    source: Source | None = None


class Target(msgspec.Struct, frozen=True, tag="domain", forbid_unknown_fields=True):
    """One trusted domain, and the import policy there."""

    domain: DomainText
    slp: str

    @property
    def id(self) -> DomainId:
        """The domain's identity."""
        return DomainId(bytes.fromhex(self.domain))


class AllTargets(msgspec.Struct, frozen=True, tag="all", forbid_unknown_fields=True):
    """Every target that is defined when the image begins; the import policy there has this policy's name."""


class Replication(msgspec.Struct, frozen=True, kw_only=True, tag="replication", forbid_unknown_fields=True):
    """Send the copy of an earlier operation to other domains.

    ``retention`` is what is wanted there; ``None`` leaves it to the target.
    """

    source: Source
    to: Target | AllTargets
    retention: Fixed | Passed | None = None


Operation = Backup | Import | Replication


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One version of a policy, as its document says it; :func:`check` makes it trustworthy."""

    name: str
    data_class: Annotated[str, msgspec.Meta(max_length=64)] = ""
    operations: Annotated[tuple[Operation, ...], msgspec.Meta(min_length=1, max_length=MAX_OPERATIONS)]

    @property
    def takes_imports(self) -> bool:
        """Whether images of other domains begin with this policy."""
        return isinstance(self.operations[0], Import)

    @property
    def named_targets(self) -> frozenset[DomainId]:
        """The domains that it sends to by name, not as some of all targets."""
        sendings = [operation.to for operation in self.operations if isinstance(operation, Replication)]
        return frozenset(to.id for to in sendings if isinstance(to, Target))

    @property
    def sends_to_all(self) -> bool:
        """Whether it sends to every target that is defined."""
        return any(isinstance(one, Replication) and isinstance(one.to, AllTargets) for one in self.operations)


_decoder: Final = msgspec.json.Decoder(Policy)


def read_policy(document: bytes) -> Policy:
    """Read and check a policy's JSON document.

    Raises:
        PolicyDocumentError: too long, not JSON, or a field is missing, unknown or out of bounds.
        PolicyNameError: a name cannot be used.
        OperationsError: the operations break a rule; the message says which.
    """
    if len(document) > MAX_DOCUMENT_BYTES:
        raise PolicyDocumentError(f"the document has {len(document)} bytes, more than {MAX_DOCUMENT_BYTES}")
    try:
        policy = _decoder.decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PolicyDocumentError(f"the policy cannot be read: {error}") from error
    return check(policy)


def write_policy(policy: Policy) -> bytes:
    """Write a policy as the JSON document that :func:`read_policy` reads."""
    return msgspec.json.encode(policy)


def check(policy: Policy) -> Policy:
    """Check a policy against the rules, and give it with its names in normal form.

    Raises:
        PolicyNameError: a name cannot be used.
        OperationsError: the operations break a rule; the message says which.
    """
    operations = tuple(_normal(operation) for operation in policy.operations)
    _check_first(operations)
    for number, operation in enumerate(operations, start=1):
        _check_operation(operations, number, operation)
    _check_retention(operations)
    _check_targets(operations)
    return msgspec.structs.replace(policy, name=check_name(policy.name), operations=operations)


def check_name(name: str) -> str:
    """Check a policy's name, and give it in Unicode normal form C, so that what looks equal is equal.

    The bound is 112 *characters* (code points in normal form C), at most 448 bytes of UTF-8.

    Raises:
        PolicyNameError: empty, longer than 112 characters, blank at an end, or with a character nobody can see.
    """
    normal = unicodedata.normalize("NFC", name)
    if not 1 <= len(normal) <= LONGEST_NAME:
        raise PolicyNameError(f"the name has {len(normal)} characters; 1 to {LONGEST_NAME} are allowed")
    if normal != normal.strip():
        raise PolicyNameError(f"the name {normal!r} begins or ends with a blank")
    for character in normal:
        if unicodedata.category(character) in _REFUSED_CATEGORIES:
            raise PolicyNameError(f"the name {normal!r} has the character U+{ord(character):04X}")
    return normal


def retention_here(operation: Import, wanted_seconds: int | None) -> int:
    """Decide how long an arriving image is kept, from its arrival on.

    Args:
        operation: the import of the policy that takes it.
        wanted_seconds: what the sender wants, as its hop says.

    Returns:
        Seconds, within the bounds of the operation whatever the sender wants.
    """
    match operation.retention:
        case Fixed(seconds):
            return seconds
        case TargetRetention() as bounds:
            wanted = bounds.otherwise_seconds if wanted_seconds is None else wanted_seconds
            most = LONGEST_RETENTION_SECONDS if bounds.at_most_seconds is None else bounds.at_most_seconds
            return max(bounds.at_least_seconds, min(wanted, most))


def retention_there(operation: Replication, wanted_here_seconds: int | None) -> int | None:
    """Decide what a hop says about the retention at its target.

    Args:
        operation: the replication.
        wanted_here_seconds: what the domain that sent the image here wanted; ``None`` when it began here.
    """
    match operation.retention:
        case None:
            return None
        case Fixed(seconds):
            return seconds
        case Passed():
            return wanted_here_seconds


def _normal(operation: Operation) -> Operation:
    if isinstance(operation, Replication) and isinstance(operation.to, Target):
        try:
            slp = check_name(operation.to.slp)
        except InputError as error:
            raise PolicyNameError(f"the import policy of a target: {error.message}") from error
        return msgspec.structs.replace(operation, to=Target(operation.to.domain, slp))
    return operation


def _check_first(operations: tuple[Operation, ...]) -> None:
    if isinstance(operations[0], Replication):
        raise OperationsError("operation 1 is a replication; the first one must be a backup or an import")
    for number, operation in enumerate(operations[1:], start=2):
        if isinstance(operation, Import):
            raise OperationsError(f"operation {number} is an import; only the first one may be")
        if isinstance(operation, Backup):
            raise OperationsError(f"operation {number} is a backup; only the first one may be")


def _check_operation(operations: tuple[Operation, ...], number: int, operation: Operation) -> None:
    if not isinstance(operation, Replication):
        if operation.source is not None:
            raise OperationsError(f"operation {number} makes the first copy, and cannot start from another one")
        return
    if operation.source >= number:
        raise OperationsError(f"operation {number} must start from an earlier one, not from {operation.source}")
    if isinstance(operations[operation.source - 1], Replication):
        raise OperationsError(
            f"operation {number} starts from operation {operation.source}, which makes no copy in this domain"
        )
    if isinstance(operation.retention, Passed) and not isinstance(operations[0], Import):
        raise OperationsError(f"operation {number} has target retention, which only a policy with an import can have")


def _check_retention(operations: tuple[Operation, ...]) -> None:
    first = operations[0]
    if not isinstance(first, Import):
        return
    if not any(isinstance(operation.retention, TargetRetention | Passed) for operation in operations):
        raise OperationsError("a policy that imports needs target retention in at least one operation")
    bounds = first.retention
    if isinstance(bounds, TargetRetention):
        most = LONGEST_RETENTION_SECONDS if bounds.at_most_seconds is None else bounds.at_most_seconds
        if not bounds.at_least_seconds <= bounds.otherwise_seconds <= most:
            raise OperationsError("the retention of operation 1 must have 'otherwise' between 'at least' and 'at most'")


def _check_targets(operations: tuple[Operation, ...]) -> None:
    replications = [operation for operation in operations if isinstance(operation, Replication)]
    if len(replications) > 1 and any(isinstance(operation.to, AllTargets) for operation in replications):
        raise OperationsError("a replication to all targets must be the only replication")
    seen: set[str] = set()
    for operation in replications:
        if isinstance(operation.to, Target):
            if operation.to.domain in seen:
                raise OperationsError(f"the domain '{operation.to.domain}' is a target twice")
            seen.add(operation.to.domain)
