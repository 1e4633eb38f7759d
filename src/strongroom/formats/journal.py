"""Journal of state records: what happened to a copy after its headers were written.

Source: ``docs/reference/formats/journal.md``. The chain check and its result are pure: whoever reads a
    medium hands in the batches it found and the highest batch number that a copy header named.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Final

import msgspec

from strongroom.core.errors import IntegrityError
from strongroom.core.ids import DIGEST_BYTES, DomainId, ImageId, MediumId, to_text
from strongroom.formats import signed
from strongroom.formats.algorithms import digest
from strongroom.formats.errors import DamagedError, ForeignError
from strongroom.formats.records import Bytes16, Bytes32, CopyNumber, Features, Incarnation, Moment, Word
from strongroom.formats.signed import Kind, Payload, Verified

MAX_RECORDS: Final = 4_096
MAX_OBJECT_BYTES: Final = 67_600
NO_BATCH: Final = bytes(DIGEST_BYTES)
"""``previous`` of batch 1."""

EXPIRY: Final = "expiry"
HOLD: Final = "hold"
RELEASE: Final = "release"
LOCK: Final = "lock"
RECEIPT: Final = "receipt"
HOP_SENT: Final = "hop"
TOMBSTONE: Final = "tombstone"
_KNOWN: Final = frozenset({EXPIRY, HOLD, RELEASE, LOCK, RECEIPT, HOP_SENT, TOMBSTONE})
_WITH_OBJECT: Final = frozenset({RECEIPT, HOP_SENT})


class StateRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One later fact about one copy."""

    kind: Word
    image: Bytes16
    copy: CopyNumber
    at: Moment
    until: Moment | None
    hold: Bytes16 | None
    object: Annotated[bytes, msgspec.Meta(max_length=MAX_OBJECT_BYTES)] | None
    reason: Annotated[str, msgspec.Meta(max_length=256)]

    def __post_init__(self) -> None:
        if self.kind not in _KNOWN:
            return
        if self.until is not None and self.kind not in (EXPIRY, LOCK):
            raise ValueError("only an expiry and a lock have 'until'")
        if self.until is None and self.kind == LOCK:
            raise ValueError("a lock has no end")
        if (self.hold is not None) != (self.kind in (HOLD, RELEASE)):
            raise ValueError("a hold and a release, and nothing else, name a hold")
        if (self.object is not None) != (self.kind in _WITH_OBJECT):
            raise ValueError("a receipt and a hop, and nothing else, carry an object")


class Batch(Payload, frozen=True, kw_only=True):
    """A numbered file of state records. ``domain`` owns the medium."""

    medium: Bytes16
    incarnation: Incarnation
    sequence: Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)]
    previous: Bytes32
    at: Moment
    records: Annotated[tuple[StateRecord, ...], msgspec.Meta(min_length=1, max_length=MAX_RECORDS)]
    features: Features


BATCH: Final = Kind(b"SRJRNL01", Batch, 4 << 20, "journal batch")


class ForkedJournalError(DamagedError):
    """Two batches of one number and one incarnation: the domain signed two histories."""

    code = "journal.forked"
    default_hint = "nothing on this medium expires until an administrator has compared the two batches"


@dataclass(frozen=True)
class CopyState:
    """What the journal says of one copy, over what its header says.

    Attributes:
        expires: the newest expiry in ns, ``None`` for never; it counts only when ``expiry_changed``.
        expiry_changed: whether any record changed the expiry of the header.
        holds: the holds that stand, by their ids.
        locked_until: end of the longest retention lock, ns; 0 without one.
        expired: whether the copy was expired, and must not come back by an import.
        receipts: whole receipt objects, oldest first; who relies on one verifies it.
        hops: whole hop objects, oldest first; who relies on one verifies it.
        unknown: kinds of records that this program does not know; any of them stops expiry.
    """

    expires: int | None = None
    expiry_changed: bool = False
    holds: frozenset[bytes] = frozenset()
    locked_until: int = 0
    expired: bool = False
    receipts: tuple[bytes, ...] = ()
    hops: tuple[bytes, ...] = ()
    unknown: tuple[str, ...] = ()

    def stops_expiry(self, now: int) -> bool:
        """Tell whether something forbids expiry at a moment of the lock clock, in ns."""
        return bool(self.holds) or bool(self.unknown) or now < self.locked_until

    def with_record(self, record: StateRecord) -> CopyState:
        """Give the state after one more record."""
        match record:
            case StateRecord(kind="expiry", until=until):
                return replace(self, expires=until, expiry_changed=True)
            case StateRecord(kind="hold", hold=bytes() as hold):
                return replace(self, holds=self.holds | {hold})
            case StateRecord(kind="release", hold=bytes() as hold):
                return replace(self, holds=self.holds - {hold})
            case StateRecord(kind="lock", until=int() as until):
                # A lock is never shortened, not even by its owner.
                return replace(self, locked_until=max(self.locked_until, until))
            case StateRecord(kind="receipt", object=bytes() as data):
                return replace(self, receipts=(*self.receipts, data))
            case StateRecord(kind="hop", object=bytes() as data):
                return replace(self, hops=(*self.hops, data))
            case StateRecord(kind="tombstone"):
                return replace(self, expired=True)
            case StateRecord(kind=kind):
                return replace(self, unknown=(*self.unknown, kind))


@dataclass(frozen=True)
class JournalState:
    """How far a journal can be followed, and what it says up to there.

    Attributes:
        complete_to: number of the last batch that fits; 0 when there is none.
        last_digest: digest of that batch; the next one names it as ``previous``.
        incarnation: of the domain at that batch; it never falls along the chain.
        copies: state of each copy that a record names, by image and copy number.
        problem: why the next batch does not count; ``None`` when all that were given do.
    """

    complete_to: int = 0
    last_digest: bytes = NO_BATCH
    incarnation: int = 1
    copies: Mapping[tuple[ImageId, int], CopyState] = field(default_factory=dict)
    problem: IntegrityError | None = None

    def is_complete(self, named: int) -> bool:
        """Tell whether nothing is missing, as far as the medium shows.

        The newest batches may have been removed together with what names them: after a rebuild that has no
        newer word on the last number, an administrator must confirm.

        Args:
            named: the highest ``journal`` of all copy headers that name this journal, or a newer word on it.
        """
        return self.problem is None and self.complete_to >= named


def follow(
    batches: Iterable[bytes], *, domain: DomainId, medium: MediumId, after: JournalState | None = None
) -> JournalState:
    """Check the chain of a journal and apply what it says.

    Of batches with one number that of the highest incarnation counts: a primary that was restored went on
    from an older state. Nothing is applied from the first batch on that does not fit: what comes behind a
    gap may rest on what is missing. Two batches are in memory at a time.

    Args:
        batches: whole batch objects by rising number; those of one number follow each other in any order.
        domain: who owns the medium; batches of another domain do not count.
        medium: the medium.
        after: where an earlier call ended without a problem; ``None`` begins with batch 1.
    """
    state = after or JournalState()
    copies = dict(state.copies)
    problem = state.problem
    if problem is None:
        for found in _prevailing(batches, domain, medium):
            problem = found if isinstance(found, IntegrityError) else _misfit(found.payload, state)
            if problem is not None or isinstance(found, IntegrityError):
                break
            batch = found.payload
            for record in batch.records:
                place = (ImageId(record.image), record.copy)
                copies[place] = copies.get(place, CopyState()).with_record(record)
            state = JournalState(batch.sequence, digest(found.data), batch.incarnation)
    return replace(state, copies=copies, problem=problem)


def _prevailing(
    batches: Iterable[bytes], domain: DomainId, medium: MediumId
) -> Iterator[Verified[Batch] | IntegrityError]:
    """Give for each number the batch that counts, and last what is wrong, if anything is."""
    best: Verified[Batch] | None = None
    for data in batches:
        try:
            found = _checked(data, domain, medium)
            if best is not None and found.payload.sequence == best.payload.sequence:
                best = _later(best, found)
                continue
        except ForkedJournalError as fork:
            yield fork
            return
        except IntegrityError as error:
            if best is not None:
                yield best
            yield error
            return
        if best is not None:
            yield best
        best = found
    if best is not None:
        yield best


def _checked(data: bytes, domain: DomainId, medium: MediumId) -> Verified[Batch]:
    """Check a batch by itself."""
    verified = signed.verify(BATCH, data, pinned=domain)
    batch = verified.payload
    if batch.medium != medium:
        raise ForeignError(
            f"journal batch {batch.sequence} is of the medium {to_text(batch.medium)}, not {to_text(medium)}"
        )
    return verified


def _later(one: Verified[Batch], other: Verified[Batch]) -> Verified[Batch]:
    """Give the one of two batches of one number that counts."""
    if one.payload.incarnation == other.payload.incarnation and one.data != other.data:
        raise ForkedJournalError(
            f"there are two journal batches {one.payload.sequence} of incarnation {one.payload.incarnation}"
        )
    return max(one, other, key=lambda found: found.payload.incarnation)


def _misfit(batch: Batch, state: JournalState) -> IntegrityError | None:
    """Tell why a batch is not the one that follows; ``None`` when it is."""
    if batch.sequence != state.complete_to + 1:
        return DamagedError(f"journal batch {state.complete_to + 1} is missing; the next one found is {batch.sequence}")
    if batch.previous != state.last_digest:
        return DamagedError(f"journal batch {batch.sequence} does not follow batch {state.complete_to} found here")
    if batch.incarnation < state.incarnation:
        return DamagedError(f"journal batch {batch.sequence} is of an earlier incarnation than the one before it")
    return None
