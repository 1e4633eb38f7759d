"""Copies in a catalog, made the way the product makes them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from strongroom.catalog.copies import (
    begin_copy,
    commit_copy,
    mark_written,
)
from strongroom.catalog.journal import (
    sign_batch,
    unwritten_batches,
)
from strongroom.catalog.media import add_medium
from strongroom.catalog.model import CameBy, CopyKey
from strongroom.core.clock import from_ns
from strongroom.formats.fragment import Fragment
from tests.support.images import NS, ORIGIN, T0, TAG, Domain, fixed, image_id

NOW = from_ns(T0 + 120 * NS)
LATER = from_ns(T0 + 7200 * NS)
SESSION = fixed("session", 16)
KNOWN = frozenset({TAG})


def add_pool(connection: Connection, domain: Domain) -> None:
    add_medium(
        connection, domain.pool, kind="pool", label=f"pool of {domain.name}", domain=domain.id, location="/p", host=None
    )


def begin(connection: Connection, fragment: Fragment, *, session: bytes = SESSION, now: datetime = NOW) -> CopyKey:
    return begin_copy(
        connection,
        image_id(fragment.image),
        session=session,
        domain=ORIGIN.id,
        medium=ORIGIN.pool,
        came_by=CameBy.BACKUP,
        now=now,
        deadline=now + timedelta(minutes=5),
    )


def stored(connection: Connection, name: str = "image", **changes: Any) -> CopyKey:
    """A complete copy of this domain."""
    fragment = ORIGIN.copy(ORIGIN.image(name), **changes)
    key = begin(connection, fragment, session=fixed(name, 16))
    commit_copy(connection, fixed(name, 16), [fragment], now=NOW, known=KNOWN)
    mark_written(connection, key)
    return key


def batches_of(connection: Connection) -> list[bytes]:
    while sign_batch(connection, ORIGIN.pool, incarnation=1, now=NOW, sign=ORIGIN.sign_batch) is not None:
        pass
    return [data for _, data in unwritten_batches(connection, ORIGIN.pool, limit=1_000)]
