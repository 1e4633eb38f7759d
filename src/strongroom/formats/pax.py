"""Headers of a POSIX pax tar stream, from entries.

Source: POSIX.1-2017, ``pax``, *pax Interchange Format*; extended attributes as ``SCHILY.xattr.NAME``, the way GNU tar
and libarchive have them. Names are bytes: what fits into the plain header stands there as it is, and no reader converts
it. A longer one goes into an extended header, whose text is UTF-8 unless ``hdrcharset=BINARY`` says otherwise; GNU tar
1.34 warns that it does not know that word and restores the very bytes, libarchive obeys it.
"""

from __future__ import annotations

import tarfile
from typing import Final

from strongroom.formats import access_list, entries
from strongroom.formats.entries import Entry

BLOCK_BYTES: Final = 512
RECORD_BYTES: Final = 10_240
"""A tar stream is filled up with zeros to a multiple of this."""
_MAX_NAME: Final = 100
_MAX_OWNER: Final = 32
_MAX_OCTAL_7: Final = 0o7777777
_MAX_OCTAL_11: Final = 0o77777777777
_ACCESS_LISTS: Final = {
    b"system.posix_acl_access": b"SCHILY.acl.access",
    b"system.posix_acl_default": b"SCHILY.acl.default",
}
_TYPES: Final = {
    entries.REGULAR: tarfile.REGTYPE,
    entries.FOLDER: tarfile.DIRTYPE,
    entries.SYMLINK: tarfile.SYMTYPE,
    entries.HARD_LINK: tarfile.LNKTYPE,
    entries.FIFO: tarfile.FIFOTYPE,
    entries.CHARACTER_DEVICE: tarfile.CHRTYPE,
    entries.BLOCK_DEVICE: tarfile.BLKTYPE,
}


def padding(size: int) -> int:
    """Tell how many zero bytes follow contents of this size."""
    return -size % BLOCK_BYTES


def header(entry: Entry) -> bytes:
    """Write what stands before a file's contents: an extended header where one is needed, and the plain one.

    The path loses its leading slash; a folder gets one behind.

    Raises:
        ValueError: a socket, which a tar cannot hold; a mistake of the caller.
    """
    kind = _TYPES.get(entry.type)
    if kind is None:
        raise ValueError(f"there is no tar member for an entry of type {entry.type}")
    name = entry.path[1:] or b"."
    if entry.type == entries.FOLDER:
        name += b"/"
    target = entry.target or b""
    if entry.type == entries.HARD_LINK:
        target = target[1:]
    return _joined(_extended(entry, name, target, entry.size), _plain(entry, kind, name, target, entry.size))


def sparse_header(entry: Entry, holes: list[tuple[int, int]]) -> tuple[bytes, int]:
    """Write what stands before the data of a regular file whose holes are left out: headers, and the map of the data.

    Args:
        entry: of the file.
        holes: offset and length of each, ascending, none touching the next; at least one.

    Returns:
        The bytes, and how many bytes of data follow.

    Source: GNU tar manual, *Storing Sparse Files*, *PAX Format, Version 1.0*; read by GNU tar since 1.16, libarchive
    and Python.
    """
    ends = [0, *(offset + length for offset, length in holes)]
    begins = [*(offset for offset, _ in holes), entry.size]
    # a file that ends in a hole ends with a piece of no length, as GNU tar writes it
    pieces = [(at, end - at) for at, end in zip(ends, begins, strict=True) if end > at or at == entry.size]
    text = b"%d\n" % len(pieces) + b"".join(b"%d\n%d\n" % piece for piece in pieces)
    text += bytes(padding(len(text)))
    data = sum(length for _, length in pieces)
    name = entry.path[1:]
    folder, slash, base = name.rpartition(b"/")
    other_name = folder + slash + b"GNUSparseFile.0/" + base  # where a program puts it that knows no sparse files
    extended = _extended(entry, other_name, b"", len(text) + data, more_names=(name,))
    about = (
        _record(b"GNU.sparse.major", b"1")
        + _record(b"GNU.sparse.minor", b"0")
        + _record(b"GNU.sparse.name", name)
        + _record(b"GNU.sparse.realsize", b"%d" % entry.size)
    )
    plain = _plain(entry, tarfile.REGTYPE, other_name, b"", len(text) + data)
    return _joined(extended + about, plain) + text, data


def _joined(extended: bytes, plain: bytes) -> bytes:
    if not extended:
        return plain
    about = tarfile.TarInfo("././@PaxHeader")
    about.type = tarfile.XHDTYPE
    about.size = len(extended)
    front = about.tobuf(tarfile.USTAR_FORMAT)
    return front + extended + bytes(padding(len(extended))) + plain


def trailer(length: int) -> bytes:
    """Write the end of a stream that has ``length`` bytes so far."""
    end = 2 * BLOCK_BYTES
    return bytes(end + -(length + end) % RECORD_BYTES)


def _plain(entry: Entry, kind: bytes, name: bytes, target: bytes, size: int) -> bytes:
    """Write the plain header; what does not fit is cut, because the extended header has it."""
    info = tarfile.TarInfo(_text(name if len(name) <= _MAX_NAME else name[: _MAX_NAME - 1].rstrip(b"/")))
    info.type = kind
    info.linkname = _text(target[:_MAX_NAME])
    info.mode = entry.mode
    info.uid = entry.uid if entry.uid <= _MAX_OCTAL_7 else 0
    info.gid = entry.gid if entry.gid <= _MAX_OCTAL_7 else 0
    info.uname = _text(entry.user[:_MAX_OWNER])
    info.gname = _text(entry.group[:_MAX_OWNER])
    info.size = size if size <= _MAX_OCTAL_11 else 0
    seconds = entry.mtime // 1_000_000_000
    info.mtime = seconds if 0 <= seconds <= _MAX_OCTAL_11 else 0
    info.devmajor = entry.major if entry.major <= _MAX_OCTAL_7 else 0
    info.devminor = entry.minor if entry.minor <= _MAX_OCTAL_7 else 0
    return info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "surrogateescape")


def _extended(entry: Entry, name: bytes, target: bytes, size: int, more_names: tuple[bytes, ...] = ()) -> bytes:
    found: list[bytes] = []
    if len(name) > _MAX_NAME:
        found.append(_record(b"path", name))
    if len(target) > _MAX_NAME:
        found.append(_record(b"linkpath", target))
    written = [text for text in (name, target) if len(text) > _MAX_NAME]
    if not all(map(_is_utf8, (*written, *more_names))):
        found.insert(0, _record(b"hdrcharset", b"BINARY"))
    if size > _MAX_OCTAL_11:
        found.append(_record(b"size", b"%d" % size))
    if entry.uid > _MAX_OCTAL_7:
        found.append(_record(b"uid", b"%d" % entry.uid))
    if entry.gid > _MAX_OCTAL_7:
        found.append(_record(b"gid", b"%d" % entry.gid))
    if len(entry.user) >= _MAX_OWNER:
        found.append(_record(b"uname", entry.user))
    if len(entry.group) >= _MAX_OWNER:
        found.append(_record(b"gname", entry.group))
    seconds, rest = divmod(entry.mtime, 1_000_000_000)
    if rest or not 0 <= seconds <= _MAX_OCTAL_11:
        found.append(_record(b"mtime", _decimal(entry.mtime)))
    if entry.major > _MAX_OCTAL_7:
        found.append(_record(b"SCHILY.devmajor", b"%d" % entry.major))
    if entry.minor > _MAX_OCTAL_7:
        found.append(_record(b"SCHILY.devminor", b"%d" % entry.minor))
    for key, value in entry.attributes:
        # `tar --acls` reads the text, `tar --xattrs-include='*'` the attribute below.
        text = access_list.to_text(value) if key in _ACCESS_LISTS else None
        if text is not None:
            found.append(_record(_ACCESS_LISTS[key], text))
        # A sign of equality ends the keyword, so GNU tar writes it as a percent sequence.
        keyword = key.replace(b"%", b"%25").replace(b"=", b"%3D")
        found.append(_record(b"SCHILY.xattr." + keyword, value))
    return b"".join(found)


def _record(keyword: bytes, value: bytes) -> bytes:
    """Write one record; the length before it counts its own digits."""
    length = len(keyword) + len(value) + 3
    total = length + len(str(length))
    total = length + len(str(total))
    return b"%d %b=%b\n" % (total, keyword, value)


def _decimal(nanoseconds: int) -> bytes:
    """Write seconds with nine decimals; before 1970 with a sign, as GNU tar reads it."""
    sign = b"-" if nanoseconds < 0 else b""
    return sign + b"%d.%09d" % divmod(abs(nanoseconds), 1_000_000_000)


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
