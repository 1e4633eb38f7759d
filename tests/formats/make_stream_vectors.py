"""Write the test vectors of entries and of the image stream: ``python -m tests.formats.make_stream_vectors``.

Deterministic, and written from the pages alone: no code of the product is used. A test compares the files with what
this module gives.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import msgspec

VECTORS = Path(__file__).parent / "stream_vectors"
DAMAGED, NEWER = "format.damaged", "format.newer"
SEGMENT = bytes(range(32))

Case = dict[str, Any]
pack = msgspec.msgpack.encode


def record(*elements: Any) -> bytes:
    body = pack(list(elements))
    return struct.pack(">I", len(body)) + body


def file(path: bytes, size: int = 0, *, kind: int = 1, **changes: Any) -> list[Any]:
    """The elements of a record of types 1 to 8."""
    fields = {
        "type": kind,
        "path": path,
        "mode": 0o644,
        "uid": 1000,
        "gid": 100,
        "user": b"ann",
        "group": b"users",
        "mtime": 1_700_000_000_123_456_789,
        "ctime": 1_700_000_001_000_000_000,
        "device": 2049,
        "inode": 131_077,
        "size": size,
        "target": None,
        "flags": 0,
        "attributes": [],
        "extents": [],
        "major": 0,
        "minor": 0,
    }
    return list((fields | changes).values())


def end(files: int, content: int) -> bytes:
    return record(127, files, content)


def entries_cases() -> list[Case]:
    folder = record(*file(b"/a", kind=2, mode=0o1777))
    stored = file(b"/a/file", 1000, extents=[[SEGMENT, 5, 600], [None, 0, 400]])
    link = record(*file(b"/a/link", kind=3, target=b"../\xff"))
    hard = record(*file(b"/a/other", kind=4, target=b"/a/file"))
    old = record(*file(b"/old", mtime=-1, attributes=[[b"user.a", b""], [b"user.b", b"\0"]]))
    whole = folder + record(*stored) + link + hard + old + end(5, 1000)
    more = (
        record(*file(b"/x", 10, flags=12, attributes=[[b"user.a", b"1"]], extents=[[SEGMENT, 0, 4]]))
        + record(65, [[b"user.b", b"2"]])
        + record(65, [[b"user.c", b"3"]])
        + record(64, [[None, 0, 6]])
        + end(1, 10)
    )

    def one(**changes: Any) -> bytes:
        return record(*file(changes.pop("path", b"/f"), **changes)) + end(1, changes.get("size", 0))

    long_form = pack(file(b"/f")).replace(b"\xcd\x01\xa4", b"\xce\x00\x00\x01\xa4")
    good = {
        "five files": whole,
        "none": end(0, 0),
        "root folder alone": one(path=b"/", kind=2),
        "attributes and extents in records of their own": more,
        "unknown elements are ignored": record(*file(b"/f"), "later", [1, 2]) + end(1, 0),
        "FIFO": one(kind=5),
        "socket": one(kind=6),
        "character device": one(kind=7, major=4095, minor=1_048_575),
        "block device": one(kind=8, major=7),
        "hard link to a FIFO": record(*file(b"/f", kind=5)) + record(*file(b"/g", kind=4, target=b"/f")) + end(2, 0),
        "time after 2262": one(mtime=(1 << 64) - 1, ctime=1 << 63),
        "walk order, not byte order": b"".join(record(*file(p, kind=2)) for p in (b"/a", b"/a/b", b"/a-b")) + end(3, 0),
        "largest numbers": one(inode=(1 << 63) - 1, mtime=-(1 << 63), mode=0o7777),
    }
    bad = {
        "without an end": folder,
        "cut": whole[:-1],
        "empty": b"",
        "something behind the end": whole + b"\0",
        "wrong number of files": folder + end(2, 0),
        "wrong sum of sizes": folder + end(1, 1),
        "length above its bound": struct.pack(">I", (1 << 20) + 1) + bytes(64),
        "not an array": struct.pack(">I", 1) + b"\x01",
        "empty record": struct.pack(">I", 0),
        "byte order, not walk order": record(*file(b"/a-b")) + record(*file(b"/a/b")) + end(2, 0),
        "twice the same path": folder + folder + end(2, 0),
        "longer form of a number": struct.pack(">I", len(long_form)) + long_form + end(1, 0),
        "missing element": record(*file(b"/f")[:17]) + end(1, 0),
        "path as text": record(*file("/f")) + end(1, 0),  # type: ignore[arg-type]
        "relative path": one(path=b"f"),
        "empty path": one(path=b""),
        "trailing slash": one(path=b"/f/"),
        "empty part": one(path=b"/a//f"),
        "part .": one(path=b"/a/./f"),
        "part ..": one(path=b"/a/../f"),
        "last part ..": one(path=b"/a/.."),
        "zero byte": one(path=b"/a\0f"),
        "path too long": one(path=b"/" + b"x" * 65_536),
        "mode above 07777": one(mode=0o10000),
        "negative size": one(size=-1),
        "negative inode": one(inode=-1),
        "inode beyond 63 bits": one(inode=1 << 63),
        "owner beyond 63 bits": one(uid=1 << 63),
        "device number of a file": one(minor=1),
        "1,025 attributes": one(attributes=[[b"user.%04d" % n, b""] for n in range(1_025)]),
        "root that is no folder": one(path=b"/"),
        "extents announced by a folder": record(*file(b"/f", kind=2, flags=4)) + record(64, []) + end(1, 0),
        "contents of a folder": record(*file(b"/f", 1, kind=2, extents=[[None, 0, 1]])) + end(1, 1),
        "symbolic link without target": one(kind=3),
        "target of a file": one(target=b"/x"),
        "hard link to a later record": one(kind=4, target=b"/g"),
        "hard link to itself": one(kind=4, target=b"/f"),
        "attributes out of order": one(attributes=[[b"user.b", b""], [b"user.a", b""]]),
        "attribute twice": one(attributes=[[b"user.a", b""], [b"user.a", b""]]),
        "attribute without a name": one(attributes=[[b"", b""]]),
        "attribute of three parts": one(attributes=[[b"user.a", b"", b""]]),
        "extents too short": record(*file(b"/f", 10, extents=[[SEGMENT, 0, 9]])) + end(1, 10),
        "extents too long": record(*file(b"/f", 10, extents=[[SEGMENT, 0, 11]])) + end(1, 10),
        "no extents": record(*file(b"/f", 10)) + end(1, 10),
        "empty extent": one(extents=[[SEGMENT, 0, 0]]),
        "hole with an offset": record(*file(b"/f", 1, extents=[[None, 1, 1]])) + end(1, 1),
        "segment name of 31 bytes": record(*file(b"/f", 1, extents=[[SEGMENT[1:], 0, 1]])) + end(1, 1),
        "announced attributes are missing": one(flags=8),
        "announced extents are missing": record(*file(b"/f", 1, flags=4, extents=[[None, 0, 1]])) + end(1, 1),
        "attributes not announced": record(*file(b"/f")) + record(65, [[b"user.a", b""]]) + end(1, 0),
        "extents not announced": record(*file(b"/f")) + record(64, [[None, 0, 1]]) + end(1, 0),
        "attributes after extents": record(*file(b"/f", 1, flags=12))
        + record(64, [[None, 0, 1]])
        + record(65, [[b"user.a", b""]])
        + end(1, 1),
        "extents without a file": record(64, [[None, 0, 1]]) + end(0, 0),
    }
    newer = {
        "unknown type": record(9, 1) + end(0, 0),
        "unknown type 100": record(100) + end(0, 0),
        "unknown flag": one(flags=16),
    }
    return [
        {"name": name, "outcome": outcome, "data": data.hex()}
        for outcome, group in (("ok", good), (DAMAGED, bad), (NEWER, newer))
        for name, data in group.items()
    ]


def block(kind: int, body: bytes) -> bytes:
    return struct.pack(">BI", kind, len(body)) + body


def stream_cases() -> list[Case]:
    magic = b"SRSTRM01"
    last = block(9, pack({"files": 1, "content": 3, "problems": 0}))
    item = record(*file(b"/f", 3))
    same = struct.pack(">QQ", 7, 2)
    known = file(b"/f", 3)[:14]
    problem = {"path": b"/\xff", "code": "client.vanished", "message": "it is gone"}
    lost = {"length": 3, "code": "pool.frame-missing", "message": "no container holds it"}
    good = {
        "lost": magic + block(2, item) + block(8, pack(lost)) + last,
        "backup": magic + block(1, b"abc") + block(2, item) + last,
        "restore": magic + block(2, item) + block(1, b"a") + block(1, b"bc") + last,
        "holes": magic + block(2, item) + block(10, struct.pack(">4Q", 0, 1, 2, 1)) + last,
        "hole": magic + block(2, item) + block(5, struct.pack(">Q", 3)) + last,
        "same": magic + block(3, same + struct.pack(">QQ", 9, 1)) + last,
        "known": magic + block(7, pack([known, known])) + last,
        "problem": magic + block(4, pack(problem)) + last,
        "cut": magic + block(6, b"") + block(1, b"abc") + block(6, b"") + block(2, item) + last,
        "empty data": magic + block(1, b"") + last,
        "attributes": magic + block(2, record(*file(b"/f", flags=8)) + record(65, [[b"user.a", b""]])) + last,
    }
    bad = {
        "empty": b"",
        "without an end": magic + block(1, b"abc"),
        "cut": (magic + last)[:-1],
        "another magic": b"SRSTRX01" + last,
        "something behind the end": magic + last + b"\0",
        "block above its bound": magic + struct.pack(">BI", 2, (4 << 20) + 1),
        "data above its bound": magic + struct.pack(">BI", 1, (4 << 20) + 1),
        "empty entries": magic + block(2, b"") + last,
        "empty same": magic + block(3, b"") + last,
        "entries cut in a length": magic + block(2, item + b"\0") + last,
        "entries cut in a record": magic + block(2, item[:-1]) + last,
        "end of the entries in a block": magic + block(2, end(0, 0)) + last,
        "extents in records of their own": magic + block(2, record(64, [[None, 0, 1]])) + last,
        "same cut in its number": magic + block(3, same[:7]) + last,
        "same cut in its count": magic + block(3, same[:-1]) + last,
        "same of no files": magic + block(3, struct.pack(">QQ", 7, 0)) + last,
        "same that falls": magic + block(3, same + struct.pack(">QQ", 8, 1)) + last,
        "same beyond all numbers": magic + block(3, struct.pack(">QQ", 1 << 63, 1)) + last,
        "known with an element too few": magic + block(7, pack([known[:13]])) + last,
        "known of an unknown type": magic + block(7, pack([[9, *known[1:]]])) + last,
        "known that is no list": magic + block(7, pack({})) + last,
        "hole of 7 bytes": magic + block(5, bytes(7)) + last,
        "hole of length 0": magic + block(5, bytes(8)) + last,
        "hole too long": magic + block(5, b"\xff" * 8) + last,
        "cut with a body": magic + block(6, b"x") + last,
        "problem without code": magic + block(4, pack(problem | {"code": ""})) + last,
        "problem with a long message": magic + block(4, pack(problem | {"message": "x" * 1_025})) + last,
        "holes without a row": magic + block(10, b"") + last,
        "holes cut within a row": magic + block(10, bytes(15)) + last,
        "holes of length 0": magic + block(10, struct.pack(">2Q", 4, 0)) + last,
        "holes that touch": magic + block(10, struct.pack(">4Q", 0, 4, 4, 4)) + last,
        "holes out of order": magic + block(10, struct.pack(">4Q", 9, 1, 0, 1)) + last,
        "hole that ends too far": magic + block(10, struct.pack(">2Q", (1 << 63) - 1, 1)) + last,
        "lost of length 0": magic + block(8, pack(lost | {"length": 0})) + last,
        "lost without code": magic + block(8, pack(lost | {"code": ""})) + last,
        "lost above its bound": magic + block(8, pack(lost) + bytes(8_192)) + last,
        "end without files": magic + block(9, pack({"content": 0, "problems": 0})),
        "end with a negative count": magic + block(9, pack({"files": -1, "content": 0, "problems": 0})),
    }
    newer = {"version 02": b"SRSTRM02" + last, "unknown block": magic + block(11, b"x") + last}
    return [
        {"name": name, "outcome": outcome, "data": data.hex()}
        for outcome, group in (("ok", good), (DAMAGED, bad), (NEWER, newer))
        for name, data in group.items()
    ]


def files() -> dict[str, str]:
    """The vector files by name."""
    return {
        "entries.json": json.dumps({"cases": entries_cases()}, indent=1) + "\n",
        "image-stream.json": json.dumps({"cases": stream_cases()}, indent=1) + "\n",
    }


if __name__ == "__main__":
    for name, text in files().items():
        (VECTORS / name).write_text(text, encoding="utf-8")
