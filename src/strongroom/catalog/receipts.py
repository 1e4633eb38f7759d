"""What was sent elsewhere, what was promised, and the receipts that keep the promises."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, insert, select, update

from strongroom.catalog.errors import SendingNotFoundError
from strongroom.catalog.tables import copies, promises, receipts, sent_hops
from strongroom.core.ids import DomainId, ImageId, to_text
from strongroom.formats import signed
from strongroom.formats.hop import HOP, Hop
from strongroom.formats.receipt import Receipt, check_answers
from strongroom.formats.signed import Verified


def promise(connection: Connection, copy_id: int, target: DomainId, *, now: datetime) -> None:
    """Promise a copy to another domain: until its receipt is here, the copy does not expire. May be repeated."""
    made = connection.execute(
        select(promises.c.kept).where(promises.c.copy_id == copy_id, promises.c.target == target)
    ).one_or_none()
    if made is None:
        image = connection.execute(select(copies.c.image).where(copies.c.id == copy_id)).scalar_one()
        kept = target in confirmed_targets(connection, ImageId(image))
        connection.execute(insert(promises).values(copy_id=copy_id, target=target, made=now, kept=kept))


def open_promises(connection: Connection, copy_id: int) -> list[DomainId]:
    """Give the domains whose receipts a copy waits for."""
    query = select(promises.c.target).where(promises.c.copy_id == copy_id, promises.c.kept.is_(False))
    return [DomainId(target) for target in connection.execute(query.order_by(promises.c.target)).scalars()]


def confirmed_targets(connection: Connection, image: ImageId) -> frozenset[DomainId]:
    """Give the domains whose receipt for an image is here."""
    query = select(receipts.c.target).where(receipts.c.image == image)
    return frozenset(DomainId(target) for target in connection.execute(query).scalars())


def receipts_of(connection: Connection, image: ImageId) -> list[bytes]:
    """Give the receipts for an image, whole, oldest first."""
    query = select(receipts.c.object).where(receipts.c.image == image)
    found = connection.execute(query.order_by(receipts.c.received_ns, receipts.c.sending))
    return [bytes(receipt) for receipt in found.scalars()]


def find_hop(connection: Connection, sending: bytes) -> bytes | None:
    """Give the hop that was made for a sending, whole; ``None`` when there is none."""
    found = connection.execute(select(sent_hops.c.object).where(sent_hops.c.sending == sending)).scalar()
    return None if found is None else bytes(found)


def keep_hop(connection: Connection, hop: Verified[Hop]) -> bool:
    """Keep a hop of this domain, and tell whether it is new."""
    said = hop.payload
    if find_hop(connection, said.sending) is not None:
        return False
    connection.execute(
        insert(sent_hops).values(sending=said.sending, image=said.image, target=said.to, at_ns=said.at, object=hop.data)
    )
    return True


def keep_receipt(connection: Connection, receipt: Verified[Receipt]) -> bool:
    """Keep a receipt, and the promise that it answers.

    Returns:
        Whether it is the first one for its sending; a second one changes nothing.

    Raises:
        SendingNotFoundError: nothing was sent under the identity that it names.
        ReceiptMismatchError: it does not answer that sending.
    """
    said = receipt.payload
    hop = find_hop(connection, said.sending)
    if hop is None:
        raise SendingNotFoundError(f"nothing was sent as '{to_text(said.sending)}'")
    check_answers(said, signed.verify(HOP, hop).payload)
    known = select(receipts.c.sending).where(receipts.c.sending == said.sending)
    if connection.execute(known).one_or_none() is not None:
        return False
    connection.execute(
        insert(receipts).values(
            sending=said.sending,
            image=said.image,
            target=said.domain,
            receipt=said.receipt,
            medium=said.medium,
            number=said.copy,
            slp=said.slp,
            received_ns=said.received,
            expires_ns=said.expires,
            state=said.state,
            object=receipt.data,
        )
    )
    of_image = select(copies.c.id).where(copies.c.image == said.image)
    connection.execute(
        update(promises).where(promises.c.target == said.domain, promises.c.copy_id.in_(of_image)).values(kept=True)
    )
    return True
