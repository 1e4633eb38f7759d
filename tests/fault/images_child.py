"""Run by tests in a process of its own: stores and restores what would not fit into memory, and tells its peak."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from strongroom.formats import entries, image_stream
from strongroom.formats.entries import Entry
from strongroom.images.restore import restore_stream
from tests.support.memory import peak_kib
from tests.support.vault import Vault

MIB = 1 << 20


def entry(path: bytes, size: int) -> bytes:
    return entries.encode(Entry(entries.REGULAR, path, 0o644, 0, 0, b"", b"", 1, 1, 1, 1, size))


def block(kind: int, body: bytes) -> bytes:
    return image_stream.head(kind, len(body)) + body


def large(gibibytes: int) -> Iterator[bytes]:
    """One file: mostly the same MiB and holes in turn, with new bytes now and then."""
    yield image_stream.MAGIC
    yield image_stream.cut()
    same = os.urandom(MIB)
    size = 0
    for number in range(gibibytes * 512):
        dense = os.urandom(MIB) if number % 64 == 0 else same
        yield block(image_stream.DATA, dense)
        yield image_stream.hole(MIB)
        size += 2 * MIB
    yield block(image_stream.ENTRIES, entry(b"/large", size))
    yield image_stream.end(1, size, 0)


def tiny(count: int) -> Iterator[bytes]:
    """Many files of one byte, in blocks as a client sends them."""
    yield image_stream.MAGIC
    at_once = 1_000
    for first in range(0, count, at_once):
        yield block(image_stream.DATA, os.urandom(at_once))
        records = b"".join(entry(b"/%07d" % (first + number), 1) for number in range(at_once))
        yield block(image_stream.ENTRIES, records)
    yield image_stream.end(count, count, 0)


def main() -> None:
    vault = Vault(Path(sys.argv[1]))
    what, count = sys.argv[2], int(sys.argv[3])
    chunks = large(count) if what == "large" else tiny(count)
    image, result = vault.store(chunks)
    stored = peak_kib() >> 10
    restored = 0
    with vault.reading(image) as opened:
        for piece in image_stream.read_blocks(restore_stream(opened)):
            if isinstance(piece, bytes | memoryview):
                restored += len(piece)
            elif isinstance(piece, image_stream.Hole):
                restored += piece.length
    peak = peak_kib() >> 10
    sys.stdout.write(f"{result.content} {restored} {stored} {peak}\n")


if __name__ == "__main__":
    main()
