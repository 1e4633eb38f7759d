"""What a replication session needs of a pool and of its own primary."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from strongroom.core.ids import DataKeyId, DomainId, EnvelopeId, FrameId, KeyGroupId, KeyTag, MediumId, PageId
from strongroom.formats.copy_header import CheckedCopy


class SourcePool(Protocol):
    """The pool that holds the image at the sender."""

    def read_page(self, page: PageId) -> bytes:
        """Give a page, verified by its id."""

    def read_frame(self, frame: FrameId) -> bytes:
        """Give the whole stored form of a frame."""

    def read_envelope(self, envelope: EnvelopeId, origin: DomainId) -> bytes:
        """Give the newest generation of an envelope that the origin signed."""


class TargetPool(Protocol):
    """The pool that takes the image at the receiver. Presence is told for one origin at a time."""

    def lacking_envelopes(self, origin: DomainId, envelopes: Collection[EnvelopeId]) -> list[EnvelopeId]:
        """Tell which of these have no generation here that the origin signed, in the order given."""

    def put_envelope(self, envelope: bytes) -> None:
        """Make an envelope durable; it was checked, but for what only the pool can compare it with.

        Raises:
            DamagedError: it disagrees with an envelope that is here.
        """

    def envelope_contents(
        self, origin: DomainId, group: KeyGroupId, envelopes: Collection[EnvelopeId]
    ) -> tuple[set[DataKeyId], list[KeyTag]]:
        """Tell the data keys for frames in the envelopes of the group, and the tags that wrap them, ascending."""

    def find_page(self, origin: DomainId, page: PageId) -> bytes | None:
        """Give a page that is here for this origin."""

    def put_page(self, origin: DomainId, page: bytes) -> None:
        """Take a page that was checked; durable at the next :meth:`flush`."""

    def lacking_frames(self, origin: DomainId, frames: Sequence[FrameId]) -> set[FrameId]:
        """Tell which of these are not here for this origin."""

    def put_frame(self, origin: DomainId, frame: bytes) -> None:
        """Take a frame that was checked; durable at the next :meth:`flush`."""

    def flush(self) -> None:
        """Return when all that was taken is on stable storage and will be found again."""


@dataclass(frozen=True)
class Offered:
    """What a sender offers, checked as far as signatures go."""

    sender: DomainId
    credential: bytes
    secret: bytes
    sending: bytes
    hop: bytes
    copy: CheckedCopy


@dataclass(frozen=True)
class Receiving:
    """A session that the receiver's primary allowed.

    Attributes:
        session: its id.
        medium: the pool that takes the image.
    """

    session: bytes
    medium: MediumId


class ReceivingAuthority(Protocol):
    """The receiver's primary, as its media server sees it."""

    def begin(self, offered: Offered) -> Receiving:
        """Decide whether the image may come.

        Raises:
            AlreadyHeldError: it is here, complete.
            StrongroomError: it may not come, and the code is one of the protocol's refusals; or the primary has trouble
                of its own.
        """

    def commit(self, receiving: Receiving, tags: Sequence[KeyTag], frames: int, frame_bytes: int) -> None:
        """Have the own copy header signed, and write it; durable on return.

        Args:
            receiving: the session.
            tags: key tags that wrap the image's data keys.
            frames: how many frames this session brought.
            frame_bytes: their bytes.

        Raises:
            StrongroomError: as :meth:`begin`.
        """

    def receipt(self, receiving: Receiving) -> bytes | None:
        """Give the receipt if the image is imported already."""
