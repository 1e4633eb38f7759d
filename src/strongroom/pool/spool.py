"""Sets of ids that need not fit into memory: spread over buckets by the id itself, and looked at bucket by bucket.

A bucket stays in memory while it is small and lies in a nameless file of the given folder after that, so a pool of
some hundred gigabytes is collected without a file, and one of any size with the memory of one bucket.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import SpooledTemporaryFile
from types import TracebackType
from typing import Final, Self

from strongroom.pool.incoming import writing

_IN_MEMORY_BYTES: Final = 64 << 10
_READ_RECORDS: Final = 4_096


class Spool:
    """Records of one length, of which a byte that is as good as random chooses the bucket.

    Args:
        folder: where buckets lie that have grown.
        record_bytes: length of each record.
        chosen_by: position of the byte that chooses.
        buckets: how many; each may come to be an open file.
    """

    def __init__(self, folder: Path, *, record_bytes: int, chosen_by: int, buckets: int) -> None:
        self._folder = folder
        self._record_bytes = record_bytes
        self._chosen_by = chosen_by
        self._opened = ExitStack()
        self._buckets = [self._opened.enter_context(_bucket(folder)) for _ in range(buckets)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def add(self, record: bytes) -> None:
        """Add a record; it may be there already.

        Raises:
            PoolFullError, PoolWriteError: the folder's file system refused.
        """
        with writing(self._folder):
            self._buckets[record[self._chosen_by] % len(self._buckets)].write(record)

    def bucket(self, number: int) -> Iterator[bytes]:
        """Give the records of a bucket in the order in which they came; nothing is added to it after this.

        Raises:
            PoolWriteError: the folder's file system refused.
        """
        file, length = self._buckets[number], self._record_bytes
        with writing(self._folder):
            file.seek(0)
        while True:
            with writing(self._folder):
                data = file.read(length * _READ_RECORDS)
            if not data:
                return
            for start in range(0, len(data), length):
                yield data[start : start + length]

    def sets(self) -> Iterator[frozenset[bytes]]:
        """Give the records of each bucket, each record once; in the order of the buckets' numbers."""
        for number in range(len(self._buckets)):
            yield frozenset(self.bucket(number))


def _bucket(folder: Path) -> SpooledTemporaryFile[bytes]:
    return SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES, dir=str(folder))
