"""Verifying images and containers: says all that is wrong, and does not stop at the first."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeAlias

from strongroom.core.errors import IntegrityError, KeyUnavailableError, NotFoundError, StrongroomError
from strongroom.core.ids import ContainerId, DataKeyId, FrameId, MediumId, PageId
from strongroom.formats import container as container_format
from strongroom.formats import frame, key_page, manifest_page
from strongroom.formats.manifest_page import FrameRow, Leaf
from strongroom.pool import names
from strongroom.pool.containers import Contents, read_contents
from strongroom.pool.errors import ObjectMissingError, PoolReadError
from strongroom.pool.manifest import PageDamage, SeenPages, StreamRoot, leaves, references_of
from strongroom.pool.reader import FrameReader, PageReader, check_reference
from strongroom.pool.store import Store

KeysCovered: TypeAlias = Callable[[Collection[DataKeyId]], Collection[DataKeyId]]
"""Gives those of the data keys that a valid envelope at hand holds."""

_MOST_HEADS: Final = 200_000
"""Segments in the heads that are remembered, some tens of MiB."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong with an image, or with a container.

    Attributes:
        code: code of the error that describes it.
        message: what is wrong.
        stream: name of the stream; empty for a container.
        first_segment: number, in the stream, of the first segment that is affected.
        segments: how many segments from there on may be affected.
        frame: the frame, if it is one.
        container: the container, as far as it is known.
    """

    code: str
    message: str
    stream: str = ""
    first_segment: int = 0
    segments: int = 0
    frame: FrameId | None = None
    container: ContainerId | None = None


class ImageVerifier:
    """Verifies one image after the other; remembers which containers it has looked at.

    Args:
        store: the pool's storage.
        pages: reads pages of the image's origin.
        frames: reads frames of the image's origin.
        covered: tells which data keys have an envelope.
        medium: the pool.
        with_keys: decrypt and decompress too; else nothing needs a key.
        threads: threads that read and digest frames.
    """

    def __init__(
        self,
        store: Store,
        *,
        pages: PageReader,
        frames: FrameReader,
        covered: KeysCovered,
        medium: MediumId,
        with_keys: bool,
        threads: int = 2,
    ) -> None:
        self._store = store
        self._medium = medium
        self._pages = pages
        self._frames = frames
        self._covered = covered
        self._with_keys = with_keys
        self._threads = threads
        self._checked: set[ContainerId] = set()

    def verify(self, streams: Mapping[str, StreamRoot], *, is_encrypted: bool) -> Iterator[Problem]:
        """Verify the streams of an image down to the digests of their frames, or to the plaintext.

        Args:
            streams: name and root of each stream, from a verified image header.
            is_encrypted: whether the image is, from the same.

        Yields:
            Every problem; nothing when the image is whole.
        """
        keys: set[DataKeyId] = set()
        seen: SeenPages = {}
        heads = _Heads()
        with ThreadPoolExecutor(self._threads, thread_name_prefix="verify") as executor:
            for stream, root in streams.items():
                damages: deque[PageDamage] = deque()
                visit = leaves(root, self._pages.page, is_encrypted=is_encrypted, on_damage=damages.append, seen=seen)
                for first, leaf in visit:
                    yield from _page_problems(stream, damages)
                    yield from self._verify_keys(stream, root, leaf, keys)
                    yield from self._verify_leaf(stream, first, leaf, heads, executor)
                yield from _page_problems(stream, damages)

    def _verify_keys(self, stream: str, root: StreamRoot, leaf: Leaf, seen: set[DataKeyId]) -> Iterator[Problem]:
        asked = {DataKeyId(row.data_key) for row in leaf.frames} - seen - {frame.NO_KEY}
        seen |= asked
        for key in sorted(asked.difference(self._covered(asked)) if asked else ()):
            yield Problem(
                "pool.data-key-missing",
                f"no envelope holds the data key '{key.hex()}'",
                stream,
                0,
                root.segments,
            )

    def _verify_leaf(
        self, stream: str, first: int, leaf: Leaf, heads: _Heads, executor: ThreadPoolExecutor
    ) -> Iterator[Problem]:
        bad: set[bytes] = set()
        for row, result in self._checks(leaf, heads, executor):
            frame_id = FrameId(row.frame)
            try:
                head, container = result.result()
            except StrongroomError as error:
                bad.add(row.frame)
                index = leaf.frames.index(row)
                numbers = [n for n, reference in enumerate(leaf.references) if reference.frame_index == index]
                yield _problem_of(error, stream, first + numbers[0], numbers[-1] - numbers[0] + 1, frame_id)
                continue
            heads.put(row.frame, head, container)
            yield from self._verify_container(container)
        for number, reference in enumerate(references_of(leaf), first):
            if reference.frame_id in bad:
                continue
            head, container = heads.get(reference.frame_id)
            try:
                check_reference(reference, head, head.stored_bytes)
            except IntegrityError as error:
                yield Problem(error.code, error.message, stream, number, 1, reference.frame_id, container)
        heads.trim()

    def _checks(
        self, leaf: Leaf, heads: _Heads, executor: ThreadPoolExecutor
    ) -> Iterator[tuple[FrameRow, Future[tuple[frame.Head, ContainerId]]]]:
        """Check the frames of a leaf that are not remembered, a few at a time ahead of whoever asks."""
        under_way: deque[tuple[FrameRow, Future[tuple[frame.Head, ContainerId]]]] = deque()
        for row in leaf.frames:
            if not heads.has(row.frame):
                under_way.append((row, executor.submit(self._check_frame, FrameId(row.frame))))
            if len(under_way) > 2 * self._threads:
                yield under_way.popleft()
        yield from under_way

    def _check_frame(self, frame_id: FrameId) -> tuple[frame.Head, ContainerId]:
        stored = self._frames.stored(frame_id)
        if self._with_keys:
            self._frames.decrypt(stored, frame_id)
        return stored.head, stored.container

    def _verify_container(self, container: ContainerId) -> Iterator[Problem]:
        """Check header, footer and tail of a container, once."""
        if container in self._checked:
            return
        self._checked.add(container)
        try:
            read_contents(self._store, container, self._medium)
        except ObjectMissingError:
            return  # collected since the frame was read from it; a frame that is nowhere is told as such
        except (IntegrityError, NotFoundError, PoolReadError) as error:
            yield Problem(error.code, error.message, container=container)


def verify_container(
    store: Store, container: ContainerId, medium: MediumId, pace: Callable[[int], None] = lambda _: None
) -> Iterator[Problem]:
    """Verify a sealed container without a key: header, footer, tail, and the digest of every item.

    Args:
        store: the pool's storage.
        container: which.
        medium: the pool.
        pace: told, before each item is read, how many bytes that are; may wait, and what it raises ends the work.

    Yields:
        Every problem; nothing when the container is whole.
    """
    try:
        contents = read_contents(store, container, medium)
    except (IntegrityError, NotFoundError, PoolReadError) as error:
        yield Problem(error.code, error.message, container=container)
        return
    yield from _verify_items(store, contents, pace)


def _verify_items(store: Store, contents: Contents, pace: Callable[[int], None]) -> Iterator[Problem]:
    container = contents.header.container
    key = names.container_key(container)
    is_frames = contents.header.content is container_format.Content.FRAMES
    for item in contents.items:
        pace(item.length)
        try:
            data = store.read(key, item.offset, item.length)
            if is_frames:
                head = frame.check(data, FrameId(item.id))
                if (head.segments, head.data_key) != (item.segments, item.data_key):
                    yield Problem(
                        "format.damaged",
                        f"the footer of container '{container.hex()}' says something else"
                        f" of frame '{item.id.hex()}' than the frame's head",
                        frame=FrameId(item.id),
                        container=container,
                    )
            else:
                decode_page(data, PageId(item.id))
        except (IntegrityError, NotFoundError, PoolReadError) as error:
            frame_id = FrameId(item.id) if is_frames else None
            yield Problem(
                error.code,
                f"{error.message}, in container '{container.hex()}'",
                frame=frame_id,
                container=container,
            )


def decode_page(data: bytes, expected: PageId) -> None:
    """Verify a page of either kind, whichever its magic says.

    Raises:
        DamagedError, NewerFormatError: it does not hold.
    """
    if data.startswith(key_page.MAGIC):
        key_page.decode(data, expected)
    else:
        manifest_page.decode(data, expected)


def _page_problems(stream: str, damages: deque[PageDamage]) -> Iterator[Problem]:
    while damages:
        damage = damages.popleft()
        yield Problem(damage.error.code, damage.error.message, stream, damage.first_segment, damage.segments)


def _problem_of(error: StrongroomError, stream: str, first: int, count: int, frame_id: FrameId) -> Problem:
    """Make a problem of what is wrong with a frame; an error that says nothing about the frame goes on."""
    if not isinstance(error, IntegrityError | NotFoundError | PoolReadError | KeyUnavailableError):
        raise error
    named = error.context.get("container")
    container = ContainerId(bytes.fromhex(named)) if isinstance(named, str) else None
    return Problem(error.code, error.message, stream, first, count, frame_id, container)


class _Heads:
    """Heads of frames that were found whole, the latest ones."""

    def __init__(self) -> None:
        self._heads: OrderedDict[bytes, tuple[frame.Head, ContainerId]] = OrderedDict()
        self._segments = 0

    def has(self, frame_id: bytes) -> bool:
        if frame_id in self._heads:
            self._heads.move_to_end(frame_id)
            return True
        return False

    def get(self, frame_id: bytes) -> tuple[frame.Head, ContainerId]:
        return self._heads[frame_id]

    def put(self, frame_id: bytes, head: frame.Head, container: ContainerId) -> None:
        self._heads[frame_id] = (head, container)
        self._segments += len(head.segments)

    def trim(self) -> None:
        """Forget the oldest; only between two leaves, so that a leaf finds all of its own."""
        while self._segments > _MOST_HEADS:
            _, (head, _) = self._heads.popitem(last=False)
            self._segments -= len(head.segments)
