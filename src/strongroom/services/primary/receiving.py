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
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select, update

from strongroom.catalog.copies import (
    abandon_copy,
    begin_copy,
    commit_copy,
    committed_fragment,
    mark_written,
    renew_lease,
    session_epoch,
)
from strongroom.catalog.errors import ConflictError, LeaseLostError, TextError
from strongroom.catalog.images import get_image
from strongroom.catalog.model import CameBy, Copy, CopyKey, CopyState
from strongroom.catalog.rows import find_copy, get_copy, load_copies
from strongroom.catalog.tables import copies
from strongroom.core.clock import to_ns
from strongroom.core.ids import UUID_BYTES, DomainId, HostId, ImageId, MediumId, to_text
from strongroom.database import transact
from strongroom.formats import copy_header, hop, signed
from strongroom.formats.copy_header import CheckedCopy
from strongroom.formats.errors import OutOfBoundsError
from strongroom.formats.fragment import Fragment
from strongroom.formats.hop import HOP, Hop
from strongroom.formats.image_header import ImageHeader, header_digest
from strongroom.formats.receipt import RECEIPT, Receipt
from strongroom.jobs import NewJob
from strongroom.lifecycle.errors import PolicyNotActiveError, PolicyNotFoundError
from strongroom.lifecycle.policies import StoredPolicy, require_active
from strongroom.lifecycle.policy import Import, retention_here
from strongroom.replication import credentials, errors
from strongroom.replication.tables import receiving_sessions
from strongroom.services import messages, sending_messages
from strongroom.services.primary import pools
from strongroom.services.primary.errors import ImageBusyError, NotYoursError
from strongroom.services.primary.headers import fragment_to_write, sign_received
from strongroom.services.primary.image_work import IMPORT
from strongroom.services.primary.opening import Primary
from strongroom.services.primary.pool_log import require_followed
from strongroom.trust import store as trusts
from strongroom.trust.errors import NotActiveError, TrustNotFoundError

LEASE: Final = timedelta(days=7)
"""How long a sender may take for one image; a restart of either end goes on within it."""

_UNDER_WAY: Final = (CopyState.WRITING, CopyState.COMMITTING)

SendReceipt = Callable[[Connection, DomainId, bytes], None]


@dataclass(frozen=True)
class _Offer:
    copy: CheckedCopy
    hop: signed.Verified[Hop]


@dataclass(frozen=True)
class _Session:
    session: bytes
    is_committed: bool


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

    def begin(self, host: HostId, said: sending_messages.Receive) -> sending_messages.Receiving:
        """Decide whether an image may come.

        Raises:
            TrustNotActiveError, CredentialRefusedError, ImportPolicyMissingError, LoopError, BadImageError: it may not.
            ImageBusyError: it is being written into another pool.
            AlreadyHeldError: it is here; its receipt goes out again.
        """
        with errors.judging():
            offer = self._check_offer(said)

        def deed(connection: Connection) -> sending_messages.Receiving | bytes:
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
            held = self._held(connection, image)
            if held is not None:
                self._confirm_again(connection, sender, held, offer)
                return image
            session = self._session(connection, sender, image, medium.medium)
            if session is not None:
                self._go_on(connection, session, said, now)
                return sending_messages.Receiving(session=session.session, medium=medium.medium)
            seconds = retention_here(operation, offer.hop.payload.retention)
            return self._open(connection, said, medium.medium, image, policy, seconds)

        outcome = transact(self._primary.engine, deed)
        if isinstance(outcome, bytes):
            raise errors.AlreadyHeldError(f"the image '{to_text(outcome)}' is here already")
        return outcome

    def commit(self, host: HostId, said: sending_messages.CommitReceived) -> messages.FragmentToWrite:
        """Sign the headers of an image that is stored, or give the same fragment again.

        Raises:
            BadImageError: no copy header of ours can hold what came with the image, the catalog cannot take its header,
                or has another one of this image.
        """

        def deed(connection: Connection) -> messages.FragmentToWrite:
            row = connection.execute(
                select(receiving_sessions).where(receiving_sessions.c.session == said.session)
            ).one_or_none()
            if row is None:
                raise LeaseLostError("the receiving session is not open")
            medium = pools.require_served(connection, MediumId(row.medium), host)
            key = CopyKey(ImageId(row.image), self._primary.domain, row.copy)
            signed_before = committed_fragment(connection, key)
            if signed_before is not None:
                return fragment_to_write(medium.medium, key, signed_before)
            sent = copy_header.verify(bytes(row.copy_header), pinned=DomainId(row.sender))
            try:
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
                require_followed(connection, medium.medium, session_epoch(connection, row.session), said.followed)
                commit_copy(connection, row.session, [fragment], now=self._primary.clock.now(), known=None)
            except (OutOfBoundsError, ConflictError, TextError) as error:
                raise errors.BadImageError(error.message) from error
            connection.execute(
                update(receiving_sessions)
                .where(receiving_sessions.c.session == row.session)
                .values(frames=said.frames, frame_bytes=said.frame_bytes)
            )
            return fragment_to_write(medium.medium, key, fragment.copy.data + fragment.trailer.data)

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
        self._send_receipt(connection, last.signer, self._receipt(copy, last, found.image))
        connection.execute(
            delete(receiving_sessions).where(
                receiving_sessions.c.image == key.image, receiving_sessions.c.sender == last.signer
            )
        )
        return {"image": to_text(key.image), "from": last.signer.hex(), "tags": [tag.hex() for tag in header.tags]}

    # ------------------------------------------------------------ within

    def _check_offer(self, said: sending_messages.Receive) -> _Offer:
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

    def _held(self, connection: Connection, image: ImageId) -> Copy | None:
        """Find a complete copy that came from elsewhere; the numbers before it may be those of copies that are gone."""
        here = (copies.c.image == image) & (copies.c.domain == self._primary.domain)
        complete = (copies.c.state == CopyState.COMPLETE) & (copies.c.came_by == CameBy.REPLICATION)
        found = load_copies(connection, here & complete, limit=1)
        return found[0] if found else None

    def _confirm_again(self, connection: Connection, sender: DomainId, held: Copy, offer: _Offer) -> None:
        """Sign a receipt for a sending whose image was here before it came.

        Raises:
            BadImageError: what is here is another image of the same identity; no receipt says that it was offered.
        """
        if get_image(connection, held.key.image).digest != header_digest(offer.copy.image.data):
            raise errors.BadImageError(f"the image '{to_text(held.key.image)}' is here with another header")
        self._send_receipt(connection, sender, self._receipt(held, offer.hop, offer.copy.image))

    def _session(self, connection: Connection, sender: DomainId, image: ImageId, medium: MediumId) -> _Session | None:
        """Find the session in which a sender can go on; one that cannot go on is given up.

        Raises:
            ImageBusyError: its image is being written into another pool than the credential is for now.
        """
        row = connection.execute(
            select(receiving_sessions).where(receiving_sessions.c.image == image, receiving_sessions.c.sender == sender)
        ).one_or_none()
        if row is None:
            return None
        copy = find_copy(connection, CopyKey(image, self._primary.domain, row.copy))
        is_committed = copy is not None and copy.state is CopyState.COMMITTING
        if is_committed and row.medium != medium:
            raise ImageBusyError(f"the image '{to_text(image)}' is being written into another pool")
        if copy is None or copy.state not in _UNDER_WAY or row.medium != medium:
            abandon_copy(connection, row.session)
            connection.execute(delete(receiving_sessions).where(receiving_sessions.c.session == row.session))
            return None
        return _Session(row.session, is_committed)

    def _go_on(self, connection: Connection, session: _Session, said: sending_messages.Receive, now: datetime) -> None:
        if session.is_committed:
            return  # all of it is here and its headers are signed; commit gives the same fragment again
        renew_lease(connection, session.session, now=now, deadline=now + LEASE)
        connection.execute(
            update(receiving_sessions)
            .where(receiving_sessions.c.session == session.session)
            .values(sending=said.sending, hop=said.hop, copy_header=said.copy_header)
        )

    def _open(
        self,
        connection: Connection,
        said: sending_messages.Receive,
        medium: MediumId,
        image: ImageId,
        policy: StoredPolicy,
        retention_seconds: int,
    ) -> sending_messages.Receiving:
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
        return sending_messages.Receiving(session=session, medium=medium)

    def _receipt(self, copy: Copy, last: signed.Verified[Hop], image: signed.Verified[ImageHeader]) -> bytes:
        """Sign that a copy is here, in answer to the last hop that it came by."""
        return signed.sign(
            RECEIPT,
            Receipt(
                domain=self._primary.domain,
                receipt=self._primary.entropy.bytes(UUID_BYTES),
                source=last.signer,
                sending=last.payload.sending,
                origin=image.signer,
                image=copy.key.image,
                header=header_digest(image.data),
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
