"""Collects a pool that nobody serves: what no image needs goes, and the images that are there stay whole.

What an image needs is found out here by going through its pages one by one, not by the product's marking.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from strongroom.core.ids import DomainId, EnvelopeId, PageId
from strongroom.formats import fragment, key_page, manifest_page
from strongroom.formats.copy_header import CheckedCopy
from strongroom.formats.manifest_page import Leaf
from strongroom.images.collect import collect
from strongroom.images.open_pool import OpenPool
from strongroom.pool.collection import Epochs
from strongroom.pool.containers import list_containers, read_contents
from strongroom.pool.incoming import INCOMING
from strongroom.pool.log import OwnLog


def collect_twice(pool: OpenPool, epoch: int, committing: list[bytes]) -> None:
    """Condemn, and remove: two collections, between which no session was open.

    Args:
        pool: served by nobody.
        epoch: of the pool, as its primary has counted.
        committing: what is signed, and perhaps not in the pool yet.
    """
    for now in (epoch + 1, epoch + 2):
        epochs = Epochs(now=now, closed_before=now, young_ns=None)
        collect(pool, epochs=epochs, committing=committing, dry_run=False, check=_tell_nobody, log=OwnLog())


def _tell_nobody(message: str, done: int = 0, total: int = 0) -> None:
    """Hear what a collection is at; nobody waits for it here."""


def unneeded(pool: OpenPool, committing: Iterable[bytes] = ()) -> Iterator[str]:
    """Name containers, key envelopes and unfinished files in a pool that no image in it needs.

    Args:
        pool: what was collected.
        committing: images that may come to be in it.
    """
    copies = [fragment.verify(data, pinned=pool.domain) for data in committing]
    copies += [fragment.verify(pool.fragments.read_raw(name), pinned=pool.domain) for name in pool.fragments.names()]
    items: set[tuple[DomainId, bytes]] = set()
    envelopes: set[tuple[DomainId, EnvelopeId]] = set()
    for copy in copies:
        _need(pool, copy, items, envelopes)
    used: set[tuple[DomainId, bytes]] = set()
    for container in list_containers(pool.store):
        contents = read_contents(pool.store, container, pool.medium)
        origin = contents.header.origin
        held = list(contents.items)
        if not any((origin, bytes(item.id)) in items for item in held):
            yield f"no image needs the container {container.hex()}, and it survives a collection"
        used |= {(origin, bytes(item.data_key)) for item in held}
    for held_envelope in pool.envelopes.for_frames():
        keys = {(held_envelope.origin, bytes(key)) for key in pool.envelopes.data_keys_in(held_envelope)}
        if (held_envelope.origin, held_envelope.envelope) not in envelopes and not keys & used:
            yield f"nothing needs the key envelope {held_envelope.envelope.hex()}, and it survives a collection"
    for path in (pool.store.index_path.parent / INCOMING).iterdir():
        yield f"{path} is of nobody"


def _need(
    pool: OpenPool,
    copy: CheckedCopy,
    items: set[tuple[DomainId, bytes]],
    envelopes: set[tuple[DomainId, EnvelopeId]],
) -> None:
    """Add what an image needs: its pages, its key pages, its frames, its envelopes."""
    origin = copy.image.signer
    reader = pool.pages(origin)
    for raw in copy.copy.payload.key_pages:
        page = PageId(raw)
        items.add((origin, page))
        envelopes |= {(origin, EnvelopeId(one)) for one in key_page.decode(reader.page(page), page)}
    waiting = [PageId(stream.root) for stream in copy.streams]
    while waiting:
        page = waiting.pop()
        if (origin, page) in items:
            continue
        items.add((origin, page))
        found = manifest_page.decode(reader.page(page), page)
        if isinstance(found, Leaf):
            items |= {(origin, row.frame) for row in found.frames}
        else:
            waiting += [PageId(child.page) for child in found.children]
