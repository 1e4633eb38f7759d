"""Which images a damaged pool cannot give back whole, from their manifests and the places of their frames.

Nothing here needs a key. Which files of an image are lost, verifying it says.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final, Protocol

from strongroom.core.errors import IntegrityError, NotFoundError, StrongroomError
from strongroom.core.ids import DomainId, EnvelopeId, ImageId, PageId
from strongroom.formats import key_envelope, signed
from strongroom.formats.fragment import Fragment
from strongroom.images.errors import NoSuchCopyError
from strongroom.images.open_pool import OpenPool
from strongroom.images.stored_image import Roots, envelopes_of
from strongroom.pool import names
from strongroom.pool.errors import PoolReadError
from strongroom.pool.manifest import PageDamage, leaves

_MOST_PROBLEMS: Final = 10


class Presence(Protocol):
    """Tells what is in a pool whose containers were looked at."""

    def is_present(self, item: bytes, origin: DomainId) -> bool:
        """Tell whether a frame lies whole in the pool."""

    def read_saved(self, item: bytes, origin: DomainId) -> bytes | None:
        """Read an item that is whole and that the index does not know; ``None`` if there is none."""


@dataclass(frozen=True, slots=True)
class DamagedImage:
    """An image that the pool cannot give back whole.

    Attributes:
        name: of its fragment's file.
        image: which; ``None`` when the fragment itself does not say.
        problems: what is wrong, in sentences, the first few.
    """

    name: str
    image: ImageId | None
    problems: list[str]


def damaged_images(pool: OpenPool, presence: Presence) -> Iterator[DamagedImage]:
    """Give the images of which something is missing; contents of frames are not read.

    Raises:
        PoolReadError: the storage cannot be listed.
    """
    for name, found in fragments_of(pool):
        if isinstance(found, Fragment):
            problems = list(islice(_problems(pool, presence, found), _MOST_PROBLEMS))
            if problems:
                yield DamagedImage(name, ImageId(found.copy.payload.image), problems)
        else:
            yield DamagedImage(name, None, [found.message])


def fragments_of(pool: OpenPool) -> Iterator[tuple[str, Fragment | StrongroomError]]:
    """Give every fragment, or what is wrong with it."""
    for name in pool.fragments.names():
        try:
            yield name, pool.fragments.read(*names.image_of(name))
        except NoSuchCopyError:
            continue  # it was expired since its name was read
        except (IntegrityError, PoolReadError) as error:
            yield name, error


def _problems(pool: OpenPool, presence: Presence, copy: Fragment) -> Iterator[str]:
    """Say what is missing of an image, from its pages and the places of its frames; contents are not read."""
    origin = copy.image.signer
    pages = pool.pages(origin)

    def fetch(page: PageId) -> bytes:
        try:
            return pages.page(page)
        except (IntegrityError, NotFoundError, PoolReadError):
            saved = presence.read_saved(page, origin)
            if saved is None:
                raise
            return saved

    try:
        envelopes = envelopes_of(pool, copy, fetch)
    except (IntegrityError, NotFoundError, PoolReadError) as error:
        yield error.message
    else:
        yield from (
            f"no key envelope '{one.hex()}' that holds is in the pool"
            for one in envelopes
            if not _has_envelope(pool, one, origin)
        )
    roots = Roots.of(copy)
    for stream, root in (("entries", roots.entries), ("payload", roots.payload)):
        damages: deque[PageDamage] = deque()
        lost, first = 0, b""
        for _, leaf in leaves(root, fetch, is_encrypted=copy.copy.payload.encrypted, on_damage=damages.append):
            for row in leaf.frames:
                if not presence.is_present(row.frame, origin):
                    lost, first = lost + 1, first or row.frame
        yield from (f"{stream}: {damage.error.message}" for damage in damages)
        if lost:
            yield f"{stream}: {lost} frames are lost, the first of them '{first.hex()}'"


def _has_envelope(pool: OpenPool, envelope: EnvelopeId, origin: DomainId) -> bool:
    """Tell whether a generation that the origin signed lies in the pool, and holds."""
    for key in pool.envelopes.keys_of(envelope, origin):
        try:
            raw = pool.store.read(key, 0, key_envelope.KEY_ENVELOPE.max_bytes + 1)
            signed.verify(key_envelope.KEY_ENVELOPE, raw, pinned=origin)
        except (IntegrityError, NotFoundError, PoolReadError):
            continue
        return True
    return False
