"""Rewriting: what is needed of containers that hold mostly what nobody needs goes into new ones, so that they can go.

Frames and pages are copied whole, byte for byte, each checked on the way; their ids stay. Order: the copies are
durable, the index knows them, and only then the container is condemned, and goes like any other (``pool.collection``).
A container of which an item cannot be copied is not condemned; what was copied of it by then is held by its copy, and
not copied again. So a rewriting can be stopped at any point, and the next one goes on.

The mark of a container says that who has the naming key vouches for the names in it. A copy is marked only if the
container it comes from bears the right mark, which covers the ids of its frames, and so the names in their heads.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import groupby
from types import TracebackType
from typing import Final, NamedTuple, Self

from strongroom.core.clock import Clock
from strongroom.core.entropy import Entropy
from strongroom.core.errors import IntegrityError, KeyUnavailableError, NotFoundError, UnavailableError
from strongroom.core.ids import UUID_BYTES, DomainId, FrameId, KeyGroupId, MediumId, PageId
from strongroom.formats.container import NO_MARK, Content
from strongroom.formats.errors import DamagedError
from strongroom.formats.segment import SegmentNamer
from strongroom.pool import names
from strongroom.pool.collection import check_item
from strongroom.pool.containers import ContainerWriter, Contents, ItemFacts, read_contents
from strongroom.pool.errors import PoolFullError, PoolReadError
from strongroom.pool.index import Index
from strongroom.pool.series import DEFAULT_CONTAINER_BYTES
from strongroom.pool.store import Store
from strongroom.pool.survey import Survey, Surveyed

NOT_ENCRYPTED: Final = KeyGroupId(bytes(UUID_BYTES))
"""The group of what is not encrypted, as in an image header."""

GroupOf = Callable[[Surveyed], KeyGroupId | None]
"""Tells of which key group the frames of a container are; ``None`` when nobody can tell."""

NamerOf = Callable[[KeyGroupId], SegmentNamer | None]
"""Gives the naming key of a group; ``None`` when it is gone for good, and an error when it cannot be had now."""

_NOT_NOW: Final = (KeyUnavailableError, UnavailableError, NotFoundError, PoolReadError)
_NOT_WHOLE: Final = (IntegrityError, NotFoundError, PoolReadError)


@dataclass(frozen=True, slots=True)
class Limits:
    """What is rewritten in one pass.

    Attributes:
        percent: containers are rewritten of whose items a smaller share of the bytes is needed.
        most_bytes: bytes that are copied at most.
        container_bytes: length at which a new container is sealed.
    """

    percent: int
    most_bytes: int
    container_bytes: int = DEFAULT_CONTAINER_BYTES


@dataclass
class Rewritten:
    """What a rewriting did.

    Attributes:
        containers: those whose needed items were copied, and that are condemned now.
        copied_bytes: bytes of items that were copied.
        without_keys: how many were left because their naming key cannot be had now.
        damaged: those that stay because an item of them is not whole, each with the reason.
        full: why it ended for want of room; empty when it did not.
    """

    containers: list[Surveyed] = field(default_factory=list)
    copied_bytes: int = 0
    without_keys: int = 0
    damaged: list[str] = field(default_factory=list)
    full: str = ""


def choose(sparse: Iterable[Surveyed], limits: Limits) -> tuple[list[Surveyed], int]:
    """Choose what to rewrite in a pass: first what frees most for each byte that is copied.

    Args:
        sparse: containers that are needed in part, the smallest part first.
        limits: of the pass.

    Returns:
        The chosen ones, and how many are left for another pass.
    """
    chosen, left, later = [], limits.most_bytes, 0
    for one in sparse:
        if one.needed_bytes * 100 >= one.item_bytes * limits.percent:
            break  # of those that follow no less is needed
        if one.needed_bytes > left:
            later += 1
            continue
        left -= one.needed_bytes
        chosen.append(one)
    return chosen, later


@dataclass(frozen=True)
class Rewriter:
    """Rewrites containers of one pool.

    Attributes:
        store: the pool's storage.
        index: the pool's index.
        medium: the pool.
        own: the domain that owns it; what others made bears no mark.
        group_of: tells the key group of this domain's containers of frames.
        namer_of: gives naming keys.
        clock: for the new containers.
        entropy: for the new containers.
        pace: waits until so many bytes may be copied.
        check: told, often, how many bytes are copied; what it raises ends the work.
    """

    store: Store
    index: Index
    medium: MediumId
    own: DomainId
    group_of: GroupOf
    namer_of: NamerOf
    clock: Clock
    entropy: Entropy
    pace: Callable[[int], None]
    check: Callable[[int], None]

    def rewrite(self, found: Survey, chosen: Iterable[Surveyed], limits: Limits, *, epoch: int) -> Rewritten:
        """Copy what is needed of containers, and condemn them.

        Args:
            found: what is needed.
            chosen: from :func:`choose`.
            limits: of the pass.
            epoch: the pool's epoch, in which they are condemned.

        Raises:
            PoolWriteError: the storage refused; what was sealed stays.
        """
        told = Rewritten()
        pairs = sorted(((self._kind(one), one) for one in chosen), key=_order)
        try:
            for kind, alike in groupby(pairs, key=lambda pair: pair[0]):
                with _Batch(self, kind, limits.container_bytes, told, epoch) as batch:
                    for _, one in alike:
                        batch.copy(found, one)
                    batch.seal()
        except PoolFullError as error:
            told.full = error.message  # told, not raised: what was condemned by now is to make room
        return told

    def _kind(self, one: Surveyed) -> _Kind:
        may_be_marked = one.origin == self.own and one.content is Content.FRAMES
        return _Kind(one.origin, one.content, self.group_of(one) if may_be_marked else None)


class _Kind(NamedTuple):
    """What may lie in one container; ``group`` is ``None`` for what bears no mark."""

    origin: DomainId
    content: Content
    group: KeyGroupId | None


class _Batch:
    """Containers of one kind being rewritten, and the new ones that are being written: one marked and one not."""

    def __init__(self, rewriter: Rewriter, kind: _Kind, container_bytes: int, told: Rewritten, epoch: int) -> None:
        self._of = rewriter
        self._kind = kind
        self._container_bytes = container_bytes
        self._told = told
        self._epoch = epoch
        self._open: dict[SegmentNamer | None, ContainerWriter] = {}
        self._copied: list[Surveyed] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._open:
            self._open.popitem()[1].abort()

    def copy(self, found: Survey, one: Surveyed) -> None:
        """Copy the needed items of a container, unless one of them is not whole.

        Raises:
            PoolFullError, PoolWriteError: the storage refused.
        """
        try:
            contents = read_contents(self._of.store, one.id, self._of.medium)
            try:
                namer = self._namer_of(contents)
            except _NOT_NOW:
                self._told.without_keys += 1
                return
            self._copy_items(found, one, contents, namer)
        except _NOT_WHOLE as error:
            self._told.damaged.append(f"container '{one.id.hex()}' is not rewritten: {error.message}")
            return
        self._copied.append(one)
        if any(writer.size_bytes >= self._container_bytes for writer in self._open.values()):
            self.seal()

    def seal(self) -> None:
        """Make the copies durable, let the index know, and condemn what they were copied from.

        Raises:
            PoolFullError, PoolWriteError: the storage refused.
        """
        for namer in list(self._open):
            self._seal_one(namer)
        self._of.index.condemn([one.id for one in self._copied], self._epoch)
        self._told.containers += self._copied
        self._copied.clear()

    def _copy_items(self, found: Survey, one: Surveyed, contents: Contents, namer: SegmentNamer | None) -> None:
        key = names.container_key(one.id)
        copied = 0
        for position, item in enumerate(contents.items):
            if position >= one.items:
                break
            if not found.is_needed(one, position):
                continue
            self._of.pace(item.length)
            data = self._of.store.read(key, item.offset, item.length)
            check_item(data, item.id, one.content)
            self._append(item, data, namer)
            copied += 1
            self._told.copied_bytes += item.length
            self._of.check(self._told.copied_bytes)
        if copied != one.needed:
            raise DamagedError("its footer is another one than it was")

    def _append(self, item: ItemFacts, data: bytes, namer: SegmentNamer | None) -> None:
        writer = self._open.get(namer)
        if writer is not None and not writer.fits(len(data), len(item.segments)):
            self._seal_one(namer)
            writer = None
        if writer is None:
            writer = self._open[namer] = ContainerWriter(
                self._of.store,
                medium=self._of.medium,
                origin=self._kind.origin,
                content=self._kind.content,
                clock=self._of.clock,
                entropy=self._of.entropy,
            )
        if self._kind.content is Content.FRAMES:
            writer.append_frame(FrameId(item.id), data)
        else:
            writer.append_page(PageId(item.id), data)

    def _seal_one(self, namer: SegmentNamer | None) -> None:
        writer = self._open.pop(namer)
        self._of.index.add(writer.seal(None if namer is None else namer.mark))

    def _namer_of(self, contents: Contents) -> SegmentNamer | None:
        """Give the naming key that marked a container; ``None`` when it bears no mark that counts."""
        if self._kind.group is None or contents.mark == NO_MARK:
            return None
        namer = self._of.namer_of(self._kind.group)
        if namer is None or not hmac.compare_digest(namer.mark(contents.digest), contents.mark):
            return None
        return namer


def _order(pair: tuple[_Kind, Surveyed]) -> tuple[bytes, int, bytes, bytes]:
    kind, one = pair
    return kind.origin, kind.content, kind.group or b"", one.id  # no group has no bytes
