"""A stored image, open for reading: its two streams, its entries, and where its keys come from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from strongroom.core.ids import DataKeyId, EnvelopeId, PageId
from strongroom.formats import frame, key_page
from strongroom.formats.copy_header import CheckedCopy
from strongroom.formats.entries import End, Record
from strongroom.formats.errors import DamagedError
from strongroom.formats.records import check_ascending
from strongroom.images.errors import BrokenImageError
from strongroom.images.keys import KeyOpener, OpenedKeys
from strongroom.images.open_pool import OpenPool
from strongroom.images.stored_files import StoredFile, StoredRecords, read_records, read_stored, stored_files
from strongroom.pool.manifest import (
    FetchPage,
    PageDamage,
    StreamRoot,
    leaves,
    read_manifest,
    readable_references,
    references_of,
    without_repeats,
)
from strongroom.pool.reader import FrameReader
from strongroom.pool.references import Reference
from strongroom.pool.seek import SeekableStream


@dataclass(frozen=True)
class Roots:
    """The two streams of an image."""

    entries: StreamRoot
    payload: StreamRoot

    @classmethod
    def of(cls, copy: CheckedCopy) -> Self:
        """Take the streams that apply to a copy."""
        return cls(*(StreamRoot(PageId(s.root), s.segments, s.bytes) for s in copy.streams))


def envelopes_of(pool: OpenPool, copy: CheckedCopy, fetch: FetchPage | None = None) -> list[EnvelopeId]:
    """Read the key pages of a copy: the envelopes that it needs, ascending.

    Args:
        pool: where they lie.
        copy: its copy header, checked.
        fetch: gives pages in the pool's stead.

    Raises:
        DamagedError, PageMissingError: a key page is not what, or where, it must be.
    """
    fetch = fetch or pool.pages(copy.image.signer).page
    found: list[EnvelopeId] = []
    for page in copy.copy.payload.key_pages:
        found.extend(key_page.decode(fetch(PageId(page)), PageId(page)))
    try:
        check_ascending(found, "key pages")
    except ValueError as error:
        raise DamagedError(f"the key pages of the copy are not in order: {error}") from error
    return found


class StoredImage:
    """Reads one image. Close it when done: it has threads that read ahead.

    Args:
        pool: where it lies.
        copy: its copy header, checked.
        opener: unwraps its data keys; not asked when the image is not encrypted. ``None`` reads what needs no key.
        threads: threads that read and decrypt.
    """

    def __init__(self, pool: OpenPool, copy: CheckedCopy, opener: KeyOpener | None, *, threads: int = 2) -> None:
        origin = copy.image.signer
        self.roots = Roots.of(copy)
        self.is_encrypted = copy.copy.payload.encrypted
        self._totals = End(copy.image.payload.files, copy.image.payload.content)
        self.pages = pool.pages(origin)
        self._keys = OpenedKeys(opener, pool.envelopes, origin)
        self.frames = FrameReader(pool.store, pool.index, origin=origin, key_for=self._keys, threads=threads)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop reading ahead."""
        self.frames.close()

    def references(self, root: StreamRoot) -> Iterator[Reference]:
        """Give the references of a stream, having the keys of each leaf page unwrapped at once."""
        for _, leaf in leaves(root, self.pages.page, is_encrypted=self.is_encrypted):
            self._keys.need({DataKeyId(row.data_key) for row in leaf.frames} - {frame.NO_KEY})
            yield from references_of(leaf)

    def payload_references(self) -> Iterator[Reference]:
        """Give the references of the payload without asking for any key."""
        return without_repeats(read_manifest(self.roots.payload, self.pages.page, is_encrypted=self.is_encrypted))

    def records(self) -> Iterator[Record]:
        """Give the records of the entries, checked; their end must say what the image header says.

        Raises:
            KeyUnavailableError: the KMS has no usable key for them.
            BrokenImageError, DamagedError: the image is not as its pages and header say.
            FrameMissingError, PageMissingError, PoolReadError: a part of it cannot be read.
        """
        for record in read_records(self.stored_entries()):
            if isinstance(record, End) and record != self._totals:
                raise BrokenImageError(
                    f"the entries end with {record.files} files of {record.content} bytes,"
                    f" and the image header says {self._totals.files} of {self._totals.content}"
                )
            yield record

    def stored_records(self) -> Iterator[StoredRecords]:
        """Give the records of the entries, checked, some at a time.

        Raises:
            KeyUnavailableError, BrokenImageError, DamagedError: as :meth:`records`.
            FrameMissingError, PageMissingError, PoolReadError: as :meth:`records`.
        """
        return read_stored(self.stored_entries())

    def stored_entries(self) -> Iterator[memoryview]:
        """Give the bytes of the entries, segment by segment; raises as :meth:`records`, but for what they say."""
        return self.frames.read(self.references(self.roots.entries))

    def files(self) -> Iterator[StoredFile]:
        """Give the files with the references of their contents; contents are not read, nor their keys asked for."""
        return stored_files(self.records(), self.payload_references())

    def readable_payload(self) -> Iterator[Reference | PageDamage]:
        """Give the references of the payload, and the damage in place of those that cannot be read."""
        return without_repeats(readable_references(self.roots.payload, self.pages.page, is_encrypted=self.is_encrypted))

    def payload_from(self, number: int) -> Iterator[Reference]:
        """Give the references of the payload from one of them on, without asking for any key.

        Raises:
            DamagedError, NewerFormatError, PageMissingError, PoolReadError: a page cannot be read.
        """
        return SeekableStream(self.roots.payload, self.pages.page, is_encrypted=self.is_encrypted).from_number(number)

    def readable_files(self) -> Iterator[StoredFile]:
        """Give the files as :meth:`files` does, also those whose contents no page names any more."""
        return stored_files(self.records(), self.readable_payload())

    def need_keys_of(self, references: list[Reference]) -> None:
        """Have the keys of these references unwrapped at once."""
        self._keys.need({reference.data_key_id for reference in references} - {frame.NO_KEY})
