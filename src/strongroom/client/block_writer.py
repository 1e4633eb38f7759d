"""Gathers contents and records into blocks of a useful size."""

from __future__ import annotations

from typing import Final

from strongroom.formats import image_stream
from strongroom.formats.image_stream import MAX_BLOCK_BYTES

_RECORD_BYTES: Final = 512 << 10
_PIECE_BYTES: Final = 256 << 10
RUN_FILES: Final = 4_096
"""After so many unchanged files the media server hears of them: it copies their records while the walk goes on."""


class BlockWriter:
    """Writes a backup's blocks; contents leave before the records that own them.

    Whole blocks gather in a list, which the caller sends with :meth:`take`.
    """

    def __init__(self) -> None:
        self._ready: list[bytes | memoryview] = [image_stream.MAGIC]
        self._ready_bytes = 0
        self._is_ended = False
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._records: list[bytes] = []
        self._record_bytes = 0
        self._runs: list[tuple[int, int]] = []
        self._same_files = 0
        self._is_due = False

    def data(self, data: bytes) -> None:
        """Add contents, at most one block of them."""
        self._flush_same()
        if self._data_bytes + len(data) > MAX_BLOCK_BYTES:
            self._flush_data()
        self._data.append(data)
        self._data_bytes += len(data)

    def block(self, data: memoryview) -> None:
        """Add contents that are a block by themselves, and change when what is ready was sent."""
        self._flush_same()
        self._flush_data()
        self._add(image_stream.head(image_stream.DATA, len(data)), data if len(data) >= _PIECE_BYTES else bytes(data))

    def hole(self, length: int) -> None:
        """Add contents that are a hole."""
        self._flush_same()
        self._flush_data()
        self._add(image_stream.hole(length))

    def cut(self) -> None:
        """Say that a large file begins, or ended, here, so that its segments are its own."""
        self.flush()
        self._add(image_stream.cut())

    def entry(self, records: bytes) -> None:
        """Add the record of a file, and those of its attributes, after its contents."""
        self._flush_same()
        if self._record_bytes + len(records) > MAX_BLOCK_BYTES:
            self.flush()
        self._records.append(records)
        self._record_bytes += len(records)
        if self._record_bytes >= _RECORD_BYTES:
            self.flush()

    def same(self, number: int, count: int) -> None:
        """Say that the next files are those of the previous image from this number on."""
        if not self._runs and (self._records or self._data):
            self.flush()
        first, before = self._runs[-1] if self._runs else (-1, 0)
        if first + before == number:
            self._runs[-1] = (first, before + count)
        else:
            if len(self._runs) == image_stream.MAX_RUNS:
                self._flush_same()
            self._runs.append((number, count))
        self._same_files += count
        if self._same_files >= RUN_FILES:
            self._flush_same()
            self._is_due = True

    def problem(self, path: bytes, code: str, message: str) -> None:
        """Add a problem; it stands where it was found, not in the order of the records."""
        self._add(image_stream.problem(path, code, message))

    def end(self, files: int, content: int, problems: int) -> None:
        """Add the end."""
        self.flush()
        self._add(image_stream.end(files, content, problems))
        self._is_ended = True

    def flush(self) -> None:
        """Make blocks of what waits."""
        self._flush_same()
        self._flush_data()
        if self._records:
            self._add(image_stream.head(image_stream.ENTRIES, self._record_bytes), *self._records)
            self._records.clear()
            self._record_bytes = 0

    def take(self) -> list[bytes | memoryview]:
        """Give what is ready to be sent, in pieces of some size, and forget it; little is kept until there is more."""
        if self._ready_bytes < _PIECE_BYTES and not (self._is_due or self._is_ended):
            return []
        self._is_due = False
        pieces: list[bytes | memoryview] = []
        small: list[bytes | memoryview] = []
        for part in self._ready:
            if len(part) < _PIECE_BYTES:
                small.append(part)
                continue
            pieces += (b"".join(small), part)
            small.clear()
        pieces.append(b"".join(small))
        self._ready.clear()
        self._ready_bytes = 0
        return [piece for piece in pieces if piece]

    def _add(self, *parts: bytes | memoryview) -> None:
        self._ready += parts
        self._ready_bytes += sum(map(len, parts))

    def _flush_same(self) -> None:
        """Send the runs of unchanged files before what belongs behind them."""
        if self._runs:
            self._add(image_stream.same(self._runs))
            self._runs.clear()
            self._same_files = 0

    def _flush_data(self) -> None:
        if self._data:
            self._add(image_stream.head(image_stream.DATA, self._data_bytes), *self._data)
            self._data.clear()
            self._data_bytes = 0
