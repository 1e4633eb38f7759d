"""Headers that the primary signs: of a backup's image and copy, and of a copy that came from another domain."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from strongroom.catalog.expiry import expiry_ns
from strongroom.catalog.model import CopyKey, Medium
from strongroom.core.clock import to_ns
from strongroom.core.ids import KeyGroupId, MediumId
from strongroom.formats import fragment, signed
from strongroom.formats.algorithms import Cipher, Digest
from strongroom.formats.copy_header import COPY_HEADER, NO_TRAILER, CheckedCopy, CopyHeader
from strongroom.formats.fragment import Fragment
from strongroom.formats.image_header import FULL, IMAGE_HEADER, ImageHeader, Stream
from strongroom.services import messages
from strongroom.services.primary.opening import Primary


@dataclass(frozen=True)
class BackupFacts:
    """What was decided about a backup when it began."""

    image: bytes
    salt: bytes
    backup_id: str
    client: str
    client_host: bytes
    started_ns: int
    slp: str
    slp_version: int
    data_class: str
    retention_seconds: int | None
    key_group: KeyGroupId
    cipher: int
    copy: int


def sign_backup(primary: Primary, medium: Medium, facts: BackupFacts, stored: messages.CommitBackup) -> Fragment:
    """Sign image header, copy header and trailer of a backup that is stored."""
    now = to_ns(primary.clock.now())
    header = ImageHeader(
        domain=primary.domain,
        image=facts.image,
        salt=facts.salt,
        backup_id=facts.backup_id,
        client=facts.client,
        client_host=facts.client_host,
        policy="",
        schedule="",
        kind=FULL,
        started=facts.started_ns,
        ended=now,
        slp=facts.slp,
        slp_version=facts.slp_version,
        data_class=facts.data_class,
        retention=facts.retention_seconds,
        key_group=facts.key_group,
        cipher=facts.cipher,
        digest=Digest.BLAKE3,
        entries=_stream(stored.entries),
        payload=_stream(stored.payload),
        files=stored.files,
        content=stored.content,
        problems=stored.problems,
        features=(),
    )
    encrypted = facts.cipher != Cipher.NONE
    copy = CopyHeader(
        domain=primary.domain,
        medium=medium.medium,
        image=facts.image,
        copy=facts.copy,
        fragment=1,
        written=now,
        expires=expiry_ns(facts.started_ns, facts.retention_seconds),
        encrypted=encrypted,
        cipher=facts.cipher,
        incarnation=primary.incarnation,
        slp=facts.slp,
        slp_version=facts.slp_version,
        from_copy=0,
        tags=tuple(stored.tags),
        key_pages=tuple(stored.key_pages),
        entries=None,
        payload=None,
        journal=medium.journal_sequence,
        journal_medium=medium.medium,
        previous=NO_TRAILER,
        earlier=(),
        hops=(),
        header=signed.sign(IMAGE_HEADER, header, primary.signer),
        features=(),
    )
    return _finish(primary, copy)


def sign_received(
    primary: Primary,
    medium: Medium,
    sent: CheckedCopy,
    hop: bytes,
    *,
    copy: int,
    slp: str,
    slp_version: int,
    retention: timedelta,
    tags: tuple[bytes, ...],
) -> Fragment:
    """Sign copy header and trailer of an image that came from another domain; its image header stays as it is."""
    now = to_ns(primary.clock.now())
    header = CopyHeader(
        domain=primary.domain,
        medium=medium.medium,
        image=sent.image.payload.image,
        copy=copy,
        fragment=1,
        written=now,
        expires=expiry_ns(now, int(retention.total_seconds())),
        encrypted=sent.copy.payload.encrypted,
        cipher=sent.copy.payload.cipher,
        incarnation=primary.incarnation,
        slp=slp,
        slp_version=slp_version,
        from_copy=0,
        tags=tags,
        key_pages=sent.copy.payload.key_pages,
        entries=sent.copy.payload.entries,
        payload=sent.copy.payload.payload,
        journal=medium.journal_sequence,
        journal_medium=medium.medium,
        previous=NO_TRAILER,
        earlier=(),
        hops=(*sent.copy.payload.hops, hop),
        header=sent.copy.payload.header,
        features=(),
    )
    return _finish(primary, header)


def fragment_to_write(medium: MediumId, key: CopyKey, data: bytes) -> messages.FragmentToWrite:
    """Tell a media server of a fragment that is signed."""
    return messages.FragmentToWrite(medium=medium, image=key.image, copy=key.number, data=data)


def _finish(primary: Primary, copy: CopyHeader) -> Fragment:
    data = fragment.encode(signed.sign(COPY_HEADER, copy, primary.signer), primary.signer)
    return fragment.verify(data, pinned=primary.domain)


def _stream(told: messages.Stream) -> Stream:
    return Stream(root=told.root, segments=told.segments, bytes=told.bytes, chunker=told.chunker)
