"""The receiving end of a replication session: asks for what it lacks, and believes nothing that it has not checked."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from strongroom.core.errors import StrongroomError
from strongroom.core.ids import DataKeyId, DomainId, EnvelopeId, FrameId, KeyGroupId, KeyTag, MediumId, PageId
from strongroom.formats import copy_header, frame, hop, key_envelope, key_page, manifest_page, signed
from strongroom.formats import replication_messages as messages
from strongroom.formats.image_header import header_digest
from strongroom.replication import errors
from strongroom.replication.handshake import check_hello, hello
from strongroom.replication.ports import Offered, Receiving, ReceivingAuthority, TargetPool

WINDOW_BYTES: Final = 64 << 20
PAGES_AT_ONCE: Final = 256
LEAVES_AT_ONCE: Final = 64
NO_DATA_KEY: Final = bytes(16)


@dataclass
class Received:
    """What one session brought, and what was here already."""

    frames: int = 0
    frame_bytes: int = 0
    frames_here: int = 0
    pages: int = 0
    envelopes: int = 0


@dataclass(frozen=True)
class _Expected:
    """A page that something already checked names, with what it says of it; a root has no level of its own."""

    page: PageId
    level: int | None
    references: int
    bytes: int


@dataclass
class _Leaf:
    """A leaf page and which of its frames are lacking here."""

    page: PageId
    leaf: manifest_page.Leaf
    lacking: deque[int]


@dataclass
class _Walk:
    """How far the walk of the two trees is.

    Every page is in at most one of the first two, every leaf in at most one of the last two; the walk is over when
    all four are empty.
    """

    pending: list[_Expected] = field(default_factory=list)
    asked: deque[_Expected] = field(default_factory=deque)
    leaves: deque[_Leaf] = field(default_factory=deque)
    awaited: deque[_Leaf] = field(default_factory=deque)
    seen: dict[PageId, _Expected] = field(default_factory=dict)
    frames_asked: dict[FrameId, manifest_page.FrameRow] = field(default_factory=dict)
    bytes_asked: int = 0

    @property
    def over(self) -> bool:
        """Whether everything below the roots is here."""
        return not (self.pending or self.asked or self.leaves or self.awaited)


class ReceiverSession:
    """One image on its way in.

    Args:
        own: the receiver's domain.
        peer: home domain in the certificate that the other side showed.
        open_pool: gives the pool that the primary names for the image.
        authority: the receiver's primary.
    """

    def __init__(
        self,
        own: DomainId,
        peer: DomainId,
        open_pool: Callable[[MediumId], TargetPool],
        authority: ReceivingAuthority,
    ) -> None:
        self._own = own
        self._peer = peer
        self._open_pool = open_pool
        self._authority = authority
        self._on_message: Callable[[messages.AnyMessage, memoryview], list[bytes]] = self._on_hello
        self._walk = _Walk()
        self._keys: set[DataKeyId] = set()
        self._tags: list[KeyTag] = []
        self.received = Received()
        self.receiving: Receiving | None = None
        self.finished = False
        self.failure: StrongroomError | None = None

    @property
    def ended(self) -> bool:
        """Whether there is nothing more to say."""
        return self.finished or self.failure is not None

    def start(self) -> list[bytes]:
        """Give the first message."""
        return [messages.encode(hello("receiver", self._own))]

    def receive(self, data: bytes) -> list[bytes]:
        """Take one message; give the messages that answer it.

        An error of ours is told to the other side and kept in :attr:`failure`; what is durable stays, and is found
        again by the next session.
        """
        if self.ended:
            return []
        try:
            message, body = errors.decode(data)
            if isinstance(message, messages.Error):
                self.failure = errors.from_message(message)
                return []
            if isinstance(message, messages.Progress):
                return []
            return self._on_message(message, body)
        except errors.AlreadyHeldError as error:
            self.failure = error
            return [messages.encode(errors.to_message(error), [error.receipt])]
        except StrongroomError as error:
            self.failure = errors.as_refusal(error)
        return [messages.encode(errors.to_message(self.failure))]

    def _on_hello(self, message: messages.AnyMessage, _body: memoryview) -> list[bytes]:
        if not isinstance(message, messages.Hello):
            raise self._unexpected(message)
        check_hello(message, expected_role="sender", peer=self._peer)
        self._on_message = self._on_offer
        return []

    def _on_offer(self, message: messages.AnyMessage, body: memoryview) -> list[bytes]:
        if not isinstance(message, messages.Offer):
            raise self._unexpected(message)
        data = bytes(body)
        with errors.judging():
            hop_length = signed.length_at(hop.HOP, data)
            sent_hop, copy_data = data[:hop_length], data[hop_length:]
            copy = copy_header.verify(copy_data, pinned=self._peer)
            self._check_hop(sent_hop, message.sending, copy)
        offered = Offered(self._peer, message.credential, message.secret, message.sending, sent_hop, copy)
        self.receiving = self._authority.begin(offered)
        self._pool = self._open_pool(self.receiving.medium)
        self._copy = copy
        self._origin = copy.image.signer
        self._key_pages = deque(PageId(page) for page in copy.copy.payload.key_pages)
        self._envelopes: list[EnvelopeId] = []
        return [messages.encode(messages.Accept(session=self.receiving.session)), *self._next_key_page()]

    def _check_hop(self, data: bytes, sending: bytes, copy: copy_header.CheckedCopy) -> None:
        """The hop must be the sender's own, to us, of this image, behind the hops that the copy came by."""
        image = copy.image.payload
        last = signed.verify(hop.HOP, data, pinned=self._peer).payload
        before = copy.copy.payload.hops
        said = (last.sending, last.to, last.image, last.origin, last.header, last.previous)
        previous = hop.hop_digest(before[-1]) if before else hop.NO_HOP
        if said != (sending, self._own, image.image, copy.image.signer, header_digest(copy.image.data), previous):
            raise errors.BadImageError("the hop is of another sending, another image, or to another domain")
        if len(before) >= hop.MAX_HOPS:
            raise errors.BadImageError(f"the image has come over {hop.MAX_HOPS} domains already")
        # what comes home is not a loop, whatever way it took
        if copy.image.signer != self._own and any(one.payload.domain == self._own for one in copy.hops):
            raise errors.LoopError(f"this domain sent the image '{image.image.hex()}' on its way to the sender")

    # -- key pages and envelopes

    def _next_key_page(self) -> list[bytes]:
        """Read the key pages that are here; ask for the first that is not."""
        while self._key_pages:
            page = self._key_pages[0]
            data = self._pool.find_page(self._origin, page)
            if data is None:
                self._on_message = self._on_key_page
                return [messages.encode(messages.WantPages(pages=[page]))]
            self._take_key_page(data)
        return self._next_envelopes()

    def _on_key_page(self, message: messages.AnyMessage, body: memoryview) -> list[bytes]:
        if not isinstance(message, messages.Pages) or len(message.lengths) != 1:
            raise self._unexpected(message)
        (data,) = errors.cut(body, message.lengths)
        self._take_key_page(data)
        self._pool.put_page(self._origin, data)
        self.received.pages += 1
        return self._next_key_page()

    def _take_key_page(self, data: bytes) -> None:
        with errors.judging():
            ids = key_page.decode(data, self._key_pages.popleft())
        if self._envelopes and ids[0] <= self._envelopes[-1]:
            raise errors.BadImageError("the key pages do not name ascending envelopes")
        self._envelopes.extend(ids)

    def _next_envelopes(self) -> list[bytes]:
        self._lacking = deque(self._pool.lacking_envelopes(self._origin, self._envelopes))
        self._on_message = self._on_envelopes
        if not self._lacking:
            return self._begin_walk()
        first = list(self._lacking)[: messages.MAX_ENVELOPES_ASKED]
        self._asked_envelopes = len(first)
        return [messages.encode(messages.WantEnvelopes(envelopes=list(first)))]

    def _on_envelopes(self, message: messages.AnyMessage, body: memoryview) -> list[bytes]:
        if not isinstance(message, messages.Envelopes) or len(message.lengths) > self._asked_envelopes:
            raise self._unexpected(message)
        image = self._copy.image.payload
        for data in errors.cut(body, message.lengths):
            with errors.judging():
                payload = signed.verify(key_envelope.KEY_ENVELOPE, data, pinned=self._origin).payload
                if (payload.envelope, payload.origin, payload.group) != (
                    self._lacking.popleft(),
                    self._origin,
                    image.key_group,
                ):
                    raise errors.BadImageError("a key envelope is not one of this image, its origin and its key group")
                self._pool.put_envelope(data)  # compares it with the envelopes that are here
            self.received.envelopes += 1
            self._asked_envelopes -= 1
        if self._asked_envelopes:
            return []
        return self._next_envelopes()

    # -- the two trees

    def _begin_walk(self) -> list[bytes]:
        self._keys, self._tags = self._pool.envelope_contents(
            self._origin, KeyGroupId(self._copy.image.payload.key_group), self._envelopes
        )
        for stream in reversed(self._copy.streams):
            self._walk.pending.append(_Expected(PageId(stream.root), None, stream.segments, stream.bytes))
        self._on_message = self._on_walk
        return self._advance()

    def _on_walk(self, message: messages.AnyMessage, body: memoryview) -> list[bytes]:
        match message:
            case messages.Pages(lengths=lengths):
                for data in errors.cut(body, lengths):
                    self._take_page(data)
            case messages.Frames(lengths=lengths):
                for data in errors.cut(body, lengths):
                    self._take_frame(data)
            case _:
                raise self._unexpected(message)
        return self._advance()

    def _take_page(self, data: bytes) -> None:
        if not self._walk.asked:
            raise errors.ProtocolError("a page came that was not asked for")
        self._examine(data, self._walk.asked.popleft())
        self._pool.put_page(self._origin, data)
        self.received.pages += 1

    def _take_frame(self, data: bytes) -> None:
        if not self._walk.awaited:
            raise errors.ProtocolError("a frame came that was not asked for")
        awaited = self._walk.awaited[0]
        index = awaited.lacking.popleft()
        row = awaited.leaf.frames[index]
        self._check_frame(data, awaited.leaf, index)
        self._pool.put_frame(self._origin, data)
        self.received.frames += 1
        self.received.frame_bytes += len(data)
        self._walk.bytes_asked -= row.stored_bytes
        del self._walk.frames_asked[FrameId(row.frame)]
        if not awaited.lacking:
            self._walk.awaited.popleft()

    def _check_frame(self, data: bytes, leaf: manifest_page.Leaf, index: int) -> None:
        """Compare a frame with all that its leaf page says of it."""
        row = leaf.frames[index]
        with errors.judging():
            head = frame.check(data, FrameId(row.frame))
        if (head.data_key, len(data), head.plain_bytes) != (row.data_key, row.stored_bytes, row.plain_bytes):
            raise errors.BadImageError(f"the frame '{row.frame.hex()}' is not what its page says")
        if head.cipher != self._copy.image.payload.cipher:
            raise errors.BadImageError(f"the frame '{row.frame.hex()}' has another cipher than the image")
        for reference in leaf.references:
            if reference.frame_index == index and (
                reference.position >= len(head.segments)
                or head.segments[reference.position] != (reference.name, reference.length)
            ):
                raise errors.BadImageError(f"a reference does not fit the frame '{row.frame.hex()}'")

    def _advance(self) -> list[bytes]:
        """Go on with the walk as far as the window allows; commit when nothing is left."""
        walk = self._walk
        pages: list[bytes] = []
        frames: list[messages.FramesOfPage] = []
        while walk.bytes_asked < WINDOW_BYTES and len(frames) < LEAVES_AT_ONCE:
            if walk.leaves:
                frames.append(self._ask_for(walk.leaves.popleft()))
                continue
            if not walk.pending or len(walk.asked) >= PAGES_AT_ONCE:
                break
            expected = walk.pending.pop()
            if self._seen_before(expected):
                continue
            data = self._pool.find_page(self._origin, expected.page)
            if data is None:
                walk.asked.append(expected)
                pages.append(expected.page)
            else:
                self._examine(data, expected)
        out = []
        if pages:
            out.append(messages.encode(messages.WantPages(pages=pages)))
        if frames:
            out.append(messages.encode(messages.WantFrames(frames=frames)))
        return out if not walk.over else self._commit()

    def _seen_before(self, expected: _Expected) -> bool:
        """Tell whether the page was looked at already; two words about one page must be the same.

        A page may be the root of both streams, or stand in both, so a root is compared by its sums alone.
        """
        before = self._walk.seen.setdefault(expected.page, expected)
        if before is expected:
            return False
        if (before.references, before.bytes) != (expected.references, expected.bytes):
            raise errors.BadImageError(f"the page '{expected.page.hex()}' is named with different sums")
        if None not in (before.level, expected.level) and before.level != expected.level:
            raise errors.BadImageError(f"the page '{expected.page.hex()}' is named at different levels")
        return True

    def _examine(self, data: bytes, expected: _Expected) -> None:
        """Check a page against what its parent says, and note what is below."""
        with errors.judging():
            page = manifest_page.decode(data, expected.page)
        what = f"page '{expected.page.hex()}'"
        if expected.level not in (None, page.level):
            raise errors.BadImageError(f"the {what} has level {page.level} instead of {expected.level}")
        if (page.reference_count, page.byte_count) != (expected.references, expected.bytes):
            raise errors.BadImageError(f"the {what} has other sums than its parent says")
        if isinstance(page, manifest_page.Interior):
            self._walk.pending.extend(
                _Expected(PageId(child.page), page.level - 1, child.references, child.bytes)
                for child in reversed(page.children)
            )
        else:
            self._examine_leaf(page, expected.page)

    def _examine_leaf(self, leaf: manifest_page.Leaf, page: PageId) -> None:
        if self._copy.image.payload.cipher:
            unknown = {row.data_key for row in leaf.frames} - self._keys
        else:
            unknown = {row.data_key for row in leaf.frames} - {NO_DATA_KEY}
        if unknown:
            raise errors.BadImageError(f"the page '{page.hex()}' needs a data key that no envelope of the image has")
        lacking = self._pool.lacking_frames(self._origin, [FrameId(row.frame) for row in leaf.frames])
        self.received.frames_here += len(leaf.frames) - len(lacking)
        indexes: deque[int] = deque()
        for index, row in enumerate(leaf.frames):
            if row.frame not in lacking:
                continue
            asked = self._walk.frames_asked.setdefault(FrameId(row.frame), row)
            if asked is row:
                indexes.append(index)
            elif asked != row:
                raise errors.BadImageError(f"two pages say different things of the frame '{row.frame.hex()}'")
        if indexes:
            self._walk.leaves.append(_Leaf(page, leaf, indexes))

    def _ask_for(self, leaf: _Leaf) -> messages.FramesOfPage:
        self._walk.awaited.append(leaf)
        self._walk.bytes_asked += sum(leaf.leaf.frames[index].stored_bytes for index in leaf.lacking)
        return messages.FramesOfPage(page=leaf.page, map=messages.bit_map(leaf.lacking, len(leaf.leaf.frames)))

    # -- the end

    def _commit(self) -> list[bytes]:
        receiving = self.receiving
        if receiving is None:
            raise RuntimeError("a walk begins only when the primary has allowed the session")
        self._pool.flush()
        self._authority.commit(receiving, self._tags, self.received.frames, self.received.frame_bytes)
        self.finished = True
        self._on_message = self._on_nothing
        out = [messages.encode(messages.Stored())]
        receipt = self._authority.receipt(receiving)
        if receipt is not None:
            out.append(messages.encode(messages.ReceiptMessage(), [receipt]))
        return out

    def _on_nothing(self, message: messages.AnyMessage, _body: memoryview) -> list[bytes]:
        raise self._unexpected(message)

    def _unexpected(self, message: messages.AnyMessage) -> errors.ProtocolError:
        return errors.ProtocolError(f"'{type(message).__name__}' does not fit at this point of the session")
