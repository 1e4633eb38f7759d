"""What writers that died left behind: containers of received items are sealed as far as they are whole.

Source: ``docs/reference/formats/pool-folder.md``. Frames and pages of another domain were checked when they came, and
each says where it ends, so they need not cross the line again. What this domain was writing itself is of no use: no
manifest names it.
"""

from __future__ import annotations

from typing import NamedTuple

from strongroom.core.ids import ContainerId, DomainId, FrameId, MediumId, PageId
from strongroom.formats import container as format
from strongroom.formats import frame, key_page, manifest_page
from strongroom.formats.errors import DamagedError, NewerFormatError
from strongroom.pool import names
from strongroom.pool.errors import PoolFullError
from strongroom.pool.store import Leftover, Leftovers

_BLOCK_BYTES = 4_096
_LEAST_BYTES = 16
"""Fewer zeros than these at an end of an item may be its own."""


class Salvaged(NamedTuple):
    """A container that was sealed for its dead writer."""

    container: ContainerId
    items: int


def salvage(store: Leftovers, *, medium: MediumId, own: DomainId) -> list[Salvaged]:
    """Seal what was received and is whole, and remove all else that dead writers left.

    Args:
        store: the pool's storage.
        medium: the pool.
        own: the domain that owns it, whose own unfinished containers are removed.

    Raises:
        PoolReadError, PoolWriteError: the storage refused.
    """
    kept = []
    for leftover in store.leftovers():
        found = _whole_items(leftover, medium, own)
        if found is None:
            leftover.remove()
            continue
        container, footer = found
        try:
            leftover.keep(names.container_key(container), footer.offset, footer.finish().data)
        except PoolFullError:
            leftover.remove()  # a full pool must open; what is removed is sent again
        else:
            kept.append(Salvaged(container, footer.items))
    return kept


def _whole_items(
    leftover: Leftover, medium: MediumId, own: DomainId
) -> tuple[ContainerId, format.FooterBuilder] | None:
    """Read a container that was never sealed up to its last whole item; None if there is nothing to keep."""
    raw = leftover.read(0, format.HEADER_BYTES)
    try:
        header = format.decode_header(raw)
    except (DamagedError, NewerFormatError):
        return None
    if header.medium != medium or header.origin == own:
        return None
    footer = format.FooterBuilder(raw)
    try:
        for offset, item in format.scan(leftover.read):
            if _has_hole(offset, item) or not _add(footer, header.content, item):
                break
    except (DamagedError, NewerFormatError):
        pass  # the end of what is whole
    return (header.container, footer) if footer.items else None


def _add(footer: format.FooterBuilder, content: format.Content, item: bytes) -> bool:
    """Note an item, checked as on arrival, if the container has room for it."""
    if content is format.Content.PAGES:
        page = manifest_page.page_id(item)
        _check_page(item, page)
        if not footer.fits(len(item)):
            return False
        footer.add(page, len(item))
        return True
    frame_id = frame.frame_id(item)
    head = frame.check(item, FrameId(frame_id))
    if not footer.fits(len(item), len(head.segments)):
        return False
    footer.add(frame_id, len(item), item[frame.FIXED_BYTES : head.head_bytes], head.data_key)
    return True


def _check_page(item: bytes, page: PageId) -> None:
    if item.startswith(key_page.MAGIC):
        key_page.decode(item, page)
    else:
        manifest_page.decode(item, page)


def _has_hole(offset: int, item: bytes) -> bool:
    """Tell whether a block of the file has no bytes but zeros where the item lies.

    After a power cut a file can have its length and not its contents. A frame's body is encrypted or compressed, so
    that it has no such block of its own; one that has is sent again.
    """
    start = 0
    while start < len(item):
        end = min(len(item), start + _BLOCK_BYTES - (offset + start) % _BLOCK_BYTES)
        if end - start >= _LEAST_BYTES and not item[start:end].strip(b"\0"):
            return True
        start = end
    return False
