"""The sending end of a replication session: offers one image, and serves what the receiver asks for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from strongroom.core.errors import StrongroomError
from strongroom.core.ids import DomainId, EnvelopeId, FrameId, PageId
from strongroom.formats import key_page, manifest_page
from strongroom.formats import replication_messages as messages
from strongroom.formats.copy_header import CheckedCopy
from strongroom.formats.errors import DamagedError
from strongroom.replication import errors
from strongroom.replication.handshake import check_hello, hello
from strongroom.replication.ports import SourcePool

BATCH_BYTES: Final = 4 << 20


@dataclass
class Sent:
    """What one session sent."""

    frames: int = 0
    frame_bytes: int = 0
    pages: int = 0
    page_bytes: int = 0
    envelopes: int = 0


class SenderSession:
    """One image on its way out.

    Args:
        own: the sender's domain.
        peer: home domain in the certificate that the other side showed.
        copy: the sender's copy header, checked.
        hop: the hop that the sender's primary signed for this sending.
        sending: id of this sending, as the hop says.
        credential: id and secret of the storage credential at the target.
        pool: where the image lies.
    """

    def __init__(
        self,
        own: DomainId,
        peer: DomainId,
        copy: CheckedCopy,
        hop: bytes,
        sending: bytes,
        credential: tuple[bytes, bytes],
        pool: SourcePool,
    ) -> None:
        self._own = own
        self._peer = peer
        self._copy = copy
        self._hop = hop
        self._sending = sending
        self._credential = credential
        self._pool = pool
        self._pages = _AllowedPages(copy, pool)
        self._greeted = False
        self._accepted = False
        self.sent = Sent()
        self.stored = False
        self.receipt: bytes | None = None
        self.failure: StrongroomError | None = None

    @property
    def ended(self) -> bool:
        """Whether the other side has said its last word, but for a receipt."""
        return self.stored or self.failure is not None

    def start(self) -> list[bytes]:
        """Give the first message."""
        return [messages.encode(hello("sender", self._own))]

    def receive(self, data: bytes) -> Iterator[bytes]:
        """Take one message; give the messages that answer it, made one at a time as they are taken.

        An error of ours is told to the other side and kept in :attr:`failure`.
        """
        if self.failure is not None:
            return
        try:
            yield from self._answer(data)
        except StrongroomError as error:
            self.failure = error
            yield messages.encode(errors.to_message(error))

    def _answer(self, data: bytes) -> Iterator[bytes]:
        message, body = errors.decode(data)
        match message:
            case messages.Hello() if not self._greeted:
                check_hello(message, expected_role="receiver", peer=self._peer)
                self._greeted = True
                yield self._offer()
            case messages.Accept() if self._greeted and not self._accepted:
                self._accepted = True
            case messages.WantEnvelopes(envelopes=wanted) if self._accepted:
                yield from self._send_envelopes(wanted)
            case messages.WantPages(pages=wanted) if self._accepted:
                yield from self._send_pages(wanted)
            case messages.WantFrames(frames=wanted) if self._accepted:
                yield from self._send_frames(wanted)
            case messages.Stored() if self._accepted and not self.stored:
                self.stored = True
            case messages.ReceiptMessage() if self.stored:
                self.receipt = bytes(body)
            case messages.Progress():
                pass  # the receiver's view is for people; our own count is in `sent`
            case messages.Error():
                self.failure = errors.from_message(message, bytes(body))
            case _:
                raise errors.ProtocolError(f"'{type(message).__name__}' does not fit at this point of the session")

    def _offer(self) -> bytes:
        credential, secret = self._credential
        offer = messages.Offer(credential=credential, secret=secret, sending=self._sending)
        return messages.encode(offer, [self._hop, self._copy.copy.data])

    def _send_envelopes(self, wanted: list[bytes]) -> Iterator[bytes]:
        allowed = self._pages.envelopes()
        origin = self._copy.image.signer
        if not allowed.issuperset(wanted):
            raise errors.ProtocolError("the receiver asks for a key envelope that the image does not need")
        found = (self._pool.read_envelope(EnvelopeId(envelope), origin) for envelope in wanted)
        for batch in _batches(found):
            self.sent.envelopes += len(batch)
            yield messages.encode(messages.Envelopes(lengths=[len(item) for item in batch]), batch)

    def _send_pages(self, wanted: list[bytes]) -> Iterator[bytes]:
        found = (self._pages.read(PageId(page)) for page in wanted)
        for batch in _batches(found):
            self.sent.pages += len(batch)
            self.sent.page_bytes += sum(map(len, batch))
            yield messages.encode(messages.Pages(lengths=[len(item) for item in batch]), batch)

    def _send_frames(self, wanted: list[messages.FramesOfPage]) -> Iterator[bytes]:
        for batch in _batches(self._frames(wanted)):
            self.sent.frames += len(batch)
            self.sent.frame_bytes += sum(map(len, batch))
            yield messages.encode(messages.Frames(lengths=[len(item) for item in batch]), batch)

    def _frames(self, wanted: list[messages.FramesOfPage]) -> Iterator[bytes]:
        for item in wanted:
            leaf = self._pages.leaf(PageId(item.page))
            for index in _indexes(item.map, leaf):
                yield self._pool.read_frame(FrameId(leaf.frames[index].frame))


class _AllowedPages:
    """The pages that this image may disclose: its key pages, its roots, and what lies below them.

    Children become allowed when their parent is read here. A receiver that kept pages of an earlier session may
    name one whose parents it does not ask for; then the whole tree above the leaves is walked once.
    """

    def __init__(self, copy: CheckedCopy, pool: SourcePool) -> None:
        self._pool = pool
        self._key_pages = set(copy.copy.payload.key_pages)
        self._roots = [stream.root for stream in copy.streams]
        self._allowed = {*self._key_pages, *self._roots}
        self._walked = False
        self._envelopes: set[bytes] | None = None

    def read(self, page: PageId) -> bytes:
        """Give a page if the image may disclose it, and allow its children."""
        self._check(page)
        data = self._pool.read_page(page)
        if page not in self._key_pages:
            self._allow_children(manifest_page.decode(data, page))
        return data

    def leaf(self, page: PageId) -> manifest_page.Leaf:
        """Give a leaf page of the image."""
        self._check(page)
        if page in self._key_pages:
            raise errors.ProtocolError("the receiver asks for frames of a key page")
        decoded = manifest_page.decode(self._pool.read_page(page), page)
        if not isinstance(decoded, manifest_page.Leaf):
            raise errors.ProtocolError("the receiver asks for frames of a page that has none")
        return decoded

    def envelopes(self) -> set[bytes]:
        """Tell the envelopes that the key pages name."""
        if self._envelopes is None:
            self._envelopes = set()
            for page in self._key_pages:
                self._envelopes.update(key_page.decode(self._pool.read_page(PageId(page)), PageId(page)))
        return self._envelopes

    def _check(self, page: PageId) -> None:
        if page not in self._allowed and not self._walked:
            self._walk()
        if page not in self._allowed:
            raise errors.ProtocolError(f"the receiver asks for the page '{page.hex()}', which is not of this image")

    def _walk(self) -> None:
        self._walked = True
        pending = list(self._roots)
        while pending:
            page = PageId(pending.pop())
            decoded = manifest_page.decode(self._pool.read_page(page), page)
            if isinstance(decoded, manifest_page.Interior):
                self._allow_children(decoded)
                if decoded.level > 1:
                    pending.extend(child.page for child in decoded.children)

    def _allow_children(self, page: manifest_page.Page) -> None:
        if isinstance(page, manifest_page.Interior):
            self._allowed.update(child.page for child in page.children)


def _indexes(bits: bytes, leaf: manifest_page.Leaf) -> list[int]:
    try:
        return messages.indexes_of(bits, len(leaf.frames))
    except DamagedError as error:
        raise errors.ProtocolError(error.message) from error


def _batches(objects: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Gather objects into messages of about :data:`BATCH_BYTES`, so that many are on the line at once."""
    batch: list[bytes] = []
    size = 0
    for item in objects:
        if batch and size + len(item) > BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += len(item)
    if batch:
        yield batch
