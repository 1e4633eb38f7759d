"""Both ends of a replication session joined by memory, over real pools and real signatures."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from strongroom.core.errors import StrongroomError
from strongroom.core.ids import ImageId, KeyTag
from strongroom.formats import hop as hops
from strongroom.formats import signed
from strongroom.formats.copy_header import CheckedCopy
from strongroom.formats.fragment import Fragment
from strongroom.formats.hop import HOP, Hop
from strongroom.formats.image_header import header_digest
from strongroom.replication.pools import ReceivingPool, SendingPool
from strongroom.replication.ports import Offered, Receiving
from strongroom.replication.receiver import ReceiverSession
from strongroom.replication.sender import SenderSession
from tests.support.images import T0, Domain, fixed
from tests.support.vault import Vault

CREDENTIAL = (fixed("credential", 16), fixed("secret"))


def make_hop(sender: Domain, target: Domain, copy: CheckedCopy, **changes: object) -> tuple[bytes, bytes]:
    """Sign a hop; give the id of the sending and the hop."""
    before = copy.copy.payload.hops
    values: dict[str, object] = {
        "domain": sender.id,
        "to": target.id,
        "image": copy.image.payload.image,
        "origin": copy.image.signer,
        "header": header_digest(copy.image.data),
        "sending": fixed(f"{sender.name} to {target.name}", 16),
        "slp": "from-origin",
        "retention": None,
        "at": T0,
        "previous": hops.hop_digest(before[-1]) if before else hops.NO_HOP,
        "features": (),
    }
    hop = Hop(**(values | changes))  # type: ignore[arg-type]
    return hop.sending, signed.sign(HOP, hop, sender.signer)


@dataclass
class Authority:
    """The receiver's primary: takes every image unless it is told to refuse."""

    vault: Vault
    refusal: StrongroomError | None = None
    offers: list[Offered] = field(default_factory=list)
    committed: list[Fragment] = field(default_factory=list)

    def begin(self, offered: Offered) -> Receiving:
        self.offers.append(offered)
        if self.refusal is not None:
            raise self.refusal
        return Receiving(fixed("session", 16), self.vault.medium)

    def commit(self, receiving: Receiving, tags: Sequence[KeyTag], frames: int, frame_bytes: int) -> None:
        assert receiving.medium == self.vault.medium
        offered = self.offers[-1]
        sent = offered.copy.copy.payload
        made = self.vault.domain.copy(
            offered.copy.image,
            tags=tags,
            key_pages=sent.key_pages,
            hops=(*sent.hops, offered.hop) if offered.copy.image.signer != self.vault.id else (),
            medium=self.vault.medium,
            journal_medium=self.vault.medium,
        )
        data = made.copy.data + made.trailer.data
        self.committed.append(self.vault.pool.fragments.write(ImageId(sent.image), 1, data))

    def receipt(self, receiving: Receiving) -> bytes | None:
        hop = signed.verify(HOP, self.offers[-1].hop)
        return self.vault.domain.receipt(hop, medium=receiving.medium).data


class Broken(Exception):
    """The wire was cut."""


@dataclass
class Wire:
    """Carries messages, one at a time, and can change or cut what it carries.

    Attributes:
        cut_after: messages after which nothing more is carried.
        tamper: changes a message of the sender's.
        carried: how many messages went over, in both directions.
    """

    cut_after: int | None = None
    tamper: Callable[[bytes], bytes] = lambda message: message
    receiver_dials: bool = False
    carried: int = 0
    to_sender: deque[bytes] = field(default_factory=deque)

    def run(self, sender: SenderSession, receiver: ReceiverSession) -> None:
        """Carry everything until both are silent."""
        to_receiver: deque[bytes] = deque()
        first = [(to_receiver, sender.start()), (self.to_sender, receiver.start())]
        for queue, messages in reversed(first) if self.receiver_dials else first:
            queue.extend(messages)
        while to_receiver or self.to_sender:
            # both directions move, so that neither end waits until the other has said all
            if self.to_sender:
                for message in sender.receive(self._carry(self.to_sender.popleft())):
                    to_receiver.append(message)
            if to_receiver:
                self.to_sender.extend(receiver.receive(self._carry(self.tamper(to_receiver.popleft()))))

    def _carry(self, message: bytes) -> bytes:
        if self.carried == self.cut_after:
            raise Broken
        self.carried += 1
        return message


@dataclass
class Outcome:
    """What one session did."""

    sender: SenderSession
    receiver: ReceiverSession
    wire: Wire
    broken: bool


def replicate(
    source: Vault,
    image: CheckedCopy,
    target: Vault,
    *,
    authority: Authority | None = None,
    wire: Wire | None = None,
    hop: tuple[bytes, bytes] | None = None,
) -> Outcome:
    """Run one session from pool to pool."""
    wire = wire or Wire()
    sending, hop_data = hop or make_hop(source.domain, target.domain, image)
    outgoing = SendingPool(source.pool, image.image.signer)
    incoming = ReceivingPool(target.pool)
    sender = SenderSession(source.id, target.id, image, hop_data, sending, CREDENTIAL, outgoing)
    receiver = ReceiverSession(target.id, source.id, lambda _: incoming, authority or Authority(target))
    broken = False
    try:
        wire.run(sender, receiver)
    except Broken:
        broken = True
    finally:
        outgoing.close()
        if receiver.failure is None:
            incoming.flush()
        else:
            incoming.abort()
    return Outcome(sender, receiver, wire, broken)
