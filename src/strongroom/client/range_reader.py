"""Reads files of some length in ranges, into memory that is used again and again.

The memory begins where a page does. A copy out of the system's cache to sixteen bytes behind such a place, where
objects of the interpreter mostly lie, takes six times as long on some processors: they take each read to depend on
the write before it, whose address ends alike.
"""

from __future__ import annotations

import mmap
import os
import resource
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, NamedTuple

from strongroom.client import reading

READ_BYTES: Final = 4 << 20
_READ_AHEAD: Final = 2


class RangeReader:
    """Reads one file after the other; with a pool of threads, the next ranges while one is used.

    Threads read ahead only while blocks come from a disk: what lies in memory is copied at once.
    """

    def __init__(self) -> None:
        self._rooms: list[memoryview] = []

    def read(self, fd: int, status: os.stat_result, pool: ThreadPoolExecutor | None) -> Iterator[memoryview | int]:
        """Read a file's ranges in order; a number is the length of a hole.

        Ends early when the file has become shorter. Use each range before the next: the memory is used again.

        Raises:
            OSError: the system refuses.
        """
        if not self._rooms:
            self._rooms = [memoryview(mmap.mmap(-1, READ_BYTES)) for _ in range(_READ_AHEAD + 1)]
        ahead: deque[_Ahead] = deque()
        ranges = enumerate(reading.ranges(fd, status.st_size, status, READ_BYTES))
        from_disk = False
        try:
            while True:
                is_ahead = pool is not None and from_disk
                while len(ahead) < (_READ_AHEAD if is_ahead else 1) and (following := next(ranges, None)) is not None:
                    number, (at, length, is_hole) = following
                    room = self._rooms[number % len(self._rooms)][: 0 if is_hole else length]
                    future = pool.submit(_fill, fd, room, at) if pool and is_ahead and not is_hole else None
                    ahead.append(_Ahead(at, length, room, future))
                if not ahead:
                    return
                at, length, room, future = ahead.popleft()
                if not room:
                    # A file cut in the hole would otherwise seem to reach to its end.
                    length = min(length, max(0, os.fstat(fd).st_size - at))
                    if length == 0:
                        return
                    yield length
                    continue
                count, from_disk = future.result() if future is not None else _fill(fd, room, at)
                while count:
                    yield room[:count]
                    at, length = at + count, length - count
                    count = _fill(fd, room[:length], at)[0] if length else 0
                if length:
                    return
        finally:
            for each in ahead:
                # The descriptor is closed next: nobody may still read from it.
                if each.future is not None and not each.future.cancel():
                    each.future.exception()


class _Ahead(NamedTuple):
    """A range that was not given yet; one without room is a hole."""

    at: int
    length: int
    room: memoryview
    future: Future[tuple[int, bool]] | None


def _fill(fd: int, room: memoryview, at: int) -> tuple[int, bool]:
    """Read from a place; give how many bytes came, and whether blocks of them came from a disk."""
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_inblock
    count = os.preadv(fd, [room], at)
    return count, resource.getrusage(resource.RUSAGE_THREAD).ru_inblock > before
