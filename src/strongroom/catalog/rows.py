"""Between headers and rows: the one place where a signed header becomes columns, and rows become values."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, insert, select

from strongroom.catalog.errors import ConflictError, CopyNotFoundError, HeaderMismatchError, TextError
from strongroom.catalog.model import CameBy, Copy, CopyKey, CopyState, ExpiryBlock, Image, Readability
from strongroom.catalog.tables import copies, copy_envelopes, copy_tags, fragments, images
from strongroom.core.ids import DomainId, EnvelopeId, ImageId, KeyGroupId, KeyTag, MediumId, to_text
from strongroom.formats.fragment import Fragment
from strongroom.formats.image_header import ImageHeader, header_digest
from strongroom.formats.signed import Verified

_KEYS_AT_ONCE = 500  # below the number of parameters that any SQLite takes in one statement


def check_text(*texts: str) -> None:
    """Refuse text that PostgreSQL cannot keep, so that both databases take the same headers.

    Raises:
        TextError: a NUL character.
    """
    for text in texts:
        if "\x00" in text:
            raise TextError(f"the text {text!r} holds a NUL character")


def write_image(connection: Connection, header: Verified[ImageHeader]) -> None:
    """Enter an image, or find that it is here with the very same header.

    Raises:
        ConflictError: the image is known with another header.
        TextError: a text of the header cannot be kept.
    """
    said = header.payload
    digest = header_digest(header.data)
    known = connection.execute(select(images.c.digest).where(images.c.image == said.image)).scalar_one_or_none()
    if known is not None:
        if known != digest:
            raise ConflictError(
                f"the image '{to_text(said.image)}' has the header '{known.hex()}' here, and '{digest.hex()}' there"
            )
        return
    check_text(said.backup_id, said.client, said.policy, said.schedule, said.slp, said.data_class)
    connection.execute(
        insert(images).values(
            image=said.image,
            domain=said.domain,
            backup_id=said.backup_id,
            client=said.client,
            client_host=said.client_host,
            policy=said.policy,
            schedule=said.schedule,
            kind=said.kind,
            started_ns=said.started,
            ended_ns=said.ended,
            slp=said.slp,
            slp_version=said.slp_version,
            data_class=said.data_class,
            retention_seconds=said.retention,
            key_group=said.key_group,
            cipher=said.cipher,
            entries_root=said.entries.root,
            entries_segments=said.entries.segments,
            entries_bytes=said.entries.bytes,
            payload_root=said.payload.root,
            payload_segments=said.payload.segments,
            payload_bytes=said.payload.bytes,
            files=said.files,
            content_bytes=said.content,
            problems=said.problems,
            digest=digest,
            header=header.data,
        )
    )


def write_fragment(connection: Connection, copy_id: int, fragment: Fragment) -> bool:
    """Enter one fragment of a copy, or find that it is here with the very same bytes.

    Returns:
        Whether it is new.

    Raises:
        ConflictError: this fragment is known with other bytes.
    """
    header, trailer = fragment.copy.payload, fragment.trailer.payload
    known = connection.execute(
        select(fragments.c.header, fragments.c.trailer).where(
            fragments.c.copy_id == copy_id, fragments.c.number == header.fragment
        )
    ).one_or_none()
    if known is not None:
        if (bytes(known.header), bytes(known.trailer)) != (fragment.copy.data, fragment.trailer.data):
            raise ConflictError(
                f"fragment {header.fragment} of copy {header.copy} of the image '{to_text(header.image)}' "
                "is known with other headers"
            )
        return False
    connection.execute(
        insert(fragments).values(
            copy_id=copy_id,
            number=header.fragment,
            medium=header.medium,
            header=fragment.copy.data,
            trailer=fragment.trailer.data,
            bytes=trailer.bytes,
            digest=trailer.digest,
            files=trailer.files,
            last=trailer.last,
        )
    )
    return True


def write_keys(
    connection: Connection, copy_id: int, fragment: Fragment, known: frozenset[KeyTag] | None
) -> None:
    """Enter the key tags and envelopes that a fragment names, beside those of the copy's other fragments."""
    said = fragment.copy.payload
    here = set(connection.execute(select(copy_tags.c.tag).where(copy_tags.c.copy_id == copy_id)).scalars())
    tags = [
        {"copy_id": copy_id, "tag": tag, "known": known is not None and tag in known}
        for tag in said.tags
        if tag not in here
    ]
    if tags:
        connection.execute(insert(copy_tags), tags)
    held = set(
        connection.execute(
            select(copy_envelopes.c.envelope).where(copy_envelopes.c.copy_id == copy_id)
        ).scalars()
    )
    envelopes = [{"copy_id": copy_id, "envelope": name} for name in said.envelopes if name not in held]
    if envelopes:
        connection.execute(insert(copy_envelopes), envelopes)


def check_neighbours(one: Fragment, other: Fragment) -> None:
    """Check that two fragments are of one copy of one image.

    Raises:
        HeaderMismatchError: they are not.
    """
    if copy_key(one) != copy_key(other) or one.image.data != other.image.data:
        raise HeaderMismatchError(
            f"fragments {one.copy.payload.fragment} and {other.copy.payload.fragment} are not of one copy"
        )


def copy_key(fragment: Fragment) -> CopyKey:
    """Name the copy that a fragment is of."""
    said = fragment.copy.payload
    return CopyKey(ImageId(said.image), DomainId(said.domain), said.copy)


def same_copy(key: CopyKey) -> ColumnElement[bool]:
    """Give the condition that a row of ``copies`` is this copy's."""
    return and_(copies.c.image == key.image, copies.c.domain == key.domain, copies.c.number == key.number)


def find_copy(connection: Connection, key: CopyKey) -> Copy | None:
    """Look a copy up, with its tags and envelopes; ``None`` when the catalog does not have it."""
    found = load_copies(connection, same_copy(key))
    return found[0] if found else None


def get_copy(connection: Connection, key: CopyKey) -> Copy:
    """Look a copy up, with its tags and envelopes.

    Raises:
        CopyNotFoundError: the catalog does not have it.
    """
    found = find_copy(connection, key)
    if found is None:
        raise CopyNotFoundError(f"there is no copy {describe(key)}")
    return found


def describe(key: CopyKey) -> str:
    """Name a copy in a message."""
    return f"{key.number} of the image '{to_text(key.image)}' by '{to_text(key.domain)[:16]}'"


def load_copies(connection: Connection, where: ColumnElement[bool], *, limit: int | None = None) -> list[Copy]:
    """Give the copies that meet a condition, by their row, with tags and envelopes."""
    rows = connection.execute(select(copies).where(where).order_by(copies.c.id).limit(limit)).all()
    ids = [row.id for row in rows]
    tags = _grouped(connection, copy_tags, [copy_tags.c.tag, copy_tags.c.known], ids)
    envelopes = _grouped(connection, copy_envelopes, [copy_envelopes.c.envelope], ids)
    return [_copy(row, tags[row.id], envelopes[row.id]) for row in rows]


def image_of(row: Row[Any], image_copies: Sequence[Copy] = ()) -> Image:
    """Make an image of its row and its copies."""
    values = dict(row._mapping)
    values["header"] = bytes(values["header"])
    values["key_group"] = KeyGroupId(values["key_group"])
    return Image(**values, copies=tuple(image_copies))


def _grouped(
    connection: Connection, table: Any, columns: list[Any], ids: list[int]
) -> defaultdict[int, list[Row[Any]]]:
    grouped: defaultdict[int, list[Row[Any]]] = defaultdict(list)
    for start in range(0, len(ids), _KEYS_AT_ONCE):
        part = ids[start : start + _KEYS_AT_ONCE]
        query = select(table.c.copy_id, *columns).where(table.c.copy_id.in_(part))
        for row in connection.execute(query.order_by(table.c.copy_id, columns[0])):
            grouped[row.copy_id].append(row)
    return grouped


def _copy(row: Row[Any], tags: list[Row[Any]], envelopes: list[Row[Any]]) -> Copy:
    return Copy(
        id=row.id,
        key=CopyKey(ImageId(row.image), DomainId(row.domain), row.number),
        medium=MediumId(row.medium),
        state=CopyState(row.state),
        readability=Readability(row.readability),
        written_ns=row.written_ns,
        expires_ns=row.expires_ns,
        hold=row.hold,
        locked_until_ns=row.locked_until_ns,
        encrypted=row.encrypted,
        cipher=row.cipher,
        source_copy=row.source_copy,
        came_by=CameBy(row.came_by),
        expiry_blocked=None if row.expiry_blocked is None else ExpiryBlock(row.expiry_blocked),
        tags=tuple(KeyTag(tag.tag) for tag in tags),
        unknown_tags=tuple(KeyTag(tag.tag) for tag in tags if not tag.known),
        envelopes=tuple(EnvelopeId(envelope.envelope) for envelope in envelopes),
    )
