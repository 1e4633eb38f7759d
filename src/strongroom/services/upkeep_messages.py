"""What a primary asks of a media server for the upkeep of a pool: repair, scrub, expiry, retention locks, collection.

As in ``services.messages``, unknown keys are ignored and new keys have defaults.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from strongroom.formats.fragment import MAX_BYTES as MAX_FRAGMENT_BYTES
from strongroom.formats.lock_record import MOST_ROUNDING_DAYS
from strongroom.formats.records import Bytes16, Count, RetentionSeconds
from strongroom.services.messages import Text


class RepairPool(msgspec.Struct, frozen=True, kw_only=True):
    """A pool is to be repaired, or only looked at."""

    medium: Bytes16
    dry_run: bool


class MendedContainer(msgspec.Struct, frozen=True, kw_only=True):
    """A damaged container: what is wrong, and what was or would be done (see ``pool.repair``)."""

    container: Bytes16
    problems: list[Text]
    whole: Count
    copied: Count
    lost: Count | None
    aside: Text
    why_kept: Text


class DamagedImage(msgspec.Struct, frozen=True, kw_only=True):
    """An image that its pool cannot give back whole; ``image`` is ``None`` when its fragment does not say which."""

    name: Text
    image: Bytes16 | None
    problems: list[Text]


class RepairAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a repair did, or would do; of more than 1,000 containers or images the first are listed, and all counted."""

    containers: list[MendedContainer]
    container_count: Count
    indexed: Count
    images: list[DamagedImage]
    image_count: Count


class ScrubPool(msgspec.Struct, frozen=True, kw_only=True):
    """Every object of a pool that was not checked since ``since_ns`` is to be read and checked."""

    job: Count
    medium: Bytes16
    since_ns: Count
    bytes_per_second: Count


class DamagedObject(msgspec.Struct, frozen=True, kw_only=True):
    """An object that did not hold at its last check."""

    key: Text
    at_ns: Count
    problem: Text


class Scrubbed(msgspec.Struct, frozen=True, kw_only=True):
    """What a scrub found; of more than 1,000 objects or images the first are listed, and all counted."""

    objects: Count
    bytes: Count
    damaged: list[DamagedObject]
    damaged_count: Count
    images: list[DamagedImage]
    image_count: Count


class ScrubUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """One piece of the answer to *scrub-pool*: what it is at, in bytes; the last one has the outcome."""

    message: Text = ""
    done: Count = 0
    total: Count = 0
    scrubbed: Scrubbed | None = None
    document: dict[str, object] | None = None


class FragmentName(msgspec.Struct, frozen=True, kw_only=True):
    """A copy in a pool."""

    image: Bytes16
    copy: Count


class RemoveFragments(msgspec.Struct, frozen=True, kw_only=True):
    """Copies are expired, and the journal on the medium says so: their files in ``images`` are to go."""

    medium: Bytes16
    fragments: Annotated[list[FragmentName], msgspec.Meta(max_length=1_000)]
    lift: bool = False


class StillLocked(msgspec.Struct, frozen=True, kw_only=True):
    """A copy that was not removed because it is locked, and until when."""

    image: Bytes16
    copy: Count
    until_ns: Count


class FragmentsRemoved(msgspec.Struct, frozen=True, kw_only=True):
    """All are gone but these."""

    locked: list[StillLocked] = []


class LockPool(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored in a pool is to be locked from now on. The answer is a :class:`LockState`."""

    medium: Bytes16
    mode: Annotated[str, msgspec.Meta(max_length=32)]
    rounding_days: Annotated[int, msgspec.Meta(ge=1, le=MOST_ROUNDING_DAYS)]


class LockImage(msgspec.Struct, frozen=True, kw_only=True):
    """A copy is to be locked for so long from now on, if it is not locked longer. The answer is a :class:`Locked`."""

    medium: Bytes16
    image: Bytes16
    copy: Count
    seconds: RetentionSeconds


class Locked(msgspec.Struct, frozen=True, kw_only=True):
    """When the lock of a copy ends; 0 in a pool that locks nothing."""

    until_ns: Count


class Rewriting(msgspec.Struct, frozen=True, kw_only=True):
    """Containers of whose bytes less than a share is needed are rewritten, within these limits."""

    percent: Count
    most_bytes: Count
    bytes_per_second: Count


class CollectPool(msgspec.Struct, frozen=True, kw_only=True):
    """What no image of a pool needs is to be freed; with ``dry_run``, to be counted.

    ``epoch`` is that of sessions that begin now; none is open that began before ``closed_before``, and the oldest one
    that is open began after ``young_ns``. ``committing`` are fragments that may not lie in the pool yet, ``without``
    those that are about to go. With ``lift``, what a governance lock keeps may go too.
    """

    job: Count
    medium: Bytes16
    epoch: Count
    closed_before: Count
    young_ns: Count | None
    committing: list[Annotated[bytes, msgspec.Meta(max_length=MAX_FRAGMENT_BYTES)]]
    without: list[FragmentName]
    dry_run: bool
    lift: bool = False
    rewriting: Rewriting | None = None


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """Containers, and their bytes."""

    containers: Count = 0
    bytes: Count = 0


class Collected(msgspec.Struct, frozen=True, kw_only=True):
    """What a collection found and did; see :class:`strongroom.images.collect.Collected`."""

    images: Count
    pages: Count
    found: Counted
    unneeded: Counted
    sparse_bytes: Count
    rewritten: Counted
    copied_bytes: Count
    rewrite_later: Count
    damaged: list[Text]
    full: Text
    condemned: Counted
    waiting: Counted
    removed: Counted
    reprieved: Count
    envelopes: Count
    envelopes_waiting: Count
    unread: list[Text]
    locked: Counted = Counted()


class CollectUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """One piece of the answer to *collect-pool*: what it is at, in bytes if it copies; the last one has the outcome."""

    message: Text = ""
    done: Count = 0
    total: Count = 0
    collected: Collected | None = None
    document: dict[str, object] | None = None
