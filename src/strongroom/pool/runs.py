"""Runs of the index: immutable files of entries in the order of their names, asked with one read for each name.

An entry is the first 16 bytes of a name, and a place of 8 bytes. 170 entries make a block of 4,096 bytes with a check
sum. The first name of each block is kept in memory, so that one block is read for a name, and a filter for each block
as far as there is room, so that mostly none is read for a name that is not there.

What is here imports NumPy: import it only when there is a run. Source of the layout:
``docs/adr/0011-the-index-is-sorted-runs.md``. It is a cache of one machine, and no format that lasts.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import google_crc32c
import numpy as np
import numpy.typing as npt

from strongroom.pool.errors import IndexDamagedError, PoolReadError
from strongroom.pool.incoming import sync_folder, writing

NAME_BYTES: Final = 16
ENTRY_BYTES: Final = 24
BLOCK_BYTES: Final = 4_096
FILTER_BYTES: Final = 176
_ENTRIES: Final = BLOCK_BYTES // ENTRY_BYTES
_FULL_BYTES: Final = _ENTRIES * ENTRY_BYTES
_ENTRY: Final = np.dtype([("high", ">u8"), ("low", ">u8"), ("place", "<u8")])
_FILTER_BITS: Final = FILTER_BYTES * 8
_HASHES: Final = 4
"""Bits for each entry in its block's filter: 2 of 100 names that are not there pass."""
_HASH_BITS: Final = 11
_CHUNK_BLOCKS: Final = 256
_MAGIC: Final = b"SRRUN001"
_TRAILER: Final = struct.Struct("<8sQQQII")
_CHECK: Final = struct.Struct("<I")
_END_BYTES: Final = _TRAILER.size + _CHECK.size
_PLACE: Final = struct.Struct("<Q")

Entries = npt.NDArray[np.void]
Numbers = npt.NDArray[np.uint64]


class Keys:
    """Names that are asked for together.

    Args:
        names: each of 16 bytes.
    """

    def __init__(self, names: Sequence[bytes]) -> None:
        pairs = np.frombuffer(b"".join(names), dtype=">u8").reshape(-1, 2)
        self.names = names
        self.high: Numbers = pairs[:, 0].astype(np.uint64)
        self.bits = _bits(pairs[:, 1].astype(np.uint64))


class Run:
    """One run, open to be read; for one thread at a time.

    A file that is found damaged is removed: then the index is made anew when it is opened the next time.

    Args:
        path: its file.

    Attributes:
        entries: how many it has.
        filter_bytes: memory that its filters take when they are loaded.

    Raises:
        FileNotFoundError: it is not there.
        IndexDamagedError: it is not the file that was written.
        PoolReadError: the disk refused.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise self._unread(error) from error
        with ExitStack() as on_error:
            on_error.callback(self.close)
            self._open()
            on_error.pop_all()

    def _open(self) -> None:
        size = os.fstat(self._handle).st_size
        end = self._read(max(0, size - _END_BYTES), _END_BYTES)
        magic, self.entries, self._blocks, capacity, self._filter_check, fences_check = _TRAILER.unpack_from(end)
        self._start = _start(capacity)
        fences_at = self._start + self._blocks * BLOCK_BYTES
        if (
            magic != _MAGIC
            or _CHECK.unpack_from(end, _TRAILER.size)[0] != google_crc32c.value(end[: _TRAILER.size])
            or size != fences_at + self._blocks * 8 + _END_BYTES
        ):
            raise self._damaged()
        fences = self._read(fences_at, self._blocks * 8)
        if google_crc32c.value(fences) != fences_check:
            raise self._damaged()
        self._fences: Numbers = np.frombuffer(fences, dtype=np.uint64)
        self._filters: npt.NDArray[np.uint8] | None = None
        self.filter_bytes = self._blocks * FILTER_BYTES

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)

    def use_filters(self, wanted: bool) -> None:
        """Load the filters, or let go of them."""
        if not wanted:
            self._filters = None
        elif self._filters is None:
            data = self._read(0, self.filter_bytes)
            if google_crc32c.value(data) != self._filter_check:
                raise self._damaged()
            self._filters = np.frombuffer(data, dtype=np.uint8).reshape(-1, FILTER_BYTES)

    def find(self, keys: Keys) -> Iterator[tuple[bytes, int]]:
        """Give name and place of each entry whose name is asked for."""
        # equal names may begin in the block before the one whose first name they are, and go on in those behind
        first = np.maximum(np.searchsorted(self._fences, keys.high, side="left") - 1, 0)
        last = np.searchsorted(self._fences, keys.high, side="right") - 1
        possible = last >= 0
        if self._filters is not None:
            blocks = np.maximum(last, 0)
            passes = possible.copy()
            for bit in keys.bits:
                passes &= (self._filters[blocks, bit >> 3] >> (bit & 7) & 1).astype(bool)
            possible = passes | (possible & (first < last))
        for at in np.flatnonzero(possible).tolist():
            name = keys.names[at]
            for block in range(int(first[at]), int(last[at]) + 1):
                for place in self._places(block, name):
                    yield name, place

    def chunks(self) -> Iterator[Entries]:
        """Give all entries in order, some thousand at a time."""
        left = self.entries
        for block in range(0, self._blocks, _CHUNK_BLOCKS):
            count = min(_CHUNK_BLOCKS, self._blocks - block)
            data = self._read(self._start + block * BLOCK_BYTES, count * BLOCK_BYTES)
            for at in range(0, len(data), BLOCK_BYTES):
                self._check(data[at : at + BLOCK_BYTES])
            rows = np.frombuffer(data, dtype=np.uint8).reshape(count, BLOCK_BYTES)[:, :_FULL_BYTES]
            entries = np.ascontiguousarray(rows).reshape(-1).view(_ENTRY)[:left]
            left -= len(entries)
            yield entries

    def _places(self, block: int, name: bytes) -> Iterator[int]:
        data = self._read(self._start + block * BLOCK_BYTES, BLOCK_BYTES)
        self._check(data)
        used = min(_ENTRIES, self.entries - block * _ENTRIES) * ENTRY_BYTES
        at = data.find(name, 0, used)
        while at >= 0:
            if at % ENTRY_BYTES == 0:
                yield _PLACE.unpack_from(data, at + NAME_BYTES)[0]
            at = data.find(name, at + 1, used)

    def _check(self, block: bytes) -> None:
        if _CHECK.unpack_from(block, _FULL_BYTES)[0] != google_crc32c.value(block[:_FULL_BYTES]):
            raise self._damaged()

    def _read(self, offset: int, length: int) -> bytes:
        try:
            data = os.pread(self._handle, length, offset)
        except OSError as error:
            raise self._unread(error) from error
        if len(data) != length:
            raise self._damaged()
        return data

    def _unread(self, error: OSError) -> PoolReadError:
        return PoolReadError(f"cannot read the index '{self._path}': {error.strerror}")

    def _damaged(self) -> IndexDamagedError:
        with writing(self._path):
            self._path.unlink(missing_ok=True)
        return IndexDamagedError(f"the index '{self._path}' is damaged")


def in_order(blobs: Iterable[bytes]) -> Entries:
    """Sort entries that lie one behind the other in some blobs."""
    return _sorted(np.frombuffer(b"".join(blobs), dtype=_ENTRY))


def merge(runs: Sequence[Run], alive: npt.NDArray[np.bool_]) -> Iterator[Entries]:
    """Give the entries of several runs in order, without those of containers that are gone.

    Args:
        runs: what to merge.
        alive: whether the container of a number is there; numbers behind its end are gone.
    """
    sources = [(run.chunks(), np.empty(0, _ENTRY)) for run in runs]
    while True:
        filled = []
        for chunks, left in sources:
            rest = left if len(left) else next(chunks, left)
            if len(rest):
                filled.append((chunks, rest))
        if not filled:
            return
        # nothing that is read later lies before the lowest of the last names
        bound = min(rest["high"][-1] for _, rest in filled)
        ready, sources = [], []
        for chunks, rest in filled:
            split = int(np.searchsorted(rest["high"], bound, side="right"))
            ready.append(rest[:split])
            sources.append((chunks, rest[split:]))
        entries = np.concatenate(ready)
        containers = (entries["place"] >> 32).astype(np.int64)
        containers[containers >= len(alive)] = 0  # no container has this number
        yield _sorted(entries[alive[containers]])


def write(path: Path, batches: Iterable[Entries], most: int) -> int:
    """Write a run, and make it durable; a file that a dead process left under its name is written over.

    Args:
        path: where.
        batches: entries in order.
        most: as many entries as there can be.

    Returns:
        How many there were.

    Raises:
        OSError: the disk refused, or is full; what there is of the file counts for nothing.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with ExitStack() as on_error:
        on_error.callback(path.unlink)
        try:
            count = _Writer(handle, most).write(batches)
            os.fsync(handle)
        finally:
            os.close(handle)
        on_error.pop_all()
    sync_folder(path.parent)
    return count


class _Writer:
    """Writes filters in front, blocks behind them, then the first names of all blocks."""

    def __init__(self, handle: int, most: int) -> None:
        self._handle = handle
        self._capacity = -(-most // _ENTRIES)
        self._at = _start(self._capacity)
        self._filters_at = 0
        self._filters_check = 0
        self._fences: list[bytes] = []

    def write(self, batches: Iterable[Entries]) -> int:
        count = 0
        left = np.empty(0, _ENTRY)
        for batch in batches:
            left = np.concatenate((left, batch))
            full = len(left) - len(left) % _ENTRIES
            for start in range(0, full, _CHUNK_BLOCKS * _ENTRIES):
                self._blocks(left[start : min(full, start + _CHUNK_BLOCKS * _ENTRIES)])
            count += full
            left = left[full:]
        if len(left):
            self._blocks(left)
        count += len(left)
        fences = b"".join(self._fences)
        trailer = _TRAILER.pack(
            _MAGIC,
            count,
            len(fences) // 8,
            self._capacity,
            self._filters_check,
            google_crc32c.value(fences),
        )
        self._put(fences + trailer + _CHECK.pack(google_crc32c.value(trailer)), self._at)
        return count

    def _blocks(self, entries: Entries) -> None:
        count = -(-len(entries) // _ENTRIES)
        padded = np.zeros(count * _ENTRIES, _ENTRY)
        padded[: len(entries)] = entries
        blocks = np.zeros((count, BLOCK_BYTES), np.uint8)
        blocks[:, :_FULL_BYTES] = padded.view(np.uint8).reshape(count, _FULL_BYTES)
        data = bytearray(blocks.tobytes())
        for at in range(0, len(data), BLOCK_BYTES):
            check = google_crc32c.value(bytes(data[at : at + _FULL_BYTES]))
            _CHECK.pack_into(data, at + _FULL_BYTES, check)
        self._put(data, self._at)
        self._at += len(data)
        self._fences.append(padded["high"][::_ENTRIES].astype(np.uint64).tobytes())
        flags = np.zeros((count, _FILTER_BITS), np.uint8)
        rows = np.arange(len(entries)) // _ENTRIES
        for bit in _bits(entries["low"].astype(np.uint64)):
            flags[rows, bit] = 1
        filters = np.packbits(flags, axis=1, bitorder="little").tobytes()
        self._put(filters, self._filters_at)
        self._filters_at += len(filters)
        self._filters_check = google_crc32c.extend(self._filters_check, filters)

    def _put(self, data: bytes | bytearray, offset: int) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(self._handle, view, offset)
            view, offset = view[written:], offset + written


def _start(capacity: int) -> int:
    """Tell where the blocks begin, behind the filters."""
    return -(-capacity * FILTER_BYTES // BLOCK_BYTES) * BLOCK_BYTES


def _sorted(entries: Entries) -> Entries:
    return entries[np.argsort(entries["high"].astype(np.uint64), kind="stable")]


def _bits(low: Numbers) -> list[npt.NDArray[Any]]:
    """Give the places of names in the filter of their block."""
    mask = np.uint64((1 << _HASH_BITS) - 1)
    return [
        ((low >> np.uint64(number * _HASH_BITS)) & mask).astype(np.int64) * _FILTER_BITS >> _HASH_BITS
        for number in range(_HASHES)
    ]
