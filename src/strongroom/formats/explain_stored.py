"""Explainers of what a pool stores: containers, frames, manifest pages and key pages.

Source: ``docs/reference/formats/container.md``, ``frame.md``, ``manifest-page.md``, ``key-page.md``. Work is bounded:
the first items of a container are shown and compared with their ids, and the explanation says how many.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import Final

from strongroom.core.errors import IntegrityError
from strongroom.core.ids import PageId, to_text
from strongroom.formats import container, frame, key_page, manifest_page
from strongroom.formats.algorithms import Cipher, digest
from strongroom.formats.container import Content, Header
from strongroom.formats.explanation import (
    Explainer,
    Explanation,
    Knowledge,
    Rest,
    Shown,
    Source,
    show_bytes,
    show_moment,
)
from strongroom.formats.manifest_page import Leaf

MAX_SHOWN: Final = 64
"""So many rows of a table are shown."""
MAX_COMPARED_BYTES: Final = 64 << 20
"""So many bytes of items in a container are compared with their ids, or looked for in one that is not sealed."""

_TAIL_NAME: Final = container.TAIL_MAGIC[:5]


def _container(source: Source, knowledge: Knowledge) -> Explanation:
    """Explain a container: by its footer, or, when it was never sealed, by its items."""
    header = container.decode_header(source.read(0, container.HEADER_BYTES))
    fields: dict[str, Shown] = {
        "container": to_text(header.container),
        "medium": to_text(header.medium),
        "origin": to_text(header.origin),
        "created": show_moment(header.created_ns),
        "content": header.content.name.lower(),
    }
    end = source.read(max(0, source.size - container.TAIL_BYTES), container.TAIL_BYTES)
    is_sealed = end[-len(container.TAIL_MAGIC) :].startswith(_TAIL_NAME)
    try:
        found = _sealed(source, end) if is_sealed else _unsealed(source, header, knowledge)
    except IntegrityError as error:
        found = Explanation("container", "", 0, problems=(error.message,))
    what = f"container of {fields['content']}" + ("" if is_sealed else ", not sealed")
    return replace(
        found,
        what=what,
        magic=container.HEADER_MAGIC.decode(),
        length=source.size,
        fields=fields | {"sealed": is_sealed} | dict(found.fields),
    )


def _sealed(source: Source, end: bytes) -> Explanation:
    tail = container.decode_tail(end, source.size)
    data = source.read(tail.footer_offset, tail.footer_length)
    footer = container.decode_footer(source.read(0, container.HEADER_BYTES), data, tail)
    compared, problems = 0, list[str]()
    keys: set[bytes] = set()
    shown: list[Shown] = []
    segments = footer.segments()
    following = (item.first_segment for item in islice(footer.items(), 1, None))
    for number, item in enumerate(footer.items()):
        count = next(following, footer.segment_count) - item.first_segment
        segment_bytes = sum(length for _, length in islice(segments, count))
        if item.data_key != frame.NO_KEY:
            keys.add(item.data_key)
        if item.offset + item.length <= MAX_COMPARED_BYTES:
            compared += 1
            if digest(source.read(item.offset, item.length)) != item.id:
                problems.append(f"the item at {item.offset} has another digest than its id")
        if number < MAX_SHOWN:
            row: dict[str, Shown] = {"id": item.id.hex(), "offset": item.offset, "length": item.length}
            if count:
                row |= {"segments": count, "bytes of segments": segment_bytes, "data key": show_bytes(item.data_key)}
            shown.append(row)
    fields: dict[str, Shown] = {
        "mark": "zero" if tail.mark == container.NO_MARK else "present",
        "items": len(footer),
        "bytes of items": tail.footer_offset - container.HEADER_BYTES,
        "segments": footer.segment_count,
        "bytes of segments": sum(length for _, length in footer.segments()),
        "data keys": len(keys),
        "footer": {"offset": tail.footer_offset, "length": tail.footer_length},
        "items compared with their ids": compared,
        **_rows("item", shown, len(footer)),
    }
    return Explanation("container", "", source.size, fields, problems=tuple(problems[:MAX_SHOWN]))


def _unsealed(source: Source, header: Header, knowledge: Knowledge) -> Explanation:
    """Look for items from the front; each must be as its own head says."""
    limit = min(source.size, MAX_COMPARED_BYTES)
    items, end, problems = 0, container.HEADER_BYTES, list[str]()
    parts: list[Explanation] = []
    scanned = container.scan(lambda offset, length: source.read(offset, max(0, min(length, limit - offset))))
    for offset, data in scanned:
        items, end = items + 1, offset + len(data)
        item = _one_item(Rest(source, offset), header, knowledge)
        problems += [f"at {offset}: {problem}" for problem in item.problems]
        if len(parts) < MAX_SHOWN:
            parts.append(item)
    fields: dict[str, Shown] = {"items found": items, "bytes of items": end - container.HEADER_BYTES}
    if end < limit == source.size:
        problems.append(f"{source.size - end} bytes from {end} on are no whole item")
    elif end < source.size:
        fields["bytes not looked at"] = source.size - end
    return Explanation("container", "", source.size, fields, problems=tuple(problems[:MAX_SHOWN]), parts=tuple(parts))


def _one_item(rest: Rest, header: Header, knowledge: Knowledge) -> Explanation:
    name = rest.read(0, 4)
    is_frame = name == frame.MAGIC
    if is_frame != (header.content is Content.FRAMES):
        return Explanation("item", "", 0, problems=("an item of the other kind of container",))
    try:
        return STORED[name[:3]](rest, knowledge)
    except IntegrityError as error:
        return Explanation("item", name.decode("ascii", "backslashreplace"), 0, problems=(error.message,))


def _frame(source: Source, knowledge: Knowledge) -> Explanation:
    del knowledge  # a frame is not signed: its id is its digest
    data = source.read(0, frame.stored_length_at(source.read(0, frame.FIXED_BYTES)))
    frame_id = frame.frame_id(data)
    head = frame.check(data, frame_id)
    problems: tuple[str, ...] = ()
    if head.cipher is Cipher.NONE:
        try:
            frame.open_body(data, head, None)
        except IntegrityError as error:
            problems = (error.message,)
    shown: list[Shown] = [{"name": name.hex(), "length": length} for name, length in islice(head.segments, MAX_SHOWN)]
    fields: dict[str, Shown] = {
        "(frame id)": frame_id.hex(),
        "cipher": int(head.cipher),
        "compression": int(head.compression),
        "segments": len(head.segments),
        "bytes of segments": head.plain_bytes,
        "bytes of body": head.body_bytes,
        "data key": show_bytes(head.data_key),
        "nonce": show_bytes(head.nonce),
        **_rows("segment", shown, len(head.segments)),
    }
    return Explanation("frame", frame.MAGIC.decode(), len(data), fields, problems=problems)


def _manifest_page(source: Source, knowledge: Knowledge) -> Explanation:
    del knowledge  # a page is not signed by itself: an image header names the root
    data = source.read(0, manifest_page.length_at(source.read(0, manifest_page.FIXED_BYTES)))
    page_id = manifest_page.page_id(data)
    page = manifest_page.decode(data, page_id)
    fields: dict[str, Shown] = {
        "(page id)": page_id.hex(),
        "level": page.level,
        "references": page.reference_count,
        "bytes of segments": page.byte_count,
    }
    if isinstance(page, Leaf):
        rows: list[Shown] = [
            {
                "frame": row.frame.hex(),
                "data key": show_bytes(row.data_key),
                "length": row.stored_bytes,
                "bytes of segments": row.plain_bytes,
            }
            for row in islice(page.frames, MAX_SHOWN)
        ]
        fields |= {"frames": len(page.frames), **_rows("frame", rows, len(page.frames))}
    else:
        rows = [
            {"page": row.page.hex(), "references": row.references, "bytes of segments": row.bytes}
            for row in islice(page.children, MAX_SHOWN)
        ]
        fields |= {"children": len(page.children), **_rows("child", rows, len(page.children))}
    return Explanation("manifest page", manifest_page.MAGIC.decode(), len(data), fields)


def _key_page(source: Source, knowledge: Knowledge) -> Explanation:
    del knowledge  # a key page is not signed by itself: a copy header names it
    data = source.read(0, key_page.length_at(source.read(0, key_page.FIXED_BYTES)))
    page_id = PageId(digest(data))
    envelopes = key_page.decode(data, page_id)
    shown: list[Shown] = [to_text(envelope) for envelope in envelopes[:MAX_SHOWN]]
    fields: dict[str, Shown] = {
        "(page id)": page_id.hex(),
        "envelopes": len(envelopes),
        **_rows("envelope", shown, len(envelopes)),
    }
    return Explanation("key page", key_page.MAGIC.decode(), len(data), fields)


def _rows(name: str, shown: list[Shown], count: int) -> dict[str, Shown]:
    """Show the first rows of a table, and say so when there are more."""
    title = f"each {name}" if count <= len(shown) else f"each {name}, the first {len(shown)}"
    return {title: shown} if shown else {}


STORED: Final[dict[bytes, Explainer]] = {
    container.HEADER_MAGIC[:6]: _container,
    frame.MAGIC[:3]: _frame,
    manifest_page.MAGIC[:3]: _manifest_page,
    key_page.MAGIC[:3]: _key_page,
}
"""Explainers by name of format."""
