"""Images that come from other domains: allowed, committed, imported, confirmed.

media server                primary
receive ──────────────────► may it come? session, copy lease
(storing)
commit-received ──────────► headers signed, kept as committing
(fragment written)
written ──────────────────► the storage has announced the image: an import job
the job reads the headers from the storage, phase one, signs the receipt
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, insert, select, update

from strongroom.catalog.copies import abandon_copy, begin_copy, commit_copy, committing, mark_written, renew_lease
from strongroom.catalog.errors import LeaseLostError
from strongroom.catalog.media import get_medium
from strongroom.catalog.model import CameBy, Copy, CopyKey, CopyState
from strongroom.catalog.rows import find_copy, get_copy
from strongroom.core.clock import to_ns
from strongroom.core.ids import UUID_BYTES, DomainId, HostId, ImageId, MediumId, to_text
from strongroom.database import transact
from strongroom.formats import copy_header, hop, signed
from strongroom.formats.copy_header import CheckedCopy
from strongroom.formats.fragment import Fragment
from strongroom.formats.hop import HOP, Hop
from strongroom.formats.image_header import header_digest
from strongroom.formats.receipt import RECEIPT, Receipt
from strongroom.jobs import NewJob
from strongroom.lifecycle.errors import PolicyNotActiveError, PolicyNotFoundError
from strongroom.lifecycle.policies import StoredPolicy, require_active
from strongroom.lifecycle.policy import Import, retention_here
from strongroom.replication import credentials, errors
from strongroom.replication.tables import receiving_sessions
from strongroom.services import messages
from strongroom.services.primary import pools
from strongroom.services.primary.errors import NotYoursError
from strongroom.services.primary.headers import sign_received
from strongroom.services.primary.image_work import IMPORT
from strongroom.services.primary.opening import Primary
from strongroom.trust import store as trusts
from strongroom.trust.errors import NotActiveError, TrustNotFoundError

LEASE: Final = timedelta(days=7)
"""How long a sender may take for one image; a restart of either end goes on within it."""

SendReceipt = Callable[[Connection, DomainId, bytes], None]


@dataclass(frozen=True)
class _Offer:
    copy: CheckedCopy
    hop: signed.Verified[Hop]


class Receiving:
    """Takes images of other domains.

    Args:
        primary: whose.
        acknowledged: told, in the same transaction, of each image that is imported.
        send_receipt: puts a receipt into the outbox of its sender.
    """

    def __init__(
        self,
        primary: Primary,
        acknowledged: Callable[[Connection, ImageId], None],
        send_receipt: SendReceipt,
    ) -> None:
        self._primary = primary
        self._acknowledged = acknowledged
        self._send_receipt = send_receipt

    def begin(self, host: HostId, said: messages.Receive) -> messages.Receiving:
        """Decide whether an image may come.

        Raises:
            TrustNotActiveError, CredentialRefusedError, ImportPolicyMissingError, LoopError, BadImageError: it may not.
            AlreadyHeldError: it is here; its receipt goes out again.
        """
        offer = self._check_offer(said)

        def deed(connection: Connection) -> messages.Receiving | bytes:
            sender = DomainId(said.sender)
            try:
                trusts.require_active(connection, sender)
            except (TrustNotFoundError, NotActiveError) as error:
                raise errors.TrustNotActiveError(error.message) from error
            now = self._primary.clock.now()
            credential = credentials.check(connection, said.credential, said.secret, sender, now=now)
            medium = pools.require_served(connection, credential.medium, host)
            policy, operation = self._policy(connection, offer.hop.payload.slp, medium.label)
            image = ImageId(offer.copy.image.payload.image)
            if self._held(connection, image):
                self._confirm_again(connection, sender, image, offer)
                return image
            session = self._session(connection, sender, image)
            if session is not None and session.medium == medium.medium:
                renew_lease(connection, session.session, now=now, deadline=now + LEASE)
                connection.execute(
                    update(receiving_sessions)
                    .where(receiving_sessions.c.session == session.session)
                    .values(sending=said.sending, hop=said.hop, copy_header=said.copy_header)
                )
                return messages.Receiving(session=session.session, medium=medium.medium)
            seconds = retention_here(operation, offer.hop.payload.retention)
            return self._open(connection, said, medium.medium, image, policy, seconds)

        outcome = transact(self._primary.engine, deed)
        if isinstance(outcome, bytes):
            raise errors.AlreadyHeldError(f"the image '{to_text(outcome)}' is here already")
        return outcome

    def commit(self, host: HostId, said: messages.CommitReceived) -> messages.FragmentToWrite:
        """Sign the headers of an image that is stored, or give the same fragment again."""

        def deed(connection: Connection) -> messages.FragmentToWrite:
            row = connection.execute(
                select(receiving_sessions).where(receiving_sessions.c.session == said.session)
            ).one_or_none()
            if row is None:
                raise LeaseLostError("the receiving session is not open")
            medium = pools.require_served(connection, MediumId(row.medium), host)
            key = CopyKey(ImageId(row.image), self._primary.domain, row.copy)
            for found, _, data in committing(connection, medium.medium):
                if found == key:
                    return messages.FragmentToWrite(medium=medium.medium, image=key.image, copy=key.number, data=data)
            sent = copy_header.verify(bytes(row.copy_header), pinned=DomainId(row.sender))
            fragment = sign_received(
                self._primary,
                medium,
                sent,
                bytes(row.hop),
                copy=row.copy,
                slp=row.slp,
                slp_version=row.slp_version,
                retention=timedelta(seconds=row.retention_seconds),
                tags=tuple(said.tags),
            )
            commit_copy(connection, row.session, [fragment], now=self._primary.clock.now(), known=None)
            connection.execute(
                update(receiving_sessions)
                .where(receiving_sessions.c.session == row.session)
                .values(frames=said.frames, frame_bytes=said.frame_bytes)
            )
            return messages.FragmentToWrite(
                medium=medium.medium,
                image=key.image,
                copy=key.number,
                data=fragment.copy.data + fragment.trailer.data,
            )

        return transact(self._primary.engine, deed)

    def announced(self, connection: Connection, key: CopyKey, medium: MediumId) -> None:
        """Take it that the storage has an image that came from elsewhere: import it."""
        self._primary.jobs.submit(
            connection,
            NewJob(
                IMPORT,
                subject=to_text(key.image),
                params={"image": to_text(key.image), "copy": key.number, "medium": to_text(medium)},
                unique_key=f"import {key.image.hex()}",
            ),
        )

    def imported(self, connection: Connection, found: Fragment) -> Mapping[str, Any]:
        """Take the headers that the import job read from the storage: the image is complete here, and confirmed."""
        header = found.copy.payload
        key = CopyKey(ImageId(header.image), self._primary.domain, header.copy)
        copy = get_copy(connection, key)
        if copy.state is CopyState.COMMITTING:
            mark_written(connection, key)
        self._acknowledged(connection, key.image)
        (last,) = found.hops[-1:] or (None,)
        if last is None:
            raise NotYoursError("an image without hops did not come from another domain")
        receipt = self._receipt(found, last)
        self._send_receipt(connection, last.signer, receipt)
        connection.execute(
            delete(receiving_sessions).where(
                receiving_sessions.c.image == key.image, receiving_sessions.c.sender == last.signer
            )
        )
        return {"image": to_text(key.image), "from": last.signer.hex(), "tags": [tag.hex() for tag in header.tags]}

    # ------------------------------------------------------------ within

    def _check_offer(self, said: messages.Receive) -> _Offer:
        """Check what is signed, against the sender and against us; the media server did so too, and is not asked."""
        sender = DomainId(said.sender)
        sent = copy_header.verify(said.copy_header, pinned=sender)
        last = signed.verify(HOP, said.hop, pinned=sender)
        if last.payload.to != self._primary.domain or last.payload.sending != said.sending:
            raise errors.BadImageError("the hop is to another domain, or of another sending")
        hops = [*sent.copy.payload.hops, said.hop]
        if any(one.signer == self._primary.domain for one in sent.hops) or sent.image.signer == self._primary.domain:
            raise errors.LoopError("the image came from this domain, or through it")
        hop.verify_chain(hops, sent.image, self._primary.domain)
        return _Offer(sent, last)

    def _policy(self, connection: Connection, name: str, pool: str) -> tuple[StoredPolicy, Import]:
        try:
            policy = require_active(connection, name)
        except (PolicyNotFoundError, PolicyNotActiveError) as error:
            raise errors.ImportPolicyMissingError(f"the import policy '{name}' is not there, or not active") from error
        operation = policy.policy.operations[0]
        if not isinstance(operation, Import):
            raise errors.ImportPolicyMissingError(f"the policy '{name}' does not import")
        if operation.storage != pool:
            raise errors.ImportPolicyMissingError(
                f"the import policy '{name}' imports into '{operation.storage}', and the credential is for '{pool}'"
            )
        return policy, operation

    def _held(self, connection: Connection, image: ImageId) -> bool:
        number = 1
        while (copy := find_copy(connection, CopyKey(image, self._primary.domain, number))) is not None:
            if copy.state is CopyState.COMPLETE and copy.came_by is CameBy.REPLICATION:
                return True
            number += 1
        return False

    def _confirm_again(self, connection: Connection, sender: DomainId, image: ImageId, offer: _Offer) -> None:
        """Sign a receipt for a sending whose image was here before it came."""
        number = 1
        while (copy := find_copy(connection, CopyKey(image, self._primary.domain, number))) is not None:
            if copy.state is CopyState.COMPLETE:
                receipt = self._sign(sender, offer.hop.payload, copy, offer.copy)
                self._send_receipt(connection, sender, receipt)
                return
            number += 1

    def _session(self, connection: Connection, sender: DomainId, image: ImageId) -> Row[Any] | None:
        row = connection.execute(
            select(receiving_sessions).where(receiving_sessions.c.image == image, receiving_sessions.c.sender == sender)
        ).one_or_none()
        if row is None:
            return None
        copy = find_copy(connection, CopyKey(image, self._primary.domain, row.copy))
        if copy is None or copy.state is not CopyState.WRITING:
            if copy is not None and copy.state is CopyState.COMMITTING:
                return row
            connection.execute(delete(receiving_sessions).where(receiving_sessions.c.session == row.session))
            return None
        return row

    def _open(
        self,
        connection: Connection,
        said: messages.Receive,
        medium: MediumId,
        image: ImageId,
        policy: StoredPolicy,
        retention_seconds: int,
    ) -> messages.Receiving:
        now = self._primary.clock.now()
        session = self._primary.entropy.bytes(UUID_BYTES)
        copy = begin_copy(
            connection,
            image,
            session=session,
            domain=self._primary.domain,
            medium=medium,
            came_by=CameBy.REPLICATION,
            now=now,
            deadline=now + LEASE,
        )
        connection.execute(
            insert(receiving_sessions).values(
                session=session,
                image=image,
                sender=said.sender,
                sending=said.sending,
                medium=medium,
                copy=copy.number,
                slp=policy.policy.name,
                slp_version=policy.version,
                retention_seconds=retention_seconds,
                hop=said.hop,
                copy_header=said.copy_header,
                began=now,
                frames=0,
                frame_bytes=0,
            )
        )
        return messages.Receiving(session=session, medium=medium)

    def _receipt(self, found: Fragment, last: signed.Verified[Hop]) -> bytes:
        header = found.copy.payload
        said = last.payload
        return signed.sign(
            RECEIPT,
            Receipt(
                domain=self._primary.domain,
                receipt=self._primary.entropy.bytes(UUID_BYTES),
                source=last.signer,
                sending=said.sending,
                origin=found.image.signer,
                image=header.image,
                header=header_digest(found.image.data),
                medium=header.medium,
                copy=header.copy,
                slp=header.slp,
                received=header.written,
                expires=header.expires,
                state="sealed",
                tags=header.tags,
                features=(),
            ),
            self._primary.signer,
        )

    def _sign(self, sender: DomainId, said: Hop, copy: Copy, sent: CheckedCopy) -> bytes:
        return signed.sign(
            RECEIPT,
            Receipt(
                domain=self._primary.domain,
                receipt=self._primary.entropy.bytes(UUID_BYTES),
                source=sender,
                sending=said.sending,
                origin=sent.image.signer,
                image=said.image,
                header=header_digest(sent.image.data),
                medium=copy.medium,
                copy=copy.key.number,
                slp=copy.slp,
                received=copy.written_ns or to_ns(self._primary.clock.now()),
                expires=copy.expires_ns,
                state="sealed",
                tags=tuple(copy.tags),
                features=(),
            ),
            self._primary.signer,
        )

    def give_up(self, session: bytes) -> None:
        """End a session that will not go on."""

        def deed(connection: Connection) -> None:
            abandon_copy(connection, session)
            connection.execute(delete(receiving_sessions).where(receiving_sessions.c.session == session))

        transact(self._primary.engine, deed)


def is_received(connection: Connection, key: CopyKey) -> bool:
    """Tell whether a copy comes from another domain."""
    copy = find_copy(connection, key)
    return copy is not None and copy.came_by is CameBy.REPLICATION


def medium_of(connection: Connection, key: CopyKey) -> MediumId:
    """Tell where a copy lies."""
    return get_medium(connection, get_copy(connection, key).medium).medium
