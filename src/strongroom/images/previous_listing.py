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
from strongroom.formats import entries, image_stream, records
from strongroom.formats.entries import Entry
from strongroom.formats.entry_stream import RecordCutter
from strongroom.formats.image_stream import Known
from strongroom.images.open_pool import OpenPool
from strongroom.images.previous import Referred, not_to_refer_to
from strongroom.images.stored_files import LostSegment, StoredFile, together
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
    files = content = problems = 0
    last = b"/"
    try:
        for known in _known_files(image, pool, usable if image.is_encrypted else None):
            if not known:
                continue
            files += len(known)
            content += sum([file.size for file in known])
            last = known[-1].path
            for part in _in_blocks(known):
                yield image_stream.known(part)
    except _UNREADABLE as error:
        problems = 1
        failed: StrongroomError = error
    if problems:
        message = f"names and attributes of the previous image cannot be read from here on: {failed.message}"
        yield image_stream.problem(last, failed.code, message)
    yield image_stream.end(files, content, problems)


def nothing_known(why: StrongroomError | None = None) -> Iterator[bytes]:
    """Give the list when there is no previous image, or none that may be referred to at all, and why."""
    yield image_stream.MAGIC
    if why is not None:
        yield image_stream.problem(b"/", why.code, f"the previous image is of no use: {why.message}")
    yield image_stream.end(0, 0, int(why is not None))


def _in_blocks(known: list[Known]) -> Iterator[list[Known]]:
    """Cut where a block would be longer than its bound: every file may have a path of 64 KiB, and a link's target."""
    if sum([len(file.path) + len(file.target or b"") for file in known]) < image_stream.MAX_BLOCK_BYTES // 4:
        yield known
    else:
        yield from ([file] for file in known)


def _known_files(image: StoredImage, pool: OpenPool, usable: KeysUsable | None) -> Iterator[list[Known]]:
    if _is_whole(image, pool, usable):
        return _held_back(_plainly(image))
    return _held_back(_marked(image, pool, usable))


def _held_back(files: Iterator[list[Known]]) -> Iterator[list[Known]]:
    """Give each file when the next one is there: what belongs to the last one before damage may be lost with it."""
    before: list[Known] = []
    for known in files:
        if known:
            yield before + known[:-1]
            before = known[-1:]
    yield before


def _plainly(image: StoredImage) -> Iterator[list[Known]]:
    """Give the files as their records have them.

    Only the elements that a client compares are read. Whoever refers to a file has its whole record checked
    (``images.previous``), and the client checks the order.
    """
    cutter = RecordCutter()
    for data in together(image.stored_entries()):
        bodies = cutter.feed(data)
        known = records.decode_beginnings(bodies, Known)
        if known is None:
            known = [Known.of(record) for record in entries.decode_all(bodies) if isinstance(record, Entry)]
        yield known


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


def _marked(image: StoredImage, pool: OpenPool, usable: KeysUsable | None) -> Iterator[list[Known]]:
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
                yield _mark(batch, pool, usable)
                batch, frames = [], 0
    except _UNREADABLE:
        yield _mark(batch, pool, usable)
        raise
    yield _mark(batch, pool, usable)


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


def _mark(batch: list[tuple[Known, Referred]], pool: OpenPool, usable: KeysUsable | None) -> list[Known]:
    all_of_them: Referred = {}
    for _, referred in batch:
        all_of_them.update(referred)
    lost = not_to_refer_to(all_of_them, pool, usable)
    for known, referred in batch:
        if not lost.isdisjoint(referred):
            known.flags |= image_stream.CONTENTS_LOST
    return [known for known, _ in batch]
