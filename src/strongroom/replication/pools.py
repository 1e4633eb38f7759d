"""The pools at both ends of a replication session."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from strongroom.core.errors import IntegrityError
from strongroom.core.ids import DataKeyId, DomainId, EnvelopeId, FrameId, KeyGroupId, KeyTag, PageId
from strongroom.formats import frame, key_page, manifest_page
from strongroom.images.errors import EnvelopeMissingError
from strongroom.images.open_pool import OpenPool
from strongroom.pool.errors import PageMissingError
from strongroom.pool.reader import FrameReader
from strongroom.pool.receiver import FrameReceiver
from strongroom.replication.errors import OwnPoolError


class SendingPool:
    """Gives what lies in a pool, of one origin; a :class:`~strongroom.replication.ports.SourcePool`.

    Args:
        pool: the pool.
        origin: the domain that made the image.
    """

    def __init__(self, pool: OpenPool, origin: DomainId) -> None:
        self._envelopes = pool.envelopes
        self._pages = pool.pages(origin)
        self._frames = FrameReader(pool.store, pool.index, origin=origin, key_for=lambda _: None, threads=1)

    def close(self) -> None:
        """Stop reading."""
        self._frames.close()

    def read_page(self, page: PageId) -> bytes:
        """Give a page, verified by its id."""
        return self._pages.page(page)

    def read_frame(self, frame: FrameId) -> bytes:
        """Give the whole stored form of a frame, verified by its id."""
        return self._frames.stored(frame).data

    def read_envelope(self, envelope: EnvelopeId, origin: DomainId) -> bytes:
        """Give the newest generation of an envelope that the origin signed."""
        data = self._envelopes.read_newest(envelope, origin)
        if data is None:
            raise EnvelopeMissingError(f"the pool has no key envelope '{envelope.hex()}'")
        return data


class ReceivingPool:
    """Takes an image of one origin into a pool; a :class:`~strongroom.replication.ports.TargetPool`.

    What is taken and asked for is of the origin that each method is told.

    Args:
        pool: the pool.
    """

    def __init__(self, pool: OpenPool) -> None:
        self._pool = pool
        self._receivers: dict[DomainId, FrameReceiver] = {}

    def lacking_envelopes(self, origin: DomainId, envelopes: Collection[EnvelopeId]) -> list[EnvelopeId]:
        """Tell which of these have no generation here that the origin signed, in the order given."""
        return self._pool.envelopes.lacking(origin, envelopes)

    def put_envelope(self, envelope: bytes) -> None:
        """Make an envelope durable."""
        self._pool.envelopes.put(envelope)

    def envelope_contents(
        self, origin: DomainId, group: KeyGroupId, envelopes: Collection[EnvelopeId]
    ) -> tuple[set[DataKeyId], list[KeyTag]]:
        """Tell the data keys for frames in the envelopes of the group, and the tags that wrap them, ascending."""
        held = self._pool.envelopes
        return held.data_keys(origin, group, envelopes), held.tags(origin, envelopes)

    def find_page(self, origin: DomainId, page: PageId) -> bytes | None:
        """Give a page that is here for this origin, on stable storage, and stays."""
        if self._pool.index.lacking([page], origin):
            return None
        try:
            return self._pool.pages(origin).page(page)
        except PageMissingError:
            return None
        except IntegrityError as error:
            raise OwnPoolError(error.message) from error

    def put_page(self, origin: DomainId, page: bytes) -> None:
        """Take a page; durable at the next :meth:`flush`."""
        if page.startswith(key_page.MAGIC):
            self._receiver(origin).add_key_page(manifest_page.page_id(page), page)
        else:
            self._receiver(origin).add_page(manifest_page.page_id(page), page)

    def lacking_frames(self, origin: DomainId, frames: Sequence[FrameId]) -> set[FrameId]:
        """Tell which of these are not here for this origin."""
        return set(self._receiver(origin).lacking_frames(frames))

    def put_frame(self, origin: DomainId, data: bytes) -> None:
        """Take a frame; durable at the next :meth:`flush`."""
        self._receiver(origin).add_frame(frame.frame_id(data), data)

    def flush(self) -> None:
        """Return when all that was taken is on stable storage and will be found again."""
        for receiver in self._receivers.values():
            receiver.flush()

    def abort(self) -> None:
        """Drop what is not on stable storage."""
        for receiver in self._receivers.values():
            receiver.abort()

    def _receiver(self, origin: DomainId) -> FrameReceiver:
        receiver = self._receivers.get(origin)
        if receiver is None:
            pool = self._pool
            receiver = self._receivers[origin] = FrameReceiver(
                pool.store, pool.index, medium=pool.medium, origin=origin, clock=pool.clock, entropy=pool.entropy
            )
        return receiver
