"""Chunker 1: cuts a stream into segments by its content.

Source: ``docs/reference/formats/segment.md``. FastCDC decides from no more bytes than the longest segment
has where one ends, so cutting whatever lies in a block, up to that length before its end, gives the same segments as
cutting the whole stream.

Where a forerunner of the stream is known, its cuts are tried first (``pool.expected``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final

from pyfastcdc import FastCDC

from strongroom.core.ids import SegmentName
from strongroom.formats.segment import CHUNK_NORMALIZATION, Buffer, ChunkSizes
from strongroom.pool.expected import Expected, Guess
from strongroom.pool.references import Named

BLOCK_BYTES: Final = 4 << 20
_KEPT_BLOCKS: Final = 2
"""Of those that segments were given of: when a block is full, those of the one before it are mostly dealt with."""


class Chunker:
    """Cuts one stream, and names the segments; for one thread.

    Args:
        sizes: of the segments.
        name: names segments.
        expected: what the stream may bring, for contents of some length.
    """

    def __init__(
        self,
        sizes: ChunkSizes,
        name: Callable[[Sequence[Buffer]], list[SegmentName]],
        expected: Expected | None = None,
    ) -> None:
        self._fastcdc = FastCDC(
            sizes.average,
            min_size=sizes.minimum,
            max_size=sizes.maximum,
            normalized_chunking=CHUNK_NORMALIZATION,
        )
        self._name = name
        self._expected = expected
        self._is_long = False  # whether a whole block came since the last run ended
        self._min_bytes = sizes.minimum
        self._max_bytes = sizes.maximum
        self._block = _new_block()
        self._view = memoryview(self._block)
        self._filled = 0
        self._used: deque[bytearray] = deque(maxlen=_KEPT_BLOCKS)

    def feed(self, data: Buffer) -> list[Named]:
        """Take bytes of any number, copying them, and give the segments that are certain by now.

        A segment stays valid for as long as it is held.
        """
        segments: list[Named] = []
        rest = memoryview(data)
        while rest:
            taken = min(len(rest), BLOCK_BYTES - self._filled)
            self._view[self._filled : self._filled + taken] = rest[:taken]
            self._filled += taken
            rest = rest[taken:]
            if self._filled == BLOCK_BYTES:
                self._is_long = True
                self._cut(segments, keep_bytes=self._max_bytes)
        return segments

    def end_run(self) -> list[Named]:
        """End the last segment here; what follows starts a segment of its own."""
        segments: list[Named] = []
        if self._filled > self._min_bytes:
            self._cut(segments, keep_bytes=1)
        elif self._filled:
            # nowhere to cut; many small runs come between unchanged files
            data = bytes(self._view[: self._filled])
            segments += map(Named, self._name([data]), [memoryview(data)])
            self._filled = 0
        self._is_long = False
        return segments

    def _cut(self, segments: list[Named], keep_bytes: int) -> None:
        """Cut while at least ``keep_bytes`` bytes are left, and move the rest to the front of a block."""
        if self._expected is not None and self._is_long:
            named = self._cut_as_expected(self._expected, keep_bytes)
        else:
            named = self._cut_by_content(0, keep_bytes, None)
        cut = sum(length for _, length in named)
        source = self._view[:cut].toreadonly()
        rest = bytes(self._view[cut : self._filled])
        if cut < BLOCK_BYTES // 2:
            # a small segment that waits for its frame must not keep a whole block
            source = memoryview(bytes(source))
        else:
            self._change_block()
        self._view[: len(rest)] = rest
        self._filled = len(rest)
        at = 0
        for name, length in named:
            segments.append(Named(name, source[at : at + length]))
            at += length

    def _cut_by_content(self, at: int, keep_bytes: int, most: int | None) -> list[tuple[SegmentName, int]]:
        """Cut from a place on, up to a number of segments; gives names and lengths."""
        view = self._view[at : self._filled].toreadonly()
        pieces = []
        cut = 0
        for chunk in islice(self._fastcdc.cut_buf(view), most):
            if len(view) - cut < keep_bytes:
                break
            pieces.append(view[cut : cut + chunk.length])
            cut += chunk.length
        return list(zip(self._name(pieces), map(len, pieces), strict=True))

    def _cut_as_expected(self, expected: Expected, keep_bytes: int) -> list[tuple[SegmentName, int]]:
        """Cut where the forerunner was cut, as long as the names are the same; by content where they are not."""
        named: list[tuple[SegmentName, int]] = []
        at = 0
        while self._filled - at >= keep_bytes:
            guesses = expected.guesses(self._filled - at)
            right = self._right(at, guesses)
            expected.guessed(right, len(guesses) - right)
            named += guesses[:right]
            at += sum(guess.length for guess in guesses[:right])
            if guesses and right == len(guesses):
                continue
            # one, where something changed; all that is left, where nothing is expected
            found = self._cut_by_content(at, keep_bytes, 1 if guesses else None)
            for name, length in found:
                expected.came(name, length)
                at += length
            named += found
        return named

    def _right(self, at: int, guesses: list[Guess]) -> int:
        """Tell how many guesses, from the first, are what lies in the block."""
        pieces = []
        for guess in guesses:
            pieces.append(self._view[at : at + guess.length])
            at += guess.length
        names = self._name(pieces)
        return next(
            (n for n, (name, guess) in enumerate(zip(names, guesses, strict=True)) if name != guess.name), len(guesses)
        )

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
