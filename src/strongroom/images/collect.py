"""Collection of a pool: marks what its images need, and frees the rest.

Order: the index's word that a container is condemned; an epoch in which all sessions end that may refer to it; the
second look; the container; key envelopes last, when no container has a frame under their keys.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from strongroom.core.errors import IntegrityError
from strongroom.core.ids import DomainId, ImageId, MediumId, PageId
from strongroom.formats import fragment
from strongroom.formats.copy_header import CheckedCopy
from strongroom.formats.errors import ForeignError
from strongroom.images.envelopes import Envelopes
from strongroom.images.errors import NoSuchCopyError
from strongroom.images.open_pool import OpenPool
from strongroom.pool import collection, names
from strongroom.pool.collection import Count, Epochs
from strongroom.pool.errors import CannotMarkError, PoolReadError
from strongroom.pool.log import PoolLog
from strongroom.pool.marking import Marks, Root
from strongroom.pool.survey import Survey, Surveyed, survey

Check = Callable[[str], None]
"""Told, often, what the collection is at; what it raises ends it."""


@dataclass
class Collected:
    """What a collection found, and did.

    Attributes:
        images: copies whose data stays.
        pages: manifest pages that were read.
        found: all containers.
        unneeded: of these, what no image needs, condemned or not.
        sparse_bytes: bytes that no image needs in containers of which a part is needed.
        condemned: what was condemned now; it goes with the next collection, or the one after that.
        waiting: what was condemned before, and somebody may still refer to.
        removed: what is gone.
        reprieved: what had been condemned, and is needed after all.
        envelopes: key envelopes that are gone.
        envelopes_waiting: those that were condemned, now or before, and are not gone.
        unread: containers that cannot be read, and why; they stay.
    """

    images: int = 0
    pages: int = 0
    found: Count = field(default_factory=Count)
    unneeded: Count = field(default_factory=Count)
    sparse_bytes: int = 0
    condemned: Count = field(default_factory=Count)
    waiting: Count = field(default_factory=Count)
    removed: Count = field(default_factory=Count)
    reprieved: int = 0
    envelopes: int = 0
    envelopes_waiting: int = 0
    unread: list[str] = field(default_factory=list)


def collect(
    pool: OpenPool,
    *,
    epochs: Epochs,
    committing: Collection[bytes],
    without: Collection[str] = (),
    dry_run: bool,
    check: Check,
    log: PoolLog,
) -> Collected:
    """Free what no image of a pool needs.

    Args:
        pool: the pool; others may read and write in it meanwhile.
        epochs: who may still refer to what, as it was before this call.
        committing: fragments that are signed, and perhaps not in the pool yet; as they were before this call.
        without: names of fragments that do not count, because they are about to be removed; for a plan only.
        dry_run: change nothing.
        check: asked, often, whether to go on.
        log: of the pool; told of what is condemned, and asked before anything goes.

    Raises:
        CannotMarkError: nobody can tell what an image needs; nothing was changed.
        PoolFullError, PoolWriteError, PoolReadError: the storage refused; what was done stays done.
    """
    if without and not dry_run:
        raise ValueError("only a plan leaves fragments out that are still there")
    told = Collected()
    with Marks(pool.store.index_path) as marks:
        roots = _counted(_roots(pool, committing, without), told)
        marks.follow(
            roots, lambda origin, page: pool.pages(origin).page(page), lambda pages: check(f"{pages} pages read")
        )
        told.pages = marks.pages
        survey_of = survey(
            pool.store,
            pool.index,
            marks,
            pool.store.index_path,
            medium=pool.medium,
            check=lambda containers: check(f"{containers} containers looked at"),
        )
        _count(survey_of, told)
        if not dry_run:
            staying = _free_containers(pool, survey_of, epochs, told, check, log)
            # One that cannot be read may have a frame under any key; and an envelope that went may come again under
            # the same name, with another media server that has not heard that it went.
            if not survey_of.unread and not log.is_shared:
                _free_envelopes(pool.envelopes, staying, marks, epochs, told)
    return told


def _roots(pool: OpenPool, committing: Collection[bytes], without: Collection[str]) -> Iterator[Root]:
    given = {}
    for data in committing:
        copy = _checked(data, pool.domain, pool.medium)
        given[names.image_key(ImageId(copy.copy.payload.image), copy.copy.payload.copy)] = copy
    for copy in given.values():
        yield _root(copy)
    for name in pool.fragments.names():
        if name in without or name in given:
            continue
        try:
            yield _root(_checked(pool.fragments.read_raw(name), pool.domain, pool.medium))
        except NoSuchCopyError:
            continue  # removed since its name was read
        except (IntegrityError, PoolReadError) as error:
            raise CannotMarkError(
                f"what the image in '{name}' needs cannot be told: {error.message}", context={"fragment": name}
            ) from error


def _checked(data: bytes, domain: DomainId, medium: MediumId) -> CheckedCopy:
    copy = fragment.verify(data, pinned=domain)
    if copy.copy.payload.medium != medium:
        raise ForeignError(f"it is of the medium '{copy.copy.payload.medium.hex()}'")
    return copy


def _root(copy: CheckedCopy) -> Root:
    return Root(
        copy.image.signer,
        tuple(PageId(stream.root) for stream in copy.streams),
        tuple(PageId(page) for page in copy.copy.payload.key_pages),
    )


def _counted(roots: Iterator[Root], told: Collected) -> Iterator[Root]:
    for root in roots:
        told.images += 1
        yield root


def _count(found: Survey, told: Collected) -> None:
    for one in found.containers:
        told.found.add(one.size_bytes)
        if not one.needed:
            told.unneeded.add(one.size_bytes)
        else:
            told.sparse_bytes += one.item_bytes - one.needed_bytes
    told.unread = [f"container '{container.hex()}': {why}" for container, why in found.unread]


def _free_containers(
    pool: OpenPool, found: Survey, epochs: Epochs, told: Collected, check: Check, log: PoolLog
) -> list[Surveyed]:
    """Condemn and remove containers; give those that stay."""
    todo = collection.sort(found, epochs)
    log.reprieve([one.id for one in todo.reprieve])
    pool.index.reprieve([one.id for one in todo.reprieve])
    told.reprieved = len(todo.reprieve)
    log.condemn([one.id for one in todo.condemn])
    pool.index.condemn([one.id for one in todo.condemn], epochs.now)
    for one in todo.condemn:
        told.condemned.add(one.size_bytes)
    for one in todo.wait:
        told.waiting.add(one.size_bytes)
    told.removed, kept = collection.remove(
        pool.store,
        pool.index,
        todo.remove,
        medium=pool.medium,
        check=lambda: check("removing containers"),
        log=log,
    )
    told.reprieved += len(kept)
    going = {one.id for one in (*todo.condemn, *todo.wait, *todo.remove)} - set(kept)
    return [one for one in found.containers if one.id not in going]


def _free_envelopes(
    envelopes: Envelopes, staying: list[Surveyed], marks: Marks, epochs: Epochs, told: Collected
) -> None:
    """Free what wraps keys that no frame uses.

    An envelope is condemned with the last container that needs it, or after that; so it never goes before.
    """
    origins = marks.origins
    used = {key for container in staying for key in container.data_keys}
    held = {origins.record(one.origin, one.envelope): one for one in envelopes.for_frames()}
    needed = {
        record
        for record, one in held.items()
        if any(origins.record(one.origin, key) in used for key in envelopes.data_keys_in(one))
    }
    for listed in marks.envelopes.sets():
        needed |= listed & held.keys()
    for record, one in held.items():
        if one.condemned is None:
            if record not in needed and (epochs.young_ns is None or one.created_ns < epochs.young_ns):
                envelopes.condemn(one, epochs.now)
                told.envelopes_waiting += 1
        elif record in needed:
            envelopes.reprieve(one)
        elif one.condemned >= epochs.closed_before:
            told.envelopes_waiting += 1
        elif envelopes.remove(one):
            told.envelopes += 1
