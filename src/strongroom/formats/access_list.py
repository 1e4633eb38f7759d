"""POSIX access lists: from what Linux keeps in an extended attribute to the text that tar has.

Source: ``<linux/posix_acl_xattr.h>`` for the bytes; POSIX.1e draft 17, *ACL long text form*, for the text, with
commas between the entries and numbers for users and groups, whose names mean nothing on another host.
"""

from __future__ import annotations

import struct
from typing import Final

_VERSION: Final = struct.Struct("<I")
_ENTRY: Final = struct.Struct("<HHI")
_NAMED: Final = {2: b"user", 8: b"group"}
_PLAIN: Final = {1: b"user", 4: b"group", 16: b"mask", 32: b"other"}


def to_text(value: bytes) -> bytes | None:
    """Write an access list as text.

    Args:
        value: of ``system.posix_acl_access`` or ``system.posix_acl_default``.

    Returns:
        The text; ``None`` for what is no access list of version 2.
    """
    body = value[_VERSION.size :]
    if value[: _VERSION.size] != _VERSION.pack(2) or not body or len(body) % _ENTRY.size:
        return None
    found: list[bytes] = []
    for tag, permissions, number in _ENTRY.iter_unpack(body):
        if permissions > 7 or (tag not in _NAMED and tag not in _PLAIN):
            return None
        who = b"%b:%d" % (_NAMED[tag], number) if tag in _NAMED else _PLAIN[tag] + b":"
        letters = b"".join(letter if permissions & bit else b"-" for bit, letter in ((4, b"r"), (2, b"w"), (1, b"x")))
        found.append(b"%b:%b" % (who, letters))
    return b",".join(found)
