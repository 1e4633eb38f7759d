"""The stream *entries*: one record for each file of an image, in the order of a walk.

Source: ``docs/reference/formats/entries.md``. Paths and names are ``bytes``: what the file system has.

A record is read into its struct at once, and the struct written again must give the same bytes; only a record with
elements that this version does not know is compared as plain values. Records that stand together are read and written
together: one call for a thousand of them costs a tenth of a thousand calls.
"""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Iterator
from typing import Annotated, Final, TypeAlias

import msgspec

from strongroom.formats import records
from strongroom.formats.errors import DamagedError, NewerFormatError
from strongroom.formats.records import Count

REGULAR: Final = 1
FOLDER: Final = 2
SYMLINK: Final = 3
HARD_LINK: Final = 4
FIFO: Final = 5
SOCKET: Final = 6
CHARACTER_DEVICE: Final = 7
BLOCK_DEVICE: Final = 8
MORE_EXTENTS: Final = 64
MORE_ATTRIBUTES: Final = 65
END: Final = 127
DEVICES: Final = (CHARACTER_DEVICE, BLOCK_DEVICE)

CHANGED: Final = 1
"""Flag: the file changed while it was read."""
SHRANK: Final = 2
"""Flag: the file became shorter while it was read; ``size`` is what was there."""
EXTENTS_FOLLOW: Final = 4
"""Flag: records of type 64 follow."""
ATTRIBUTES_FOLLOW: Final = 8
"""Flag: records of type 65 follow."""
_PLAIN_FLAGS: Final = CHANGED | SHRANK | EXTENTS_FOLLOW
_KNOWN_FLAGS: Final = CHANGED | SHRANK | EXTENTS_FOLLOW | ATTRIBUTES_FOLLOW

MAX_RECORD_BYTES: Final = 1 << 20
MAX_PATH_BYTES: Final = 65_536
MAX_NAME_BYTES: Final = 256
MAX_EXTENTS: Final = 4_096
MAX_ATTRIBUTES: Final = 1_024
MAX_INLINE_ATTRIBUTE_BYTES: Final = 64 * 1024
"""A writer puts attributes of more bytes into records of type 65, so that a record stays in its bound."""
_ATTRIBUTES_A_RECORD: Final = 512 * 1024

Path = Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_PATH_BYTES)]
FileType = Annotated[int, msgspec.Meta(ge=1, le=8)]
Mode = Annotated[int, msgspec.Meta(ge=0, le=0o7777)]
Target = Annotated[bytes, msgspec.Meta(max_length=MAX_PATH_BYTES)]
OwnerName = Annotated[bytes, msgspec.Meta(max_length=MAX_NAME_BYTES)]
# Up to 2^64-1, which is the most that the encoding can say: file systems have times after 2262.
SignedMoment = Annotated[int, msgspec.Meta(ge=-(1 << 63))]
_AttributeName = Annotated[bytes, msgspec.Meta(min_length=1, max_length=255)]
_AttributeValue = Annotated[bytes, msgspec.Meta(max_length=65_536)]
Attribute: TypeAlias = tuple[_AttributeName, _AttributeValue]
_Attributes = Annotated[list[Attribute], msgspec.Meta(max_length=MAX_ATTRIBUTES)]
_SegmentName = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Extent: TypeAlias = tuple[_SegmentName | None, Count, Count]
"""Segment name or ``None`` for a hole, offset in the segment, length."""
_Extents = Annotated[list[Extent], msgspec.Meta(max_length=MAX_EXTENTS)]

_U32: Final = struct.Struct(">I")
LENGTH_BYTES: Final = _U32.size
"""Before each record stands its length."""
MAX_IDENTITY: Final = (1 << 63) - 1
"""Mask of what a record says of a device or inode number."""
_EARLIEST: Final = -(1 << 63)
_LATEST: Final = (1 << 64) - 1
_ARRAY_16: Final = 0xDC
"""MessagePack: an array, whose count follows in two bytes."""
_IN_BAD_PATHS: Final = (b"//", b"/\0", b"/./", b"/../", b"/.\0", b"/..\0")
_BAD_PATH: Final = re.compile(rb"\0|//|/\.\.?(?:/|\Z)|.(?:/)\Z", re.DOTALL)


class Entry(msgspec.Struct, array_like=True, gc=False):
    """One file: a record of types 1 to 8. Times are nanoseconds since 1970, sizes bytes."""

    type: FileType
    path: Path
    mode: Mode
    uid: Count
    gid: Count
    user: OwnerName
    group: OwnerName
    mtime: SignedMoment
    ctime: SignedMoment
    device: Count
    inode: Count
    size: Count
    target: Target | None = None
    flags: Count = 0
    attributes: _Attributes = []
    extents: _Extents = []
    major: Count = 0
    minor: Count = 0


_ELEMENTS: Final = len(Entry.__struct_fields__)


class MoreExtents(msgspec.Struct, array_like=True, tag=MORE_EXTENTS, gc=False):
    """More extents of the file before it."""

    extents: _Extents


class MoreAttributes(msgspec.Struct, array_like=True, tag=MORE_ATTRIBUTES, gc=False):
    """More extended attributes of the file before it."""

    attributes: _Attributes


class End(msgspec.Struct, array_like=True, tag=END, gc=False, frozen=True):
    """The last record: the number of files, and the sum of their sizes."""

    files: Count
    content: Count


Record: TypeAlias = Entry | MoreExtents | MoreAttributes | End

_OTHERS: Final[dict[int, type[MoreExtents | MoreAttributes | End]]] = {
    MORE_EXTENTS: MoreExtents,
    MORE_ATTRIBUTES: MoreAttributes,
    END: End,
}


def walk_key(path: bytes) -> bytes:
    """Give a key whose bytes order is the order of a walk.

    A zero byte is in no name and sorts before every other, so it orders by parts: ``/a``, ``/a/b``, ``/a-b``.
    """
    return path.replace(b"/", b"\0") if path != b"/" else b""


def identity(number: int) -> int:
    """Give what a record says of a device or inode number: its lowest 63 bits. Some file systems use all 64."""
    return number & MAX_IDENTITY


def moment(nanoseconds: int) -> int:
    """Give what a record says of a time: itself, or the nearest from 1677 to 2554."""
    if _EARLIEST <= nanoseconds <= _LATEST:
        return nanoseconds
    return _EARLIEST if nanoseconds < 0 else _LATEST


def encode(record: Record) -> bytes:
    """Write one record with its length before it.

    Raises:
        ValueError: the record would be longer than its bound; a mistake of the caller.
    """
    body = records.encode(record)
    if len(body) > MAX_RECORD_BYTES:
        raise ValueError(f"an entry would have {len(body)} bytes, more than its bound {MAX_RECORD_BYTES}")
    return _U32.pack(len(body)) + body


def encode_with_attributes(entry: Entry, attributes: list[Attribute]) -> bytes:
    """Write a record and its attributes, in records of type 65 when they are many.

    Args:
        entry: without attributes; its flag 8 is set when such records follow.
        attributes: pairs of name and value; sorted by name here.
    """
    if not attributes:
        return encode(entry)
    attributes.sort()
    length = sum(len(name) + len(value) for name, value in attributes)
    if length <= MAX_INLINE_ATTRIBUTE_BYTES and len(attributes) <= MAX_ATTRIBUTES:
        entry.attributes = attributes
        return encode(entry)
    entry.flags |= ATTRIBUTES_FOLLOW
    return encode(entry) + b"".join(encode(MoreAttributes(part)) for part in _parts(attributes))


def _parts(attributes: list[Attribute]) -> Iterator[list[Attribute]]:
    part: list[Attribute] = []
    length = 0
    for name, value in attributes:
        cost = len(name) + len(value) + 16
        if length + cost > _ATTRIBUTES_A_RECORD or len(part) == MAX_ATTRIBUTES:
            yield part
            part, length = [], 0
        part.append((name, value))
        length += cost
    yield part


def decode(body: bytes) -> Record:
    """Read one record, given without its length.

    Raises:
        DamagedError: not a record of this stream, or against a rule of its page.
        NewerFormatError: a type that this program does not know.
    """
    kind = _type_of(body)
    if kind <= BLOCK_DEVICE:
        return _decode_file(body)
    other = _OTHERS.get(kind)
    if other is None:
        raise NewerFormatError(f"an entry has type {kind}, which this program does not have")
    record = records.decode(body, other, max_bytes=MAX_RECORD_BYTES, what="entry")
    if isinstance(record, MoreAttributes):
        _check_attributes(record.attributes)
    elif isinstance(record, MoreExtents):
        _check_extents(record.extents)
    return record


def decode_files(bodies: list[bytes]) -> list[Entry]:
    """Read records of types 1 to 8 that stand together; the same as :func:`decode` of each, faster.

    Args:
        bodies: each without its length.

    Raises:
        DamagedError, NewerFormatError: as :func:`decode` of the first that is not right.
    """
    found = _decode_plain(bodies)
    return [_decode_file(body) for body in bodies] if found is None else found


def _decode_plain(bodies: list[bytes]) -> list[Entry] | None:
    """Read records of files in one call; ``None`` when one is of another type, or must be looked at by itself."""
    if not bodies or max(map(len, bodies)) > MAX_RECORD_BYTES:
        return None
    found = records.decode_list(bodies, Entry)
    return found if found is not None and _are_plain(found) else None


def _decode_file(body: bytes) -> Entry:
    _check_count(body)
    entry = records.decode(body, Entry, max_bytes=MAX_RECORD_BYTES, what="entry", most=_LATEST)
    _check(entry)
    return entry


def _are_plain(found: list[Entry]) -> bool:
    """Tell whether all pass :func:`_check`; ``False`` may mean no more than that one must be looked at."""
    paths = b"\0".join([entry.path for entry in found]) + b"\0"
    if paths.count(b"\0") != len(found) or paths.count(b"\0/") + 1 != len(found) or paths[:1] != b"/":
        return False
    if any(bad in paths for bad in _IN_BAD_PATHS):
        return False
    for entry in found:
        if entry.target is not None or entry.attributes or entry.flags > _PLAIN_FLAGS or entry.major or entry.minor:
            _check(entry)
        elif entry.type == REGULAR and entry.path != b"/":
            if entry.extents:
                _check_extents(entry.extents)
        elif entry.type != FOLDER or entry.size or entry.extents or entry.flags:
            _check(entry)
    return True


def cut(data: bytes) -> tuple[list[bytes], int]:
    """Cut records apart that each have their length before them.

    Returns:
        The bodies of the whole records, and how many bytes they take with their lengths, :data:`LENGTH_BYTES` each.

    Raises:
        DamagedError: a record claims more than its bound.
    """
    bodies: list[bytes] = []
    length_at = _U32.unpack_from
    at, end = 0, len(data)
    while end - at >= _U32.size:
        (length,) = length_at(data, at)
        if length > MAX_RECORD_BYTES:
            raise DamagedError(f"an entry claims {length} bytes, more than its bound {MAX_RECORD_BYTES}")
        body_at = at + _U32.size
        body_end = body_at + length
        if body_end > end:
            break
        bodies.append(data[body_at:body_end])
        at = body_end
    return bodies, at


def decode_all(bodies: list[bytes]) -> list[Record]:
    """Read records of any types, given without their lengths.

    Raises:
        DamagedError, NewerFormatError: as :func:`decode` of the first that is not right.
    """
    plain = _decode_plain(bodies)
    if plain is not None:
        return [*plain]
    found: list[Record] = []
    for is_file, run in itertools.groupby(bodies, _is_file):
        together = list(run)
        found += decode_files(together) if is_file else map(decode, together)
    return found


def split(data: bytes) -> list[Record]:
    """Read the records of a block that has whole records only.

    Raises:
        DamagedError: the block is cut in a record, or a record is damaged.
    """
    bodies, used = cut(data)
    if used != len(data):
        raise DamagedError("a block of entries ends within a record")
    return decode_all(bodies)


def path_parts(path: bytes) -> list[bytes]:
    """Cut an absolute path into its names; none for the root folder.

    Raises:
        DamagedError: not absolute, or a part that is empty, ``.``, ``..`` or has a zero byte.
    """
    _check_path(path)
    return path[1:].split(b"/") if path != b"/" else []


def shown(path: bytes) -> str:
    """Write a path for a message: quoted, other bytes than text escaped, cut when it is very long."""
    text = path[:200].decode("utf-8", "backslashreplace")
    return repr(text + "…" if len(path) > len(path[:200]) else text)


def _is_file(body: bytes) -> bool:
    """Tell whether a record is of a file; no for what has no type, which :func:`decode` refuses in its turn."""
    try:
        return _type_of(body) <= BLOCK_DEVICE
    except DamagedError:
        return False


def _type_of(body: bytes) -> int:
    """Tell a record's type from its first bytes: an array header, then a small integer."""
    at = 3 if body[:1] == bytes((_ARRAY_16,)) else 1
    if len(body) <= at or (at == 1 and body[0] & 0xF0 != 0x90) or body[at] > END:
        raise DamagedError("an entry is not an array that begins with a type")
    return body[at]


def _check_count(body: bytes) -> None:
    """Refuse a record of a file that lacks elements, which its struct would fill up."""
    count = int.from_bytes(body[1:3], "big") if body[0] == _ARRAY_16 else body[0] & 0x0F
    if count < _ELEMENTS:
        raise DamagedError(f"an entry has {count} elements, fewer than {_ELEMENTS}")


def _check_path(path: bytes) -> None:
    if path[:1] != b"/" or _BAD_PATH.search(path):
        raise DamagedError(f"{shown(path)} is not a plain absolute path")


def _check(entry: Entry) -> None:
    """Refuse what the types of the fields alone allow."""
    if entry.flags > _KNOWN_FLAGS:
        raise NewerFormatError(f"an entry has the flags {entry.flags}, not all of which this program has")
    _check_path(entry.path)
    if entry.path == b"/" and entry.type != FOLDER:
        raise DamagedError("the entry '/' is not a folder")
    if entry.type in (SYMLINK, HARD_LINK):
        if not entry.target or b"\0" in entry.target:
            raise DamagedError(f"the link {shown(entry.path)} has no target")
        if entry.type == HARD_LINK:
            _check_path(entry.target)
            if walk_key(entry.target) >= walk_key(entry.path):
                raise DamagedError(f"the hard link {shown(entry.path)} names a record that does not come before it")
    elif entry.target is not None:
        raise DamagedError(f"the entry {shown(entry.path)} has a target and is not a link")
    if entry.type != REGULAR and (entry.size or entry.extents or entry.flags & EXTENTS_FOLLOW):
        raise DamagedError(f"the entry {shown(entry.path)} has contents and is not a regular file")
    if (entry.major or entry.minor) and entry.type not in DEVICES:
        raise DamagedError(f"the entry {shown(entry.path)} has the number of a device and is none")
    if entry.attributes:
        _check_attributes(entry.attributes)
    if entry.extents:
        _check_extents(entry.extents)


def _check_attributes(attributes: list[Attribute]) -> None:
    last = b""
    for name, _ in attributes:
        if name <= last or b"\0" in name:
            raise DamagedError("extended attributes are not in the order of their names")
        last = name


def _check_extents(extents: list[Extent]) -> None:
    for name, offset, length in extents:
        if length == 0 or (name is None and offset):
            raise DamagedError("an extent is empty, or a hole with an offset")
