"""The plan: from what is, to what is due and what waits. A pure function; it reads no clock and no database.

A promise is made once (:func:`promises`), and kept by an attempt, or as many as it takes (:func:`plan`). Neither ever
takes a promise back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from strongroom.catalog.expiry import KeptBy, kept_by
from strongroom.catalog.model import Copy, CopyKey, CopyState
from strongroom.core.clock import to_ns
from strongroom.core.ids import DomainId, ImageId, to_text
from strongroom.lifecycle.policy import AllTargets, Policy, Replication, retention_there
from strongroom.lifecycle.tables import ReplicationState

FIRST_RETRY = timedelta(minutes=1)
LONGEST_RETRY = timedelta(hours=1)


@dataclass(frozen=True)
class ImageFacts:
    """What the plan must know about an image.

    Attributes:
        image: its identity.
        wanted_seconds: the retention that its sender wanted here; ``None`` when it began here, or wanted nothing.
        senders: the domains that have sent it already; it never goes back to one of them by itself.
    """

    image: ImageId
    wanted_seconds: int | None = None
    senders: frozenset[DomainId] = frozenset()


@dataclass(frozen=True)
class Promise:
    """One sending that a policy promises of an image; ``operation`` and ``source`` are numbers of operations."""

    operation: int
    source: int
    target: DomainId
    slp: str
    retention_seconds: int | None


@dataclass(frozen=True)
class Sending:
    """A promise as it stands: the row that the plan looks at."""

    target: DomainId
    source: CopyKey
    state: ReplicationState
    attempts: int = 0
    retry_at: datetime | None = None
    error: str = ""


@dataclass(frozen=True)
class Send:
    """Due: send a copy to a target."""

    source: CopyKey
    target: DomainId
    reason: str


@dataclass(frozen=True)
class Expire:
    """Due: expire a copy."""

    copy: CopyKey
    reason: str


class WaitsFor(StrEnum):
    """What something that is not due waits for."""

    COPY = "copy"
    """The copy that is to be sent is not complete."""
    POLICY = "policy"
    """The policy is not active."""
    RETRY = "retry"
    """The time of the next attempt."""
    JOB = "job"
    """A job is at it."""
    RECEIPT = "receipt"
    ADMINISTRATOR = "administrator"
    """A person has to decide: the target refused, or an expiry must be confirmed."""
    HOLD = "hold"
    LOCK = "lock"


@dataclass(frozen=True)
class Waiting:
    """Not due yet: what it is about, what it waits for, and until when, if a time is known."""

    subject: CopyKey
    target: DomainId | None
    waits_for: WaitsFor
    reason: str
    until: datetime | None = None


@dataclass(frozen=True)
class Plan:
    """What is due, and what waits; each promise that is not kept is in exactly one of the two."""

    due: tuple[Send | Expire, ...]
    waiting: tuple[Waiting, ...]


def promises(policy: Policy, image: ImageFacts, targets: Iterable[DomainId]) -> tuple[Promise, ...]:
    """Tell what a policy promises of an image that begins with it.

    Args:
        policy: the version that it begins with.
        image: the image.
        targets: all targets that are defined now, for a policy that names none.

    Returns:
        At most one promise for each target, by operation and target.
    """
    made: list[Promise] = []
    for number, operation in enumerate(policy.operations, start=1):
        if not isinstance(operation, Replication):
            continue
        retention = retention_there(operation, image.wanted_seconds)
        if isinstance(operation.to, AllTargets):
            named = [(target, policy.name) for target in sorted(set(targets))]
        else:
            named = [(operation.to.id, operation.to.slp)]
        made.extend(
            Promise(number, operation.source, target, slp, retention)
            for target, slp in named
            if target not in image.senders
        )
    return tuple(made)


def plan(copies: Sequence[Copy], sendings: Sequence[Sending], *, own: DomainId, active: bool, now: datetime) -> Plan:
    """Tell what is due for an image, and what the rest waits for.

    Args:
        copies: its copies here, of media of this domain.
        sendings: every promise made of it.
        own: this domain.
        active: whether its policy is active; while it is not, nothing is sent, and nothing is forgotten.
        now: the time.
    """
    due: list[Send | Expire] = []
    waiting: list[Waiting] = []
    held = {copy.key: copy for copy in copies}
    for sending in sendings:
        step = _send(held.get(sending.source), sending, active, now)
        if isinstance(step, Waiting):
            waiting.append(step)
        elif step is not None:
            due.append(step)
    open_sources = {sending.source for sending in sendings if sending.state is not ReplicationState.CONFIRMED}
    for copy in copies:
        waits, expires = _expire(copy, copy.key in open_sources, own, now)
        waiting.extend(waits)
        due.extend(expires)
    return Plan(tuple(due), tuple(waiting))


def retry_at(attempts: int, now: datetime) -> datetime:
    """Tell when to try again: a minute after the first failure, twice as long each time, up to an hour."""
    delay: timedelta = FIRST_RETRY * (1 << min(max(attempts, 1) - 1, 10))
    return now + min(delay, LONGEST_RETRY)


def _send(copy: Copy | None, sending: Sending, active: bool, now: datetime) -> Send | Waiting | None:
    name = to_text(sending.target)[:16]

    def wait(waits_for: WaitsFor, reason: str, until: datetime | None = None) -> Waiting:
        return Waiting(sending.source, sending.target, waits_for, reason, until)

    match sending.state:
        case ReplicationState.CONFIRMED:
            return None
        case ReplicationState.SENDING:
            return wait(WaitsFor.JOB, f"a job is sending it to {name}")
        case ReplicationState.SENT:
            return wait(WaitsFor.RECEIPT, f"{name} has it, and has not sent its receipt yet")
        case ReplicationState.REFUSED:
            return wait(WaitsFor.ADMINISTRATOR, f"{name} refused it: {sending.error}")
        case ReplicationState.WAITING | ReplicationState.FAILED:
            pass
    if copy is None or copy.state is not CopyState.COMPLETE:
        return wait(WaitsFor.COPY, f"copy {sending.source.number}, which goes to {name}, is not complete")
    if not active:
        return wait(WaitsFor.POLICY, "its lifecycle policy is not active")
    if sending.retry_at is not None and sending.retry_at > now:
        return wait(WaitsFor.RETRY, f"attempt {sending.attempts} failed: {sending.error}", sending.retry_at)
    tried = f", attempt {sending.attempts + 1}" if sending.attempts else ""
    return Send(sending.source, sending.target, f"copy {sending.source.number} was promised to {name}{tried}")


_KEEPERS = {
    KeptBy.HOLD: (WaitsFor.HOLD, "it is on hold"),
    KeptBy.LOCK: (WaitsFor.LOCK, "it is locked"),
    KeptBy.RECEIPT: (WaitsFor.RECEIPT, "a domain that it was promised to has not confirmed it"),
    KeptBy.CONFIRMATION: (WaitsFor.ADMINISTRATOR, "an administrator must confirm its expiry"),
}


def _expire(copy: Copy, promised: bool, own: DomainId, now: datetime) -> tuple[list[Waiting], list[Expire]]:
    over = copy.expires_ns is not None and copy.expires_ns <= to_ns(now)
    if copy.state is not CopyState.COMPLETE or not over or copy.key.domain != own:
        return [], []
    reasons = kept_by(copy, owner=copy.key.domain, own=own, promised=promised, lock_clock_ns=to_ns(now))
    if not reasons:
        return [], [Expire(copy.key, f"the retention of copy {copy.key.number} is over")]
    return [Waiting(copy.key, None, *_KEEPERS[reason]) for reason in reasons], []
