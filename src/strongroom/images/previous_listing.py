"""The files of the previous image, as a client is told of them before a backup: what it compares its files with.

A file is marked when the new image must not refer to its contents: frames or pages that the pool lost, or frames under
a key that is no longer used. The client reads such a file again, and no other. Whether anything is lost is asked of the
manifest's leaf pages, frame by frame; only if something is, file by file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from strongroom.core.errors import IntegrityError, KeyUnavailableError, NotFoundError, StrongroomError
from strongroom.core.ids import DataKeyId, FrameId
from strongroom.formats import image_stream
from strongroom.formats.entries import Entry
from strongroom.formats.image_stream import Known
from strongroom.images.open_pool import OpenPool
from strongroom.images.previous import Referred, not_to_refer_to
from strongroom.images.stored_files import LostSegment, StoredFile
from strongroom.images.stored_image import StoredImage
from strongroom.pool.errors import PoolReadError
from strongroom.pool.keys import KeysUsable
from strongroom.pool.manifest import PageDamage, leaves

_FILES_AT_ONCE: Final = 2_048
_FRAMES_AT_ONCE: Final = 4_096
_UNREADABLE: Final = (IntegrityError, NotFoundError, KeyUnavailableError, PoolReadError)


def previous_listing(image: StoredImage, pool: OpenPool, usable: KeysUsable) -> Iterator[bytes]:
    """Give the files of an image without contents, those marked whose contents must be read anew.

    Entries that cannot be read end the list early, with a problem that says why: the client reads the files behind.

    Args:
        image: open for reading.
        pool: where it lies.
        usable: tells which data keys may be referred to.
    """
    yield image_stream.MAGIC
    files = content = listed_bytes = problems = 0
    known: list[Known] = []
    try:
        for found in _known_files(image, pool, usable if image.is_encrypted else None):
            files += 1
            content += found.size
            known.append(found)
            listed_bytes += len(found.path) + len(found.target or b"")
            if len(known) == _FILES_AT_ONCE or listed_bytes >= image_stream.MAX_BLOCK_BYTES // 4:
                yield image_stream.known(known)
                known, listed_bytes = [], 0
    except _UNREADABLE as error:
        problems = 1
        failed: StrongroomError = error
    if known:
        yield image_stream.known(known)
    if problems:
        message = f"names and attributes of the previous image cannot be read from here on: {failed.message}"
        yield image_stream.problem(known[-1].path if known else b"/", failed.code, message)
    yield image_stream.end(files, content, problems)


def nothing_known(why: StrongroomError | None = None) -> Iterator[bytes]:
    """Give the list when there is no previous image, or none that may be referred to at all, and why."""
    yield image_stream.MAGIC
    if why is not None:
        yield image_stream.problem(b"/", why.code, f"the previous image is of no use: {why.message}")
    yield image_stream.end(0, 0, int(why is not None))


def _known_files(image: StoredImage, pool: OpenPool, usable: KeysUsable | None) -> Iterator[Known]:
    if _is_whole(image, pool, usable):
        return _held_back(Known.of(record) for record in image.records() if isinstance(record, Entry))
    return _held_back(_marked(image, pool, usable))


def _held_back(files: Iterator[Known]) -> Iterator[Known]:
    """Give each file when the next one is there: what belongs to the last one before damage may be lost with it."""
    before = next(files, None)
    for known in files:
        if before is not None:
            yield before
        before = known
    if before is not None:
        yield before


def _is_whole(image: StoredImage, pool: OpenPool, usable: KeysUsable | None) -> bool:
    """Tell whether the new image may refer to all contents."""
    damaged: list[PageDamage] = []
    referred: Referred = {}
    root = image.roots.payload
    for _, leaf in leaves(root, image.pages.page, is_encrypted=image.is_encrypted, on_damage=damaged.append):
        if damaged:
            return False
        referred.update((FrameId(row.frame), DataKeyId(row.data_key)) for row in leaf.frames)
        if len(referred) >= _FRAMES_AT_ONCE:
            if not_to_refer_to(referred, pool, usable):
                return False
            referred.clear()
    return not damaged and not not_to_refer_to(referred, pool, usable)


def _marked(image: StoredImage, pool: OpenPool, usable: KeysUsable | None) -> Iterator[Known]:
    """Give the files, marked where needed, in batches that are bounded by the frames that their contents lie in."""
    batch: list[tuple[Known, Referred]] = []
    frames = 0
    try:
        for file in image.readable_files():
            known = Known.of(file.entry)
            referred, is_lost = _frames_of(file, pool, usable)
            if is_lost:
                known.flags |= image_stream.CONTENTS_LOST
            batch.append((known, referred))
            frames += len(referred)
            if frames >= _FRAMES_AT_ONCE or len(batch) == _FILES_AT_ONCE:
                yield from _mark(batch, pool, usable)
                batch, frames = [], 0
    except _UNREADABLE:
        yield from _mark(batch, pool, usable)
        raise
    yield from _mark(batch, pool, usable)


def _frames_of(file: StoredFile, pool: OpenPool, usable: KeysUsable | None) -> tuple[Referred, bool]:
    """Give the frames of a file that are still to be looked for, and whether some are lost for sure."""
    referred: Referred = {}
    is_lost = False
    for source, _, _ in file.extents:
        if is_lost or source is None:
            continue
        if isinstance(source, LostSegment):
            is_lost = True
        else:
            referred[source.frame_id] = source.data_key_id
            if len(referred) >= _FRAMES_AT_ONCE:
                is_lost = bool(not_to_refer_to(referred, pool, usable))
                referred = {}
    return ({} if is_lost else referred), is_lost


def _mark(batch: list[tuple[Known, Referred]], pool: OpenPool, usable: KeysUsable | None) -> Iterator[Known]:
    all_of_them: Referred = {}
    for _, referred in batch:
        all_of_them.update(referred)
    lost = not_to_refer_to(all_of_them, pool, usable)
    for known, referred in batch:
        if not lost.isdisjoint(referred):
            known.flags |= image_stream.CONTENTS_LOST
        yield known
