"""Mending containers: what is whole in a damaged one goes into a new one, and the damaged file is put aside.

Nothing is deleted, and nothing is changed in place: whole items are durable in their new container, and the index
knows them, before the damaged file loses its name. So a repair can be stopped at any point and done again. Items are
checked by their digests as on arrival, and need no key.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, NamedTuple

from strongroom.core.clock import Clock
from strongroom.core.entropy import Entropy
from strongroom.core.errors import IntegrityError
from strongroom.core.ids import ContainerId, DomainId, FrameId, MediumId, PageId
from strongroom.formats import container as format
from strongroom.formats import frame, manifest_page
from strongroom.formats.errors import DamagedError, ForeignError, NewerFormatError
from strongroom.pool import names
from strongroom.pool.containers import ContainerWriter, list_containers, read_contents
from strongroom.pool.errors import ObjectMissingError, PoolReadError
from strongroom.pool.index import Index
from strongroom.pool.locks import Locks, shown_end
from strongroom.pool.store import MendableStore
from strongroom.pool.verify import Problem, decode_page, verify_container

_MOST_PROBLEMS: Final = 10
_NOT_OURS: Final = frozenset({NewerFormatError.code, ForeignError.code})
_KEEP: Final = frozenset({PoolReadError.code})


class Place(NamedTuple):
    """Where a whole item lies in a damaged container."""

    container: ContainerId
    offset: int
    length: int


@dataclass(slots=True)
class Mended:
    """A damaged container, and what was, or would be, done about it.

    Attributes:
        container: which.
        problems: what is wrong with it, the first few.
        whole: items in it that are whole.
        copied: those of them that lie nowhere else, and go into a new container.
        lost: items that its footer lists and that are not whole; ``None`` when no footer says what there was.
        aside: where the damaged file lies now; empty while it has its name.
        why_kept: why it keeps its name; empty when it does not.
    """

    container: ContainerId
    problems: list[Problem]
    whole: int = 0
    copied: int = 0
    lost: int | None = None
    aside: str = ""
    why_kept: str = ""


@dataclass(slots=True)
class Survey:
    """What is wrong with the containers of a pool.

    Attributes:
        damaged: containers with problems.
        stale: whole containers of which the index has something else than their footers say.
        gone: containers that the index has, and the storage has not.
    """

    damaged: dict[ContainerId, Mended] = field(default_factory=dict)
    stale: list[ContainerId] = field(default_factory=list)
    gone: list[ContainerId] = field(default_factory=list)


class ContainerRepair:
    """Looks at every container of a pool, and mends them.

    Args:
        store: the pool's storage.
        index: the pool's index.
        locks: the pool's retention locks.
        medium: the pool.
        origins: domains whose images lie here: a damaged header that names none of them is not believed.
        clock: for new containers.
        entropy: for new containers.

    Attributes:
        saved: whole items of damaged containers that lie nowhere else.
    """

    def __init__(
        self,
        store: MendableStore,
        index: Index,
        locks: Locks,
        *,
        medium: MediumId,
        origins: Collection[DomainId],
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self.saved: dict[tuple[bytes, DomainId], Place] = {}
        self._store = store
        self._index = index
        self._locks = locks
        self._medium = medium
        self._origins = frozenset(origins)
        self._clock = clock
        self._entropy = entropy
        self._survey = Survey()

    def survey(self) -> Survey:
        """Verify every container, and compare the index with their footers.

        Raises:
            PoolReadError: the storage cannot be listed.
        """
        known = {container for container, *_ in self._index.containers()}
        for container in list_containers(self._store):
            problems = list(islice(verify_container(self._store, container, self._medium), _MOST_PROBLEMS))
            if problems:
                self._survey.damaged[container] = Mended(container, problems)
            else:
                contents = read_contents(self._store, container, self._medium)
                if container not in known or self._index.mark(container) != (contents.digest, contents.mark):
                    self._survey.stale.append(container)
            known.discard(container)
        self._survey.gone = sorted(known)
        return self._survey

    def refresh_index(self) -> None:
        """Enter what the footers of whole containers say, and forget containers that are gone."""
        for container in (*self._survey.stale, *self._survey.gone):
            self._index.remove(container)
        for container in self._survey.stale:
            self._index.add(read_contents(self._store, container, self._medium))

    def mend(self, container: ContainerId, *, dry_run: bool) -> Mended:
        """Save what is whole in a damaged container, and put the container aside.

        One that cannot be read for an error of the storage keeps its name: the next try may read more of it. So does
        one of a later version, or of another pool, and one that is locked; what is copied is locked as long as it.

        Args:
            container: one that :meth:`survey` found damaged.
            dry_run: only say what would be done.

        Raises:
            PoolFullError, PoolWriteError: the storage refused; the container keeps its name.
        """
        mended = self._survey.damaged[container]
        codes = {problem.code for problem in mended.problems}
        if codes & _NOT_OURS:
            mended.why_kept = "it belongs to another pool, or to a later release"
            return mended
        header = self._header(container)
        until_ns = self._locks.until_ns(names.container_key(container))
        if header is not None:
            self._save(container, header, mended, until_ns, dry_run=dry_run)
        if codes & _KEEP:
            mended.why_kept = "the storage refused to read parts of it: look at the disk, and repair again"
        elif until_ns > self._locks.now_ns():
            mended.why_kept = f"it is locked until {shown_end(until_ns)} of the pool's lock clock"
        elif not dry_run:
            mended.aside = self._store.set_aside(names.container_key(container))
            self._index.remove(container)
        return mended

    def is_present(self, item: bytes, origin: DomainId) -> bool:
        """Tell whether a frame or page lies whole in the pool, or was saved, as far as the survey tells."""
        return (item, origin) in self.saved or self._is_elsewhere(item, origin)

    def read_saved(self, item: bytes, origin: DomainId) -> bytes | None:
        """Read an item out of the damaged container that it was, or would be, saved from; ``None`` if it was not."""
        place = self.saved.get((item, origin))
        if place is None:
            return None
        return self._store.read(names.container_key(place.container), place.offset, place.length)

    def _is_elsewhere(self, item: bytes, origin: DomainId) -> bool:
        found = self._index.locate([FrameId(item)], origin).get(item, [])
        return any(place.container not in self._survey.damaged for place in found)

    def _header(self, container: ContainerId) -> format.Header | None:
        """Read a header as far as it can be believed."""
        try:
            raw = self._store.read(names.container_key(container), 0, format.HEADER_BYTES + frame.FIXED_BYTES)
        except (ObjectMissingError, PoolReadError):
            return None  # the survey has named it
        try:
            header = format.decode_header(raw)
        except DamagedError:
            guessed = format.guess_header(raw, container, self._medium)
            return guessed if guessed is not None and guessed.origin in self._origins else None
        return header if header.medium == self._medium else None

    def _save(
        self, container: ContainerId, header: format.Header, mended: Mended, until_ns: int, *, dry_run: bool
    ) -> None:
        """Copy the whole items that lie nowhere else into new containers, locked as long as the damaged one."""
        new: ContainerWriter | None = None
        try:
            for offset, item, data in self._whole_items(container, header, mended):
                mended.whole += 1
                if self.is_present(item, header.origin):
                    continue
                mended.copied += 1
                self.saved[item, header.origin] = Place(container, offset, len(data))
                if not dry_run:
                    new = self._append(new, header, item, data, until_ns)
            if new is not None:
                self._seal(new, until_ns)
                new = None
        finally:
            if new is not None:
                new.abort()

    def _seal(self, new: ContainerWriter, until_ns: int) -> None:
        contents = new.seal()
        if until_ns > self._locks.now_ns():
            self._locks.lock([names.container_key(contents.header.container)], until_ns)
        self._index.add(contents)

    def _append(
        self, new: ContainerWriter | None, header: format.Header, item: bytes, data: bytes, until_ns: int
    ) -> ContainerWriter:
        segments = len(frame.parse_head(data).segments) if header.content is format.Content.FRAMES else 0
        if new is not None and not new.fits(len(data), segments):
            self._seal(new, until_ns)
            new = None
        if new is None:
            new = ContainerWriter(
                self._store,
                medium=self._medium,
                origin=header.origin,
                content=header.content,
                clock=self._clock,
                entropy=self._entropy,
            )
        if header.content is format.Content.FRAMES:
            new.append_frame(FrameId(item), data)
        else:
            new.append_page(PageId(item), data)
        return new

    def _whole_items(
        self, container: ContainerId, header: format.Header, mended: Mended
    ) -> Iterator[tuple[int, bytes, bytes]]:
        """Give offset, id and bytes of each whole item: by the footer if that holds, else from the front."""
        key = names.container_key(container)
        footer = self._footer(key, header)
        if footer is None:
            yield from self._scanned(key, header)
            return
        mended.lost = 0
        for item in footer.items():
            try:
                data = self._store.read(key, item.offset, item.length)
                found = _check(data, header.content)
            except (IntegrityError, PoolReadError):
                found = b""
            if found == item.id:
                yield item.offset, found, data
            else:
                mended.lost += 1

    def _footer(self, key: str, header: format.Header) -> format.Footer | None:
        raw = format.encode_header(header)
        try:
            size = self._store.size(key)
            tail = format.decode_tail(self._store.read(key, max(0, size - format.TAIL_BYTES), format.TAIL_BYTES), size)
            return format.decode_footer(raw, self._store.read(key, tail.footer_offset, tail.footer_length), tail)
        except (IntegrityError, PoolReadError):
            return None

    def _scanned(self, key: str, header: format.Header) -> Iterator[tuple[int, bytes, bytes]]:
        raw = format.encode_header(header)

        def read(offset: int, length: int) -> bytes:
            return raw[:length] if offset == 0 else self._store.read(key, offset, length)

        try:
            for offset, data in format.scan(read):
                yield offset, _check(data, header.content), data
        except (IntegrityError, PoolReadError):
            return  # the end of what is whole


def _check(data: bytes, content: format.Content) -> bytes:
    """Check an item as on arrival, and give its id.

    Raises:
        DamagedError, NewerFormatError: it does not hold.
    """
    if content is format.Content.FRAMES:
        item = FrameId(frame.frame_id(data))
        frame.check(data, item)
        return item
    page = PageId(manifest_page.page_id(data))
    decode_page(data, page)
    return page
