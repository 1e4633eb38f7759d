"""Chunker 1: cuts a stream into segments by its content.

Source: ``docs/reference/formats/segment.md``. FastCDC decides from no more bytes than the longest segment
has where one ends, so cutting whatever lies in a block, up to that length before its end, gives the same segments as
cutting the whole stream.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from pyfastcdc import FastCDC

from strongroom.formats.segment import CHUNK_NORMALIZATION, Buffer, ChunkSizes

BLOCK_BYTES: Final = 4 << 20
_KEPT_BLOCKS: Final = 2
"""Of those that segments were given of: when a block is full, those of the one before it are mostly dealt with."""


class Chunker:
    """Cuts one stream; for one thread. The lock of the interpreter is released while it searches.

    Args:
        sizes: of the segments.
    """

    def __init__(self, sizes: ChunkSizes) -> None:
        self._fastcdc = FastCDC(
            sizes.average,
            min_size=sizes.minimum,
            max_size=sizes.maximum,
            normalized_chunking=CHUNK_NORMALIZATION,
        )
        self._min_bytes = sizes.minimum
        self._max_bytes = sizes.maximum
        self._block = _new_block()
        self._view = memoryview(self._block)
        self._filled = 0
        self._used: deque[bytearray] = deque(maxlen=_KEPT_BLOCKS)

    def feed(self, data: Buffer) -> list[memoryview]:
        """Take bytes of any number, copying them, and give the segments that are certain by now.

        A segment stays valid for as long as it is held.
        """
        segments: list[memoryview] = []
        rest = memoryview(data)
        while rest:
            taken = min(len(rest), BLOCK_BYTES - self._filled)
            self._view[self._filled : self._filled + taken] = rest[:taken]
            self._filled += taken
            rest = rest[taken:]
            if self._filled == BLOCK_BYTES:
                self._cut(segments, keep_bytes=self._max_bytes)
        return segments

    def end_run(self) -> list[memoryview]:
        """End the last segment here; what follows starts a segment of its own."""
        segments: list[memoryview] = []
        if self._filled > self._min_bytes:
            self._cut(segments, keep_bytes=1)
        elif self._filled:
            # nowhere to cut; many small runs come between unchanged files
            segments.append(memoryview(bytes(self._view[: self._filled])))
            self._filled = 0
        return segments

    def _cut(self, segments: list[memoryview], keep_bytes: int) -> None:
        """Cut while at least ``keep_bytes`` bytes are left, and move the rest to the front of a block."""
        lengths = []
        cut = 0
        for chunk in self._fastcdc.cut_buf(self._view[: self._filled].toreadonly()):
            if self._filled - cut < keep_bytes:
                break
            lengths.append(chunk.length)
            cut += chunk.length
        source = self._view[:cut]
        rest = bytes(self._view[cut : self._filled])
        if cut < BLOCK_BYTES // 2:
            # a small segment that waits for its frame must not keep a whole block
            source = memoryview(bytes(source))
        else:
            self._change_block()
        self._view[: len(rest)] = rest
        self._filled = len(rest)
        at = 0
        for length in lengths:
            segments.append(source[at : at + length])
            at += length

    def _change_block(self) -> None:
        """Take another block, since segments are views of this one; an older one if nobody holds a segment of it.

        A new one is cleared, page by page, which took a sixth of the time of a stream whose segments were all known.
        """
        self._view.release()
        free = next((at for at, block in enumerate(self._used) if _is_free(block)), None)
        if free is None:
            block = _new_block()
        else:
            block = self._used[free]
            del self._used[free]
        self._used.append(self._block)
        self._block = block
        self._view = memoryview(block)


def _new_block() -> bytearray:
    """Make a block with room for one byte more: see :func:`_is_free`."""
    block = bytearray(BLOCK_BYTES + 1)
    del block[-1]
    return block


def _is_free(block: bytearray) -> bool:
    """Tell whether there is no view of a block: one that is viewed refuses to change its length."""
    try:
        block.append(0)
    except BufferError:
        return False
    del block[-1]
    return True
