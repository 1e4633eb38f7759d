"""Scrubbing a pool: every object is read and checked, without any key, and images that need what is damaged are named.

The outcome for each object is kept at once (``pool.checks``), so that a pass that was stopped goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from strongroom.core.clock import to_ns
from strongroom.core.errors import IntegrityError, NotFoundError
from strongroom.core.ids import ContainerId, DomainId, EnvelopeId, FrameId
from strongroom.formats import key_envelope, signed
from strongroom.formats.container import Content
from strongroom.formats.errors import ForeignError
from strongroom.formats.identity import REVOCATION_LIST
from strongroom.formats.journal import BATCH
from strongroom.formats.media_header import MEDIA_HEADER
from strongroom.images.affected import DamagedImage, damaged_images
from strongroom.images.collect import Check
from strongroom.images.errors import NoSuchCopyError
from strongroom.images.open_pool import OpenPool
from strongroom.pool import names
from strongroom.pool.checks import Damaged
from strongroom.pool.collection import check_item
from strongroom.pool.errors import ObjectMissingError, PoolReadError
from strongroom.pool.reader import read_item
from strongroom.pool.store import StoredObject
from strongroom.pool.verify import Problem, verify_container

_KINDS: Final = (names.CONTAINERS, names.ENVELOPES, names.IMAGES, names.JOURNAL, names.REVOCATIONS, names.LOCKS)


@dataclass
class Scrubbed:
    """What a scrub found.

    Attributes:
        objects: objects that were checked in this pass, by this call or before it was stopped.
        bytes: their bytes.
        damaged: those that do not hold.
        images: images that need something that is damaged, and lies whole nowhere else.
    """

    objects: int = 0
    bytes: int = 0
    damaged: list[Damaged] = field(default_factory=list)
    images: list[DamagedImage] = field(default_factory=list)


def scrub(pool: OpenPool, *, since_ns: int, pace: Callable[[int], None], check: Check) -> Scrubbed:
    """Read and check every object of a pool that was not checked since a time.

    May run beside everything else; what goes meanwhile is not missed.

    Args:
        pool: open.
        since_ns: when the pass began; what was checked at that time or later is not checked again.
        pace: waits until so many bytes may be read.
        check: told, often, how many bytes are done; what it raises ends the work.

    Raises:
        PoolReadError: the storage cannot be listed.
        PoolFullError, PoolWriteError: the outcome cannot be kept.
    """
    told = Scrubbed()
    total = sum(stored.size_bytes for stored in _objects(pool))
    for stored in _objects(pool):
        last = pool.checks.at(stored.key)
        if last is None or last < since_ns:
            reading = _Reading(told.bytes, total, pace, check)
            try:
                problem = _problem(pool, stored, reading)
            except (ObjectMissingError, NoSuchCopyError):
                pool.checks.forget([stored.key])  # expired or collected since it was listed
                continue
            pool.checks.note(stored.key, to_ns(pool.clock.now()), problem)
        told.objects += 1
        told.bytes += stored.size_bytes
        check(f"{told.objects} objects checked", told.bytes, total)
    pool.checks.forget_before(since_ns)
    told.damaged = pool.checks.damaged()
    if told.damaged:
        told.images = list(damaged_images(pool, _Whole(pool, told.damaged)))
    return told


@dataclass
class _Reading:
    """Bytes of one object as they are read."""

    before: int
    total: int
    pace: Callable[[int], None]
    check: Check
    done: int = 0

    def __call__(self, count: int) -> None:
        self.pace(count)
        self.done += count
        self.check("checking", self.before + self.done, self.total)


def _objects(pool: OpenPool) -> Iterator[StoredObject]:
    yield StoredObject(names.MEDIUM, pool.store.size(names.MEDIUM))
    yield from chain.from_iterable(pool.store.list(kind) for kind in _KINDS)


def _problem(pool: OpenPool, stored: StoredObject, reading: _Reading) -> str:
    """Say what is wrong with an object; nothing when it holds.

    Raises:
        ObjectMissingError, NoSuchCopyError: it is not there any more.
    """
    container = names.container_of(stored.key)
    if container is not None:
        return _told(list(verify_container(pool.store, container, pool.medium, reading)), pool, container)
    reading(stored.size_bytes)
    try:
        _check_record(pool, stored.key)
    except (IntegrityError, PoolReadError) as error:
        return f"{error.code}: {error.message}"
    return ""


def _told(problems: list[Problem], pool: OpenPool, container: ContainerId) -> str:
    if not problems:
        return ""
    pool.store.size(names.container_key(container))  # what is gone is not damaged
    more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
    return f"{problems[0].code}: {problems[0].message}{more}"


def _check_record(pool: OpenPool, key: str) -> None:
    """Check an object: its signature, or its digest where none is, and that it is the one that its place says.

    Raises:
        DamagedError, SignatureError, NewerFormatError, ForeignError: it does not hold.
        ObjectMissingError, NoSuchCopyError: it is gone.
        PoolReadError: the storage refused.
    """
    if key.startswith(names.IMAGES):
        pool.fragments.read_named(key)
    elif key.startswith(names.ENVELOPES):
        said = signed.verify(key_envelope.KEY_ENVELOPE, _read(pool, key, key_envelope.KEY_ENVELOPE.max_bytes)).payload
        expected = names.envelope_key(EnvelopeId(said.envelope), DomainId(said.domain), said.generation)
        if said.domain not in (said.origin, pool.domain) or expected != key:
            raise ForeignError(f"the envelope in '{key}' is another one")
    elif key.startswith(names.JOURNAL):
        signed.verify(BATCH, _read(pool, key, BATCH.max_bytes), pinned=pool.domain)
    elif key.startswith(names.REVOCATIONS):
        signed.verify(REVOCATION_LIST, _read(pool, key, REVOCATION_LIST.max_bytes), pinned=pool.domain)
    elif key.startswith(names.LOCKS):
        pool.locks.check(key)
    elif key == names.MEDIUM:
        signed.verify(MEDIA_HEADER, _read(pool, key, MEDIA_HEADER.max_bytes), pinned=pool.domain)


def _read(pool: OpenPool, key: str, most: int) -> bytes:
    return pool.store.read(key, 0, most + 1)


class _Whole:
    """What lies whole in a pool of which some containers are damaged."""

    def __init__(self, pool: OpenPool, damaged: list[Damaged]) -> None:
        self._pool = pool
        self._damaged = {names.container_of(one.key) for one in damaged}

    def is_present(self, item: bytes, origin: DomainId) -> bool:
        """Tell whether a frame lies in a whole container, or is whole itself."""
        places = self._pool.index.locate([FrameId(item)], origin).get(item, [])
        for place in places:
            if place.container not in self._damaged:
                return True
            try:
                check_item(read_item(self._pool.store, place), item, Content.FRAMES)
            except (IntegrityError, NotFoundError, PoolReadError):
                continue
            return True
        return False

    def read_saved(self, _item: bytes, _origin: DomainId) -> bytes | None:
        """Give nothing: a scrub saves nothing."""
        return None
