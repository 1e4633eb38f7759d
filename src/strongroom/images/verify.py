"""Verifying a stored image: without any key down to the digests of its frames, or with its keys to the plaintext."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from strongroom.core.errors import IntegrityError, NotFoundError
from strongroom.core.ids import DataKeyId, KeyGroupId
from strongroom.formats.copy_header import CheckedCopy
from strongroom.images.keys import KeyOpener
from strongroom.images.open_pool import OpenPool
from strongroom.images.stored_image import StoredImage, envelopes_of
from strongroom.pool.errors import PoolReadError
from strongroom.pool.verify import ImageVerifier, Problem


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
            pool.folder,
            pages=image.pages,
            frames=image.frames,
            covered=held,
            medium=pool.medium,
            with_keys=opener is not None,
        )
        streams = {"entries": image.roots.entries, "payload": image.roots.payload}
        whole = True
        for problem in verifier.verify(streams, is_encrypted=image.is_encrypted):
            whole = False
            yield problem
        if whole:
            yield from _verify_entries(image) if opener or not image.is_encrypted else _verify_payload(image)


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
