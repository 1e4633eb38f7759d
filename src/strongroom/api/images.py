"""How images, copies, hops and receipts are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal

from pydantic import Field
from sqlalchemy import Connection

from strongroom.api.fields import Answer
from strongroom.catalog.model import Copy, CopyState, Image, Readability
from strongroom.catalog.receipts import receipts_of
from strongroom.core.clock import from_ns
from strongroom.core.ids import ImageId, to_text
from strongroom.formats import signed
from strongroom.formats.hop import Hop
from strongroom.formats.receipt import RECEIPT

State = Literal["readable", "not-verified", "waiting-for-key", "incomplete", "expired"]


class HopShown(Answer):
    """One sending between two domains."""

    source: str
    source_name: str | None
    target: str
    target_name: str | None
    at: datetime
    slp: str

    @classmethod
    def of(cls, hop: Hop, names: Mapping[bytes, str]) -> HopShown:
        """Show a hop."""
        return cls(
            source=to_text(hop.domain),
            source_name=names.get(hop.domain),
            target=to_text(hop.to),
            target_name=names.get(hop.to),
            at=from_ns(hop.at),
            slp=hop.slp,
        )


class CopyShown(Answer):
    """An image on one medium. ``hops`` is null where it was not looked up."""

    number: int = Field(serialization_alias="copy")
    domain: str
    medium: str
    pool: str = Field(description="label of the medium")
    state: CopyState
    readability: Readability
    came_by: str
    written: datetime | None
    expires: datetime | None
    hold: bool
    locked_until: datetime | None
    encrypted: bool
    tags: list[str]
    hops: list[HopShown] | None


class ImageShown(Answer):
    """A backup. ``state`` is that of its best copy here."""

    image: str
    backup_id: str
    origin: str
    origin_name: str | None
    client: str
    policy: str
    schedule: str
    kind: str
    slp: str
    slp_version: int
    started: datetime
    ended: datetime
    files: int
    content_bytes: int
    problems: int
    encrypted: bool
    key_tags: list[str]
    state: State
    copies: list[CopyShown]


class ReceiptShown(Answer):
    """The word of another domain that it holds an image; its signature is good, or it is not shown."""

    target: str
    target_name: str | None
    received: datetime
    expires: datetime | None
    state: str
    tags: list[str]
    copy_number: int = Field(serialization_alias="copy")
    medium: str
    slp: str
    verified: Literal[True] = True


def image_shown(
    image: Image,
    names: Mapping[bytes, str],
    media: Mapping[bytes, str],
    hops: Mapping[int, list[HopShown] | None] | None = None,
) -> ImageShown:
    """Show an image.

    Args:
        image: with its copies.
        names: of domains.
        media: labels.
        hops: of copies, by their row.
    """
    return ImageShown(
        image=to_text(image.image),
        backup_id=image.backup_id,
        origin=to_text(image.domain),
        origin_name=names.get(image.domain),
        client=image.client,
        policy=image.policy,
        schedule=image.schedule,
        kind=image.kind,
        slp=image.slp,
        slp_version=image.slp_version,
        started=from_ns(image.started_ns),
        ended=from_ns(image.ended_ns),
        files=image.files,
        content_bytes=image.content_bytes,
        problems=image.problems,
        encrypted=bool(image.cipher),
        key_tags=sorted({tag.hex() for copy in image.copies for tag in copy.tags}),
        state=_state(image.copies),
        copies=[_copy(copy, media, (hops or {}).get(copy.id)) for copy in image.copies],
    )


def receipts_shown(connection: Connection, image: ImageId, names: Mapping[bytes, str]) -> list[ReceiptShown]:
    """Show the receipts for an image.

    Raises:
        DamagedError: one of them is not what its target signed.
    """
    found = []
    for data in receipts_of(connection, image):
        said = signed.verify(RECEIPT, data).payload
        found.append(
            ReceiptShown(
                target=to_text(said.domain),
                target_name=names.get(said.domain),
                received=from_ns(said.received),
                expires=None if said.expires is None else from_ns(said.expires),
                state=said.state,
                tags=[tag.hex() for tag in said.tags],
                copy_number=said.copy,
                medium=to_text(said.medium),
                slp=said.slp,
            )
        )
    return found


def _state(copies: Sequence[Copy]) -> State:
    complete = {copy.readability for copy in copies if copy.state is CopyState.COMPLETE}
    if Readability.READABLE in complete:
        return "readable"
    if Readability.NOT_VERIFIED in complete:
        return "not-verified"
    if complete:
        return "waiting-for-key"
    return "incomplete" if any(copy.state is not CopyState.EXPIRED for copy in copies) else "expired"


def _copy(copy: Copy, media: Mapping[bytes, str], hops: list[HopShown] | None) -> CopyShown:
    return CopyShown(
        number=copy.key.number,
        domain=to_text(copy.key.domain),
        medium=to_text(copy.medium),
        pool=media[copy.medium],
        state=copy.state,
        readability=copy.readability,
        came_by=copy.came_by.value,
        written=None if copy.written_ns is None else from_ns(copy.written_ns),
        expires=None if copy.expires_ns is None else from_ns(copy.expires_ns),
        hold=copy.hold,
        locked_until=from_ns(copy.locked_until_ns) if copy.locked_until_ns else None,
        encrypted=copy.encrypted,
        tags=[tag.hex() for tag in copy.tags],
        hops=hops,
    )
