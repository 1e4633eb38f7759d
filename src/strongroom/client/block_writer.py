"""Gathers contents and records into blocks of a useful size."""

from __future__ import annotations

from typing import Final

from strongroom.formats import image_stream
from strongroom.formats.image_stream import MAX_BLOCK_BYTES

_RECORD_BYTES: Final = 512 << 10


class BlockWriter:
    """Writes a backup's blocks; contents leave before the records that own them.

    Whole blocks gather in a list, which the caller sends with :meth:`take`.
    """

    def __init__(self) -> None:
        self._ready: list[bytes] = [image_stream.MAGIC]
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._records: list[bytes] = []
        self._record_bytes = 0
        self._kind = image_stream.ENTRIES

    def data(self, data: bytes) -> None:
        """Add contents, at most one block of them."""
        self._flush_same()
        if self._data_bytes + len(data) > MAX_BLOCK_BYTES:
            self._flush_data()
        self._data.append(data)
        self._data_bytes += len(data)

    def hole(self, length: int) -> None:
        """Add contents that are a hole."""
        self._flush_same()
        self._flush_data()
        self._ready.append(image_stream.hole(length))

    def cut(self) -> None:
        """Say that a large file begins, or ended, here, so that its segments are its own."""
        self.flush()
        self._ready.append(image_stream.cut())

    def entry(self, records: bytes) -> None:
        """Add the record of a file, and those of its attributes, after its contents."""
        self._record(image_stream.ENTRIES, records)

    def same(self, number: int, record: bytes) -> None:
        """Add the record of a file whose contents the previous image has."""
        self._record(image_stream.SAME, image_stream.same(number, record))

    def problem(self, path: bytes, code: str, message: str) -> None:
        """Add a problem; it stands where it was found, not in the order of the records."""
        self._ready.append(image_stream.problem(path, code, message))

    def end(self, files: int, content: int, problems: int) -> None:
        """Add the end."""
        self.flush()
        self._ready.append(image_stream.end(files, content, problems))

    def flush(self) -> None:
        """Make blocks of what waits."""
        self._flush_data()
        if self._records:
            self._ready.append(image_stream.head(self._kind, self._record_bytes))
            self._ready.append(b"".join(self._records))
            self._records.clear()
            self._record_bytes = 0

    def take(self) -> list[bytes]:
        """Give what is ready to be sent, and forget it."""
        ready, self._ready = self._ready, []
        return ready

    def _record(self, kind: int, data: bytes) -> None:
        if kind != self._kind or self._record_bytes + len(data) > MAX_BLOCK_BYTES:
            self.flush()
            self._kind = kind
        self._records.append(data)
        self._record_bytes += len(data)
        if self._record_bytes >= _RECORD_BYTES:
            self.flush()

    def _flush_same(self) -> None:
        """Send the records of unchanged files before contents that belong behind them."""
        if self._kind == image_stream.SAME:
            self.flush()

    def _flush_data(self) -> None:
        if self._data:
            self._ready.append(image_stream.head(image_stream.DATA, self._data_bytes))
            self._ready.append(self._data[0] if len(self._data) == 1 else b"".join(self._data))
            self._data.clear()
            self._data_bytes = 0
