"""Journal of state records: what happened to a copy after its headers were written.

Source: ``docs/reference/formats/journal.md``. The chain check and its result are pure: whoever reads a
    medium hands in the batches it found and the highest batch number that a copy header named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Final

import msgspec

from strongroom.core.errors import IntegrityError
from strongroom.core.ids import DIGEST_BYTES, DomainId, ImageId, MediumId, to_text
from strongroom.formats import signed
from strongroom.formats.algorithms import digest
from strongroom.formats.errors import DamagedError, ForeignError
from strongroom.formats.hop import HOP
from strongroom.formats.records import Bytes16, Bytes32, CopyNumber, Moment, Word
from strongroom.formats.signed import Kind, Payload

MAX_RECORDS: Final = 4_096
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
    object: Annotated[bytes, msgspec.Meta(max_length=HOP.max_bytes)] | None
    reason: Annotated[str, msgspec.Meta(max_length=256)]

    def __post_init__(self) -> None:
        if self.kind not in _KNOWN:
            return
        if self.until is not None and self.kind not in (EXPIRY, LOCK):
            raise ValueError("only an expiry and a lock have 'until'")
        if self.until is None and self.kind == LOCK:
            raise ValueError("a lock has no end")
        if (self.object is not None) != (self.kind in _WITH_OBJECT):
            raise ValueError("a receipt and a hop, and nothing else, carry an object")


class Batch(Payload, frozen=True, kw_only=True):
    """A numbered file of state records. ``domain`` owns the medium."""

    medium: Bytes16
    sequence: Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)]
    previous: Bytes32
    at: Moment
    records: Annotated[tuple[StateRecord, ...], msgspec.Meta(min_length=1, max_length=MAX_RECORDS)]


BATCH: Final = Kind(b"SRJRNL01", Batch, 4 << 20, "journal batch")


@dataclass(frozen=True)
class CopyState:
    """What the journal says of one copy, over what its header says.

    Attributes:
        expires: the newest expiry in ns, ``None`` for never; it counts only when ``expiry_changed``.
        expiry_changed: whether any record changed the expiry of the header.
        held: whether a hold stands.
        locked_until: end of the longest retention lock, ns; 0 without one.
        expired: whether the copy was expired, and must not come back by an import.
        receipts: whole receipt objects, oldest first; who relies on one verifies it.
        hops: whole hop objects, oldest first; who relies on one verifies it.
        unknown: kinds of records that this program does not know; any of them stops expiry.
    """

    expires: int | None = None
    expiry_changed: bool = False
    held: bool = False
    locked_until: int = 0
    expired: bool = False
    receipts: tuple[bytes, ...] = ()
    hops: tuple[bytes, ...] = ()
    unknown: tuple[str, ...] = ()

    def stops_expiry(self, now: int) -> bool:
        """Tell whether a hold, a lock or an unknown record forbids expiry at a moment (ns) of the lock clock."""
        return self.held or bool(self.unknown) or now < self.locked_until

    def with_record(self, record: StateRecord) -> CopyState:
        """Give the state after one more record."""
        match record.kind, record.object:
            case "expiry", _:
                return replace(self, expires=record.until, expiry_changed=True)
            case ("hold" | "release") as kind, _:
                return replace(self, held=kind == HOLD)
            case "lock", _:
                # A lock is never shortened, not even by its owner.
                return replace(self, locked_until=max(self.locked_until, record.until or 0))
            case "receipt", bytes() as data:
                return replace(self, receipts=(*self.receipts, data))
            case "hop", bytes() as data:
                return replace(self, hops=(*self.hops, data))
            case "tombstone", _:
                return replace(self, expired=True)
            case kind, _:
                return replace(self, unknown=(*self.unknown, kind))


@dataclass(frozen=True)
class JournalState:
    """How far a journal can be followed, and what it says up to there.

    Attributes:
        complete_to: number of the last batch that fits; 0 when there is none.
        last_digest: digest of that batch; the next one names it as ``previous``.
        copies: state of each copy that a record names, by image and copy number.
        problem: why the next batch does not count; ``None`` when all that were given do.
    """

    complete_to: int = 0
    last_digest: bytes = NO_BATCH
    copies: Mapping[tuple[ImageId, int], CopyState] = field(default_factory=dict)
    problem: IntegrityError | None = None

    def is_complete(self, named: int) -> bool:
        """Tell whether nothing is missing.

        Args:
            named: the highest ``journal`` of all copy headers of the medium.
        """
        return self.problem is None and self.complete_to >= named


def follow(
    batches: Iterable[bytes], *, domain: DomainId, medium: MediumId, after: JournalState | None = None
) -> JournalState:
    """Check the chain of a journal and apply what it says.

    Nothing is applied from the first batch on that does not fit: what comes behind a gap may rest on what
    is missing. One batch is in memory at a time.

    Args:
        batches: whole batch objects in the order of their file names.
        domain: who owns the medium; batches of another domain do not count.
        medium: the medium.
        after: where an earlier call ended without a problem; ``None`` begins with batch 1.
    """
    state = after or JournalState()
    copies = dict(state.copies)
    complete_to, last_digest = state.complete_to, state.last_digest
    problem = state.problem
    if problem is None:
        for data in batches:
            try:
                batch = _next(data, domain, medium, complete_to, last_digest)
            except IntegrityError as error:
                problem = error
                break
            for record in batch.records:
                place = (ImageId(record.image), record.copy)
                copies[place] = copies.get(place, CopyState()).with_record(record)
            complete_to, last_digest = batch.sequence, digest(data)
    return JournalState(complete_to, last_digest, copies, problem)


def _next(data: bytes, domain: DomainId, medium: MediumId, number: int, previous: bytes) -> Batch:
    """Check that a batch is the one that follows."""
    batch = signed.verify(BATCH, data, pinned=domain).payload
    if batch.medium != medium:
        raise ForeignError(
            f"journal batch {batch.sequence} is of the medium {to_text(batch.medium)}, not {to_text(medium)}"
        )
    if batch.sequence != number + 1:
        raise DamagedError(f"journal batch {number + 1} is missing; the next one found is {batch.sequence}")
    if batch.previous != previous:
        raise DamagedError(f"journal batch {batch.sequence} does not follow the batch {number} found here")
    return batch
