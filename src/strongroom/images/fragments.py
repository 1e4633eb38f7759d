"""Fragments of a pool: which images are complete in it.

Source: ``docs/reference/formats/pool-folder.md``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from strongroom.core.errors import IntegrityError
from strongroom.core.ids import DomainId, ImageId, MediumId, to_text
from strongroom.formats import fragment
from strongroom.formats.errors import DamagedError, ForeignError
from strongroom.formats.fragment import Fragment
from strongroom.images.errors import NoSuchCopyError
from strongroom.pool import names
from strongroom.pool.errors import ObjectMissingError, PoolReadError
from strongroom.pool.locks import Locks
from strongroom.pool.store import MendableStore

_NAME: Final = re.compile(r"images/[0-9a-f]{2}/[0-9a-f]{32}-[0-9a-f]{4}")


class Fragments:
    """The copies that lie in one pool.

    Args:
        store: the pool's storage.
        domain: the domain that owns the pool.
        medium: the pool.
        locks: its retention locks.
    """

    def __init__(self, store: MendableStore, domain: DomainId, medium: MediumId, locks: Locks) -> None:
        self._locks = locks
        self._store = store
        self._domain = domain
        self._medium = medium

    def write(self, image: ImageId, copy: int, data: bytes) -> Fragment:
        """Check a fragment and make it durable; the same bytes again change nothing.

        Raises:
            DamagedError, SignatureError, NewerFormatError, ForeignError: it is not that fragment of this pool.
            ObjectExistsError: another fragment has this place.
            PoolFullError, PoolWriteError: the storage refused.
        """
        checked = self._check(image, copy, data)
        self._store.put(names.image_key(image, copy), data)
        return checked

    def restore(self, image: ImageId, copy: int, data: bytes) -> Fragment:
        """Write a fragment that is known from elsewhere in place of one that is damaged, which is put aside.

        Raises:
            LockedError: the one that is there is whole, and a retention lock keeps it.
            DamagedError, SignatureError, NewerFormatError, ForeignError: it is not that fragment of this pool; nothing
                was changed.
            PoolFullError, PoolWriteError: the storage refused.
        """
        checked = self._check(image, copy, data)
        key = names.image_key(image, copy)
        try:
            held = self._store.read(key, 0, fragment.MAX_BYTES + 1)
            if held != data:
                if self._holds(image, copy, held):
                    self._locks.require_removable(key, lift=False)
                self._store.set_aside(key)
        except PoolReadError:
            self._store.set_aside(key)
        except ObjectMissingError:
            pass  # nothing to put aside
        self._store.put(key, data)
        self._locks.fix(key)
        return checked

    def read(self, image: ImageId, copy: int) -> Fragment:
        """Read a fragment.

        Raises:
            NoSuchCopyError: it is not here.
            DamagedError, SignatureError, NewerFormatError, ForeignError: it does not hold.
        """
        return self._check(image, copy, self.read_raw(names.image_key(image, copy)))

    def read_named(self, name: str) -> Fragment:
        """Read a fragment by its name.

        Raises:
            NoSuchCopyError: it is not here, or this is no name of a fragment.
            DamagedError, SignatureError, NewerFormatError, ForeignError: it does not hold.
        """
        data = self.read_raw(name)
        return self._check(*names.image_of(name), data)

    def remove(self, image: ImageId, copy: int, *, lift: bool = False) -> None:
        """Remove a fragment, if it is there: the image is no longer in this pool when this returns.

        Args:
            image: the image.
            copy: which copy of it.
            lift: also when a governance lock keeps it.

        Raises:
            LockedError: a retention lock keeps it.
            PoolWriteError: the storage refused.
        """
        self._store.remove(names.image_key(image, copy), lift=lift)

    def read_raw(self, name: str) -> bytes:
        """Read a fragment as it lies there.

        Raises:
            NoSuchCopyError: it is not here.
            DamagedError: it is longer than a fragment can be.
        """
        if _NAME.fullmatch(name) is None:
            raise NoSuchCopyError(f"'{name[:64]}' is not the name of a fragment")
        try:
            data = self._store.read(name, 0, fragment.MAX_BYTES + 1)
        except ObjectMissingError as error:
            raise NoSuchCopyError(f"the pool has no '{name}'") from error
        if len(data) > fragment.MAX_BYTES:
            raise DamagedError(f"'{name}' is longer than a fragment can be")
        return data

    def names(self, after: str = "") -> Iterator[str]:
        """Give the names of all fragments behind one, rising."""
        for item in self._store.list(names.IMAGES, after):
            if _NAME.fullmatch(item.key):
                yield item.key

    def _holds(self, image: ImageId, copy: int, data: bytes) -> bool:
        try:
            self._check(image, copy, data)
        except IntegrityError:
            return False
        return True

    def _check(self, image: ImageId, copy: int, data: bytes) -> Fragment:
        checked = fragment.verify(data, pinned=self._domain)
        header = checked.copy.payload
        if (header.image, header.copy, header.medium) != (image, copy, self._medium):
            raise ForeignError(
                f"the fragment is of copy {header.copy} of the image {to_text(header.image)}, not of copy {copy}"
                f" of {to_text(image)}, or of another medium"
            )
        return checked
