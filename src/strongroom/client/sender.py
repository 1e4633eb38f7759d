"""Turns files into the image stream of a backup.

Small files are opened and read in batches; the order stays that of the walk. The interpreter's lock passes between
threads at every call of the system, so that what threads gain is waiting for disks: they read ahead only while blocks
come from a disk. While files are in memory, a second thread makes a backup half as slow again.
"""

from __future__ import annotations

import os
import resource
import stat
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from strongroom.client import reading
from strongroom.client.block_writer import RUN_FILES, BlockWriter
from strongroom.client.flags import flags_not_kept
from strongroom.client.folders import Folder
from strongroom.client.links import Links
from strongroom.client.owners import Owners
from strongroom.client.previous import Previous
from strongroom.client.problems import NOT_KEPT, UNREADABLE, Kinds, Trouble, reading_failed, reason
from strongroom.client.range_reader import RangeReader
from strongroom.client.reading import Large, Outcome, Reading
from strongroom.client.walker import Found
from strongroom.formats import entries
from strongroom.formats.entries import Entry
from strongroom.formats.image_stream import Known

BATCH_FILES: Final = 256
BATCH_BYTES: Final = 4 << 20
_BATCH_FOLDERS: Final = 32
_BATCH_ITEMS: Final = 1_024
OWN_SEGMENTS_BYTES: Final = 32 << 10
"""A file of so many bytes begins and ends a segment: moved or renamed, it is found again."""


@dataclass(slots=True)
class Totals:
    """What a backup did so far; sizes in bytes."""

    files: int = 0
    content: int = 0
    read_bytes: int = 0
    same_files: int = 0
    same_bytes: int = 0
    problems: int = 0


class _Way(Enum):
    """How an item becomes a record."""

    PLAIN = auto()
    SMALL = auto()
    IN_RANGES = auto()
    SAME = auto()
    LINK = auto()


@dataclass(slots=True)
class _Item:
    found: Found
    way: _Way
    previous: tuple[int, Known] | None = None


@dataclass(slots=True)
class _Run:
    """Files of one name each that are as in the previous image, one behind the other."""

    first: int
    files: int = 0
    regular: int = 0
    content: int = 0


@dataclass(slots=True)
class _Batch:
    items: list[_Item | _Run] = field(default_factory=list)
    read_files: int = 0
    read_bytes: int = 0
    folders: int = 0
    _folder: Folder | None = None

    def add(self, item: _Item) -> None:
        """Add an item, and hold its folder open until :meth:`release`."""
        folder = item.found.folder
        if self._folder is not folder:
            self._folder = folder
            self.folders += 1
        folder.hold()
        self.items.append(item)
        if item.way is _Way.SMALL:
            self.read_files += 1
            self.read_bytes += item.found.status.st_size

    def begin_run(self, number: int) -> _Run:
        """Add a run of files that are as in the previous image, and is made longer by whoever adds it."""
        run = _Run(number)
        self.items.append(run)
        return run

    def is_full(self) -> bool:
        """Tell whether it is time for the next batch; open folders are descriptors, which are few."""
        return (
            self.read_files >= BATCH_FILES
            or self.read_bytes >= BATCH_BYTES
            or self.folders >= _BATCH_FOLDERS
            or len(self.items) >= _BATCH_ITEMS
        )

    def release(self) -> None:
        """Let go of the folders."""
        for item in self.items:
            if isinstance(item, _Item):
                item.found.folder.release()


class Sender:
    """Makes the blocks of one backup.

    Args:
        previous: files of the previous image, or none.
        readers: threads that read ahead, at the most; 0 reads in the caller's thread.
        in_flight_bytes: bound of the contents that were read ahead and not sent yet.

    Attributes:
        totals: counted as the blocks are made.
    """

    def __init__(self, previous: Previous | None = None, *, readers: int = 4, in_flight_bytes: int = 32 << 20) -> None:
        self.totals = Totals()
        self._owners = Owners()
        self._previous = previous or Previous((), None)
        self._readers = readers
        self._in_flight_bytes = in_flight_bytes
        self._ahead = 0  # batches that are read while one is sent
        self._writer = BlockWriter()
        self._ranges = RangeReader()
        self._links = Links()
        self._kinds = Kinds()

    def report(self, trouble: Trouble) -> None:
        """Put a problem into the stream, and count it; the walker is given this.

        One of a kind is told once for all files of its kind, at the end.
        """
        if trouble.kind:
            self._kinds.add(trouble)
            return
        self.totals.problems += 1
        self._writer.problem(trouble.path, trouble.code, trouble.message)

    def blocks(self, walk: Iterable[Found]) -> Iterator[bytes | memoryview]:
        """Give the whole image stream in pieces of up to 4 MiB; use each before the next.

        Args:
            walk: files in the order of a walk.

        Raises:
            DamagedError: the records of the previous image are damaged.
        """
        if self._readers:
            with ThreadPoolExecutor(self._readers, thread_name_prefix="strongroom-read") as pool:
                yield from self._blocks(walk, pool)
        else:
            yield from self._blocks(walk, None)

    def _blocks(self, walk: Iterable[Found], pool: ThreadPoolExecutor | None) -> Iterator[bytes | memoryview]:
        waiting: deque[tuple[_Batch, Future[_Read] | None]] = deque()
        in_flight = 0
        try:
            for batch in self._batches(walk):
                waiting.append((batch, pool.submit(_read_batch, batch) if pool and self._ahead else None))
                in_flight += batch.read_bytes
                while len(waiting) > self._ahead or (in_flight > self._in_flight_bytes and waiting):
                    done, future = waiting.popleft()
                    in_flight -= done.read_bytes
                    yield from self._send(done, future, pool)
            while waiting:
                yield from self._send(*waiting.popleft(), pool)
        finally:
            # Only when the backup is given up is anything left: the descriptors would stay open.
            for batch, future in waiting:
                if future is not None and not future.cancel():
                    future.exception()
                batch.release()
        for _, trouble in self._kinds.summaries():
            self.totals.problems += 1
            self._writer.problem(trouble.path, trouble.code, trouble.message)
        self._writer.end(self.totals.files, self.totals.content, self.totals.problems)
        yield from self._writer.take()

    def _batches(self, walk: Iterable[Found]) -> Iterator[_Batch]:
        """Group files; a file that is read in ranges is a batch of its own."""
        batch = _Batch()
        run: _Run | None = None  # the last item of the batch
        find = self._previous.find
        try:
            for found in walk:
                previous = find(found.path, found.status)
                if previous is not None:
                    number, known = previous
                    if found.status.st_nlink == 1 or known.type == entries.FOLDER:
                        if run is None or run.first + run.files != number:
                            run = batch.begin_run(number)
                        run.files += 1
                        run.regular += known.type == entries.REGULAR
                        run.content += known.size
                        if run.files >= RUN_FILES or len(batch.items) >= _BATCH_ITEMS:
                            full, batch, run = batch, _Batch(), None
                            yield full
                        continue
                run = None
                item = self._classify(found, previous)
                if item is None:
                    continue
                if item.way is _Way.IN_RANGES and batch.items:
                    full, batch = batch, _Batch()
                    yield full
                batch.add(item)
                if item.way is _Way.IN_RANGES or batch.is_full():
                    full, batch = batch, _Batch()
                    yield full
            if batch.items:
                full, batch = batch, _Batch()
                yield full
        finally:
            batch.release()

    def _classify(self, found: Found, previous: tuple[int, Known] | None) -> _Item | None:
        status = found.status
        kind = reading.TYPES.get(stat.S_IFMT(status.st_mode))
        if kind is None:
            self.report(reading.unsupported(found))
            return None
        if status.st_nlink > 1 and kind != entries.FOLDER:
            if self._links.knows(status):
                return _Item(found, _Way.LINK, previous)
            self._links.begin(status)
        if previous is not None and previous[1].type == kind:
            return _Item(found, _Way.SAME, previous)
        if kind != entries.REGULAR:
            return _Item(found, _Way.PLAIN)
        return _Item(found, _Way.IN_RANGES if reading.is_in_ranges(status) else _Way.SMALL)

    def _send(
        self, batch: _Batch, future: Future[_Read] | None, pool: ThreadPoolExecutor | None
    ) -> Iterator[bytes | memoryview]:
        try:
            read = future.result() if future is not None else _read_batch(batch)
            self._ahead = min(max(1, 2 * self._ahead), 2 * self._readers) if read.from_disk else 0
            for item, outcome in zip(batch.items, read.outcomes, strict=True):
                if isinstance(item, _Run):
                    self._send_run(item)
                    yield from self._writer.take()
                    continue
                yield from self._send_item(item, outcome, pool)
                if item.found.status.st_nlink > 1:
                    self._links.seen(item.found.status)
                yield from self._writer.take()
        finally:
            batch.release()

    def _send_item(
        self, item: _Item, outcome: Outcome | None, pool: ThreadPoolExecutor | None
    ) -> Iterator[bytes | memoryview]:
        found = item.found
        if item.way is _Way.SAME and item.previous is not None:
            self._send_same(found, *item.previous)
            return
        if item.way is _Way.LINK:
            first = self._links.first(found.status)
            if first is not None:
                if item.previous is not None and item.previous[1].target == first:
                    self._send_same(found, *item.previous)
                else:
                    self._record(self._entry(found.path, entries.HARD_LINK, found.status, target=first), None)
                return
            # The name before it could not be read, or is gone: this one stands for the file.
            outcome = _read_alone(found)
        match outcome:
            case Reading():
                self._send_reading(found, outcome)
            case Trouble():
                self.report(outcome)
            case Large() | None:
                yield from self._send_ranges(found, pool)

    def _send_reading(self, found: Found, outcome: Reading) -> None:
        status, data = outcome.status, outcome.data
        kind = reading.TYPES[stat.S_IFMT(status.st_mode)]
        is_apart = len(data) >= OWN_SEGMENTS_BYTES
        if is_apart:
            self._writer.cut()
        if data:
            self._writer.data(data)
            self.totals.read_bytes += len(data)
        if is_apart:
            self._writer.cut()
        entry = self._entry(found.path, kind, status, len(data), outcome.target, outcome.flags)
        if kind in entries.DEVICES:
            entry.major, entry.minor = os.major(status.st_rdev), os.minor(status.st_rdev)
        self._record(entry, outcome.attributes)
        for trouble in (outcome.trouble, outcome.not_kept):
            if trouble is not None:
                self.report(trouble)
        self._links.recorded(status, found.path)

    def _send_run(self, run: _Run) -> None:
        """Refer to files of the previous image. With an equal ctime the attributes are equal too."""
        self._writer.same(run.first, run.files)
        self.totals.files += run.files
        self.totals.content += run.content
        self.totals.same_files += run.regular
        self.totals.same_bytes += run.content

    def _send_same(self, found: Found, number: int, known: Known) -> None:
        """Refer to a file of the previous image that has other names, or is a link."""
        run = _Run(number, 1, int(known.type == entries.REGULAR), known.size)
        self._send_run(run)
        self._links.recorded(found.status, found.path)

    def _send_ranges(self, found: Found, pool: ThreadPoolExecutor | None) -> Iterator[bytes | memoryview]:
        """Send a file range by range; what was sent when it breaks off is kept, with a record that says so."""
        try:
            fd, before = reading.open_regular(found)
        except OSError as error:
            self.report(reading_failed(found.path, error))
            return
        size, failed = 0, None
        self._writer.cut()
        try:
            try:
                for piece in self._ranges.read(fd, before, pool):
                    if isinstance(piece, int):
                        self._writer.hole(piece)
                        size += piece
                    else:
                        self._writer.block(piece)
                        size += len(piece)
                        self.totals.read_bytes += len(piece)
                    yield from self._writer.take()
            except OSError as error:
                failed = error
                if size == 0:
                    self.report(Trouble(found.path, UNREADABLE, reason(error)))
                    return
            attributes = reading.attributes_of(fd)
            not_kept = flags_not_kept(found.path, fd)
            flags, trouble = reading.compare(found.path, before, os.fstat(fd), size)
        finally:
            os.close(fd)
        if failed is not None:
            trouble = reading.broken_off(found.path, failed, size, before.st_size)
        self._record(self._entry(found.path, entries.REGULAR, before, size, flags=flags), attributes)
        self._writer.cut()
        for each in (trouble, not_kept):
            if each is not None:
                self.report(each)
        self._links.recorded(before, found.path)

    def _entry(
        self, path: bytes, kind: int, status: os.stat_result, size: int = 0, target: bytes | None = None, flags: int = 0
    ) -> Entry:
        modified = entries.moment(status.st_mtime_ns)
        if modified != status.st_mtime_ns:
            self.report(Trouble(path, NOT_KEPT, "a time before 1677 or after 2554 is not kept as it is", "time"))
        return Entry(
            kind,
            path,
            status.st_mode & 0o7777,
            status.st_uid,
            status.st_gid,
            self._owners.user(status.st_uid),
            self._owners.group(status.st_gid),
            modified,
            entries.moment(status.st_ctime_ns),
            entries.identity(status.st_dev),
            entries.identity(status.st_ino),
            size,
            target,
            flags,
        )

    def _record(self, entry: Entry, attributes: list[entries.Attribute] | None) -> None:
        self._writer.entry(entries.encode_with_attributes(entry, attributes or []))
        self._count(entry)

    def _count(self, entry: Entry) -> None:
        self.totals.files += 1
        self.totals.content += entry.size


def _read_alone(found: Found) -> Outcome:
    return reading.read_small(found) if stat.S_ISREG(found.status.st_mode) else reading.read_plain(found)


@dataclass(slots=True)
class _Read:
    """What a batch's items gave, and whether blocks of them came from a disk."""

    outcomes: list[Outcome | None]
    from_disk: bool


def _read_batch(batch: _Batch) -> _Read:
    """Read what a batch needs; runs in a thread of its own."""
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_inblock
    outcomes: list[Outcome | None] = []
    for item in batch.items:
        if isinstance(item, _Run):
            outcomes.append(None)
        elif item.way is _Way.SMALL:
            outcomes.append(reading.read_small(item.found))
        elif item.way is _Way.PLAIN:
            outcomes.append(reading.read_plain(item.found))
        else:
            outcomes.append(None)
    return _Read(outcomes, resource.getrusage(resource.RUSAGE_THREAD).ru_inblock > before)
