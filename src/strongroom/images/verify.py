"""Verifying a stored image: without any key down to the digests of its frames, or with its keys to the plaintext."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Final

from strongroom.core.errors import IntegrityError, NotFoundError
from strongroom.core.ids import DataKeyId, FrameId, KeyGroupId
from strongroom.formats import entries
from strongroom.formats.copy_header import CheckedCopy
from strongroom.images.keys import KeyOpener
from strongroom.images.open_pool import OpenPool
from strongroom.images.stored_files import LostSegment, Source
from strongroom.images.stored_image import StoredImage, envelopes_of
from strongroom.pool.errors import PoolReadError
from strongroom.pool.verify import ImageVerifier, Problem

FILE_DAMAGED: Final = "image.file-damaged"
"""Code of the problem that names a file."""


def verify_image(pool: OpenPool, copy: CheckedCopy, opener: KeyOpener | None) -> Iterator[Problem]:
    """Verify an image as far as the copy header and what it names go.

    Args:
        pool: where the copy lies.
        copy: its copy header, checked.
        opener: unwraps data keys, to verify the plaintext and that entries and contents fit together; ``None``
            verifies what can be verified without a key, which is all of an image that is not encrypted.

    Yields:
        Every problem; nothing when the image is whole.

    Raises:
        KeyUnavailableError: the KMS has no usable key.
    """
    origin = copy.image.signer
    try:
        envelopes = envelopes_of(pool, copy)
    except (IntegrityError, NotFoundError, PoolReadError) as error:
        yield Problem(error.code, error.message)
        return
    for missing in pool.envelopes.absent(origin, envelopes):
        yield Problem("images.envelope-missing", f"the pool has no key envelope '{missing.hex()}' that the image needs")
    covered = pool.envelopes.data_keys(origin, KeyGroupId(copy.image.payload.key_group), envelopes)

    def held(keys: Collection[DataKeyId]) -> set[DataKeyId]:
        return covered.intersection(keys)

    with StoredImage(pool, copy, opener) as image:
        verifier = ImageVerifier(
            pool.store,
            pages=image.pages,
            frames=image.frames,
            covered=held,
            medium=pool.medium,
            with_keys=opener is not None,
        )
        streams = {"entries": image.roots.entries, "payload": image.roots.payload}
        whole = True
        lost: dict[FrameId, Problem] = {}
        for problem in verifier.verify(streams, is_encrypted=image.is_encrypted):
            whole = False
            if problem.frame is not None:
                lost.setdefault(problem.frame, problem)
            yield problem
        if image.is_encrypted and opener is None:
            if whole:
                yield from _verify_payload(image)
        elif whole:
            yield from _verify_entries(image)
        else:
            yield from damaged_files(image, lost)


def damaged_files(image: StoredImage, lost: Mapping[FrameId, Problem]) -> Iterator[Problem]:
    """Name the files whose contents lie in frames that are lost, or behind pages that cannot be read.

    Args:
        image: open, with its keys if it is encrypted.
        lost: what is wrong with each frame.

    Yields:
        One problem for each file, as far as the entries can be read.
    """
    try:
        for file in image.readable_files():
            problem = next(filter(None, (_lost_at(source, lost) for source, _, _ in file.extents)), None)
            if problem is not None:
                yield Problem(
                    FILE_DAMAGED,
                    f"contents of {entries.shown(file.entry.path)} are lost: {problem.message}",
                    "payload",
                    frame=problem.frame,
                    container=problem.container,
                )
    except (IntegrityError, NotFoundError, PoolReadError) as error:
        yield Problem(error.code, f"files behind this cannot be named: {error.message}", "entries")


def _lost_at(source: Source, lost: Mapping[FrameId, Problem]) -> Problem | None:
    if isinstance(source, LostSegment):
        return Problem(source.error.code, source.error.message, "payload")
    return None if source is None else lost.get(source.frame_id)


def _verify_payload(image: StoredImage) -> Iterator[Problem]:
    """Look at the payload's references alone: what needs no key."""
    try:
        for _ in image.payload_references():
            pass
    except (IntegrityError, NotFoundError, PoolReadError) as error:
        yield Problem(error.code, error.message, "payload")


def _verify_entries(image: StoredImage) -> Iterator[Problem]:
    """Read all records and follow their extents through the payload manifest."""
    try:
        for file in image.files():
            for _ in file.extents:
                pass
    except (IntegrityError, NotFoundError, PoolReadError) as error:
        yield Problem(error.code, error.message, "entries")
