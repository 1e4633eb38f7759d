"""The catalog as text, for comparing a rebuilt one with what it was (I5).

The fields are listed in ``docs/reference/catalog.md``. They are those that lie on the media: what is only known here
(leases, row numbers, jobs, which keys are at hand) is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from sqlalchemy import Connection, select

from strongroom.catalog.model import Copy, CopyState
from strongroom.catalog.rows import load_copies
from strongroom.catalog.tables import copies, copy_facts, copy_holds, fragments, images, receipts, sent_hops
from strongroom.core.ids import UUID_BYTES, to_text
from strongroom.formats.algorithms import digest

_IMAGES_AT_ONCE = 200
_ON_MEDIA = (CopyState.COMMITTING, CopyState.INCOMPLETE, CopyState.COMPLETE)


def dump(connection: Connection) -> Iterator[str]:
    """Write the catalog, one JSON object in a line: images with their copies by identity, then the tombstones.

    A few hundred images are in memory at a time, whatever the size of the catalog.
    """
    last = bytes(UUID_BYTES)
    while True:
        found = connection.execute(
            select(images.c.image, images.c.digest)
            .where(images.c.image > last)
            .order_by(images.c.image)
            .limit(_IMAGES_AT_ONCE)
        ).all()
        if not found:
            break
        for row in found:
            held = load_copies(connection, (copies.c.image == row.image) & copies.c.state.in_(_ON_MEDIA))
            if held:
                yield _line(_image(connection, row.image, row.digest, sorted(held, key=lambda copy: copy.key)))
        last = found[-1].image
    gone = select(copy_facts.c.image, copy_facts.c.domain, copy_facts.c.number).where(copy_facts.c.tombstone)
    for tombstone in connection.execute(gone.order_by(*gone.selected_columns)):
        image, domain, number = tombstone
        yield _line({"tombstone": to_text(image), "domain": to_text(domain), "copy": number})


def _image(connection: Connection, image: bytes, header: bytes, held: list[Copy]) -> dict[str, object]:
    sent = connection.execute(
        select(sent_hops.c.object).where(sent_hops.c.image == image).order_by(sent_hops.c.sending)
    ).scalars()
    confirmed = connection.execute(
        select(receipts.c.object).where(receipts.c.image == image).order_by(receipts.c.sending)
    ).scalars()
    return {
        "image": to_text(image),
        "header": header.hex(),
        "copies": [_copy(connection, copy) for copy in held],
        "hops": [digest(bytes(hop)).hex() for hop in sent],
        "receipts": [digest(bytes(receipt)).hex() for receipt in confirmed],
    }


def _copy(connection: Connection, copy: Copy) -> dict[str, object]:
    key = copy.key
    holds = connection.execute(
        select(copy_holds.c.hold)
        .where(copy_holds.c.image == key.image, copy_holds.c.domain == key.domain, copy_holds.c.number == key.number)
        .order_by(copy_holds.c.hold)
    ).scalars()
    parts = connection.execute(
        select(fragments.c.number, fragments.c.medium, fragments.c.header, fragments.c.trailer)
        .where(fragments.c.copy_id == copy.id)
        .order_by(fragments.c.number)
    )
    return {
        "domain": to_text(key.domain),
        "copy": key.number,
        "medium": to_text(copy.medium),
        "complete": copy.state is not CopyState.INCOMPLETE,
        "written_ns": copy.written_ns,
        "expires_ns": copy.expires_ns,
        "holds": [to_text(hold) for hold in holds],
        "locked_until_ns": copy.locked_until_ns,
        "encrypted": copy.encrypted,
        "cipher": copy.cipher,
        "slp": copy.slp,
        "slp_version": copy.slp_version,
        "source_copy": copy.source_copy,
        "tags": [to_text(tag) for tag in copy.tags],
        "key_pages": [to_text(page) for page in copy.key_pages],
        "fragments": [
            {
                "fragment": part.number,
                "medium": to_text(part.medium),
                "header": digest(bytes(part.header)).hex(),
                "trailer": digest(bytes(part.trailer)).hex(),
            }
            for part in parts
        ],
    }


def _line(value: dict[str, object]) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
