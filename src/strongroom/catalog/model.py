"""The catalog's words: states, keys, and the rows that it hands out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from strongroom.core.ids import DomainId, ImageId, KeyGroupId, KeyTag, MediumId, PageId


class CopyState(StrEnum):
    """Where a copy is in its life."""

    WRITING = "writing"
    """A session is storing its data."""
    COMMITTING = "committing"
    """Its headers are signed and kept; they may or may not be on the medium yet."""
    INCOMPLETE = "incomplete"
    """Found on media that hold only some of its fragments."""
    COMPLETE = "complete"
    """On stable storage, all of it."""
    EXPIRED = "expired"
    """Not an image's copy any more; its bytes may still lie on the medium."""


class Readability(StrEnum):
    """Whether a copy's data can be read today, as far as keys go."""

    READABLE = "readable"
    WAITING_FOR_KEY = "waiting-for-key"
    NOT_VERIFIED = "not-verified"
    """Encrypted, and the KMS has not been asked yet."""


class CameBy(StrEnum):
    """How a copy came into this catalog."""

    BACKUP = "backup"
    REPLICATION = "replication"
    IMPORT = "import"
    DUPLICATION = "duplication"


class ExpiryBlock(StrEnum):
    """Why a copy does not expire until an administrator has confirmed it."""

    UNCONFIRMED = "unconfirmed"
    """It was found on a medium whose journal is not known to be complete."""
    UNKNOWN_RECORD = "unknown-record"
    """The journal says something about it that this program does not understand."""


@dataclass(frozen=True, order=True)
class CopyKey:
    """What names a copy everywhere: the image, the domain that wrote the copy, and its number there."""

    image: ImageId
    domain: DomainId
    number: int


@dataclass(frozen=True)
class Medium:
    """A medium as the catalog knows it.

    ``journal_sequence`` is the last batch signed or read, ``journal_written`` the last that is known to lie on the
    medium. ``lock_mode`` tells how strictly it keeps what is locked, and ``lock_clock_ns`` where its lock clock was
    last, by which locks end; 0 when it has none.
    """

    medium: MediumId
    kind: str
    label: str
    domain: DomainId
    host: bytes | None
    location: str
    journal_sequence: int
    journal_digest: bytes
    journal_incarnation: int
    journal_written: int
    journal_complete: bool
    epoch: int
    closed_epoch: int
    lock_mode: str
    lock_clock_ns: int


@dataclass(frozen=True)
class Copy:
    """A copy as the catalog knows it. Times are nanoseconds since 1970; a lock that ends at 0 never was.

    A lock ends by the lock clock of its medium. ``lock_lifted`` says that an administrator expired it all the same.

    ``slp`` and its version are this copy's, in the domain that wrote it. ``source_copy`` is 0 when the copy was
    not made from another one there. The roots are those that hold for this copy; a tape has none.
    ``journal_named`` is the last batch of ``journal_medium`` that the copy's headers mention.
    """

    id: int
    key: CopyKey
    medium: MediumId
    state: CopyState
    readability: Readability
    written_ns: int | None
    expires_ns: int | None
    hold: bool
    locked_until_ns: int
    lock_lifted: bool
    encrypted: bool
    cipher: int
    slp: str
    slp_version: int
    source_copy: int
    entries_root: PageId | None
    payload_root: PageId | None
    journal_medium: MediumId
    journal_named: int
    came_by: CameBy
    expiry_blocked: ExpiryBlock | None
    tags: tuple[KeyTag, ...] = ()
    unknown_tags: tuple[KeyTag, ...] = ()
    key_pages: tuple[PageId, ...] = ()


@dataclass(frozen=True)
class Image:
    """An image as its origin's header describes it. Times are nanoseconds since 1970, retention is in seconds."""

    image: ImageId
    salt: bytes
    domain: DomainId
    backup_id: str
    client: str
    client_host: bytes
    policy: str
    schedule: str
    kind: str
    started_ns: int
    ended_ns: int
    slp: str
    slp_version: int
    data_class: str
    retention_seconds: int | None
    key_group: KeyGroupId
    cipher: int
    entries_root: bytes | None
    entries_segments: int | None
    entries_bytes: int | None
    payload_root: bytes | None
    payload_segments: int | None
    payload_bytes: int | None
    files: int
    content_bytes: int
    problems: int
    digest: bytes
    header: bytes
    copies: tuple[Copy, ...] = ()
