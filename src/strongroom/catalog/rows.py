"""Between headers and rows: the one place where a signed header becomes columns, and rows become values."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, insert, select

from strongroom.catalog.errors import ConflictError, CopyNotFoundError, HeaderMismatchError, TextError
from strongroom.catalog.model import CameBy, Copy, CopyKey, CopyState, ExpiryBlock, Image, Readability
from strongroom.catalog.tables import copies, copy_key_pages, copy_tags, fragments, images
from strongroom.core.ids import DomainId, ImageId, KeyGroupId, KeyTag, MediumId, PageId, to_text
from strongroom.formats import signed
from strongroom.formats.algorithms import digest
from strongroom.formats.copy_header import COPY_HEADER, CopyHeader
from strongroom.formats.fragment import Fragment
from strongroom.formats.image_header import ImageHeader, Stream, header_digest
from strongroom.formats.signed import Verified

_KEYS_AT_ONCE = 500  # below the number of parameters that any SQLite takes in one statement


def header_values(headers: Sequence[CopyHeader], image: ImageHeader) -> dict[str, object]:
    """Make a copy's columns of the headers of all its fragments that are known, in their order."""
    first = headers[0]
    expiries = [header.expires for header in headers]
    return {
        "medium": first.medium,
        "written_ns": min(header.written for header in headers),
        "expires_ns": None if None in expiries else max(expiry for expiry in expiries if expiry is not None),
        "encrypted": any(header.encrypted for header in headers),
        "cipher": max(header.cipher for header in headers),
        "slp": first.slp,
        "slp_version": first.slp_version,
        "source_copy": first.from_copy,
        "entries_root": _root(first.entries, image.entries),
        "payload_root": _root(first.payload, image.payload),
        "journal_medium": first.journal_medium,
        "journal_named": max(header.journal for header in headers),
    }


def readability_of(headers: Sequence[CopyHeader], known: frozenset[KeyTag] | None) -> Readability:
    """Decide whether a copy can be read, from the tags in its headers and those that the KMS knows."""
    tags = {tag for header in headers for tag in header.tags}
    if not tags:
        return Readability.READABLE
    if known is None:
        return Readability.NOT_VERIFIED
    return Readability.READABLE if tags <= known else Readability.WAITING_FOR_KEY


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
    whole = header_digest(header.data)
    known = connection.execute(select(images.c.digest).where(images.c.image == said.image)).scalar_one_or_none()
    if known is not None:
        if known != whole:
            raise ConflictError(
                f"the image '{to_text(said.image)}' has the header '{known.hex()}' here, and '{whole.hex()}' there"
            )
        return
    check_text(said.backup_id, said.client, said.policy, said.schedule, said.slp, said.data_class)
    connection.execute(
        insert(images).values(
            image=said.image,
            salt=said.salt,
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
            **_stream("entries", said.entries),
            **_stream("payload", said.payload),
            files=said.files,
            content_bytes=said.content,
            problems=said.problems,
            digest=whole,
            header=header.data,
        )
    )


def write_fragment(connection: Connection, copy_id: int, fragment: Fragment) -> bool:
    """Enter one fragment of a copy, or find that it is here with the very same bytes.

    Returns:
        Whether it is new.

    Raises:
        ConflictError: this fragment is known with other bytes, or is not of the attempt that wrote its neighbours.
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
    _check_chain(connection, copy_id, fragment)
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


def write_keys(connection: Connection, copy_id: int, fragment: Fragment, known: frozenset[KeyTag] | None) -> None:
    """Enter the key tags and key pages that a fragment names, beside those of the copy's other fragments."""
    said = fragment.copy.payload
    here = set(connection.execute(select(copy_tags.c.tag).where(copy_tags.c.copy_id == copy_id)).scalars())
    tags = [
        {"copy_id": copy_id, "tag": tag, "known": known is not None and tag in known}
        for tag in said.tags
        if tag not in here
    ]
    if tags:
        connection.execute(insert(copy_tags), tags)
    held = set(connection.execute(select(copy_key_pages.c.page).where(copy_key_pages.c.copy_id == copy_id)).scalars())
    pages = [{"copy_id": copy_id, "page": page} for page in dict.fromkeys(said.key_pages) if page not in held]
    if pages:
        connection.execute(insert(copy_key_pages), pages)


def _check_chain(connection: Connection, copy_id: int, fragment: Fragment) -> None:
    """Refuse a fragment whose neighbour was written by another attempt at the same copy."""
    header = fragment.copy.payload
    rows = connection.execute(
        select(fragments.c.number, fragments.c.header, fragments.c.trailer).where(
            fragments.c.copy_id == copy_id, fragments.c.number.in_([header.fragment - 1, header.fragment + 1])
        )
    )
    for row in rows:
        if row.number < header.fragment:
            named, there = header.previous, bytes(row.trailer)
        else:
            named, there = signed.verify(COPY_HEADER, bytes(row.header)).payload.previous, fragment.trailer.data
        if named != digest(there):
            raise ConflictError(
                f"fragments {row.number} and {header.fragment} of copy {header.copy} of the image "
                f"'{to_text(header.image)}' are of two attempts"
            )


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
    """Look a copy up, with its tags and key pages; ``None`` when the catalog does not have it."""
    found = load_copies(connection, same_copy(key))
    return found[0] if found else None


def get_copy(connection: Connection, key: CopyKey) -> Copy:
    """Look a copy up, with its tags and key pages.

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
    """Give the copies that meet a condition, by their row, with tags and key pages."""
    rows = connection.execute(select(copies).where(where).order_by(copies.c.id).limit(limit)).all()
    ids = [row.id for row in rows]
    tags = _grouped(connection, copy_tags, [copy_tags.c.tag, copy_tags.c.known], ids)
    pages = _grouped(connection, copy_key_pages, [copy_key_pages.c.page], ids)
    return [_copy(row, tags[row.id], pages[row.id]) for row in rows]


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


def _copy(row: Row[Any], tags: list[Row[Any]], pages: list[Row[Any]]) -> Copy:
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
        lock_lifted=row.lock_lifted,
        encrypted=row.encrypted,
        cipher=row.cipher,
        slp=row.slp,
        slp_version=row.slp_version,
        source_copy=row.source_copy,
        entries_root=row.entries_root,
        payload_root=row.payload_root,
        journal_medium=MediumId(row.journal_medium),
        journal_named=row.journal_named,
        came_by=CameBy(row.came_by),
        expiry_blocked=None if row.expiry_blocked is None else ExpiryBlock(row.expiry_blocked),
        tags=tuple(KeyTag(tag.tag) for tag in tags),
        unknown_tags=tuple(KeyTag(tag.tag) for tag in tags if not tag.known),
        key_pages=tuple(PageId(page.page) for page in pages),
    )


def _stream(name: str, stream: Stream | None) -> dict[str, object]:
    if stream is None:
        return {}
    return {f"{name}_root": stream.root, f"{name}_segments": stream.segments, f"{name}_bytes": stream.bytes}


def _root(of_copy: Stream | None, of_image: Stream | None) -> bytes | None:
    stream = of_copy or of_image
    return None if stream is None else stream.root
