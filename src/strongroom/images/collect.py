"""Collection of a pool: marks what its images need, and frees the rest.

Order: what is needed of sparse containers goes into new ones; the index's word that a container is condemned; an
epoch in which all sessions end that may refer to it; the second look; the container; key envelopes last, when no
container has a frame under their keys.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from strongroom.core.errors import IntegrityError, StrongroomError
from strongroom.core.ids import ContainerId, DataKeyId, DomainId, EnvelopeId, ImageId, KeyGroupId, MediumId, PageId
from strongroom.core.secret import Secret
from strongroom.formats import fragment, frame
from strongroom.formats.copy_header import CheckedCopy
from strongroom.formats.errors import ForeignError
from strongroom.formats.lock_record import LockMode
from strongroom.formats.segment import SegmentNamer, clear_naming_key
from strongroom.images.errors import NoSuchCopyError
from strongroom.images.open_pool import OpenPool
from strongroom.pool import collection, names
from strongroom.pool.collection import Count, Epochs
from strongroom.pool.errors import CannotMarkError, PoolReadError
from strongroom.pool.marking import ORIGIN_BYTES, Marks, Root
from strongroom.pool.rewriting import NOT_ENCRYPTED, Limits, Rewriter, choose
from strongroom.pool.survey import Survey, Surveyed, survey

_MOST_NAMING_KEYS: Final = 16


class Check(Protocol):
    """Told, often, what a long piece of work is at; what it raises ends that."""

    def __call__(self, message: str, done: int = 0, total: int = 0) -> None:
        """Take what it is at, and how many bytes of how many are done, if they are counted."""


NamingKeys = Callable[[KeyGroupId, Sequence[bytes]], Secret | None]
"""Opens the newest of these envelopes with a naming key of a group; ``None`` when none opens any more."""


@dataclass(frozen=True)
class Rewriting:
    """How containers are rewritten that hold mostly what nobody needs.

    Attributes:
        limits: which, and how much in one pass.
        naming_keys: has naming keys opened, so that backups find again what was rewritten.
        pace: waits until so many bytes may be copied.
    """

    limits: Limits
    naming_keys: NamingKeys
    pace: Callable[[int], None]


@dataclass
class Collected:
    """What a collection found, and did.

    Attributes:
        images: copies whose data stays.
        pages: manifest pages that were read.
        found: all containers.
        unneeded: of these, what no image needs, condemned or not.
        sparse_bytes: bytes that no image needs in containers of which a part is needed, and that stay.
        rewritten: of these containers, those whose needed part lies in new ones now; they are condemned, and counted
            there too. In a plan, those that would be rewritten.
        copied_bytes: bytes that were copied from them, or would be.
        rewrite_later: containers that are sparse enough to be rewritten, and left for another time.
        damaged: containers that stay because what is needed of them is not whole, and why.
        full: why the rewriting ended for want of room; empty when it did not.
        condemned: what was condemned now; it goes with the next collection, or the one after that.
        waiting: what was condemned before, and somebody may still refer to.
        locked: what no image needs, and a retention lock keeps.
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
    rewritten: Count = field(default_factory=Count)
    copied_bytes: int = 0
    rewrite_later: int = 0
    damaged: list[str] = field(default_factory=list)
    full: str = ""
    condemned: Count = field(default_factory=Count)
    waiting: Count = field(default_factory=Count)
    locked: Count = field(default_factory=Count)
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
    rewriting: Rewriting | None = None,
    dry_run: bool,
    check: Check,
    lift: bool = False,
) -> Collected:
    """Free what no image of a pool needs.

    Args:
        pool: the pool; others may read and write in it meanwhile.
        epochs: who may still refer to what, as it was before this call.
        committing: fragments that are signed, and perhaps not in the pool yet; as they were before this call.
        without: names of fragments that do not count, because they are about to be removed; for a plan only.
        rewriting: how containers are rewritten of which little is needed; ``None`` to leave them as they are.
        dry_run: change nothing.
        check: asked, often, whether to go on.
        lift: also free what a governance lock keeps and no image needs; nothing is rewritten then.

    Raises:
        CannotMarkError: nobody can tell what an image needs; nothing was changed.
        LocksUnreadError: nobody can tell what is locked; nothing was changed.
        PoolFullError, PoolWriteError, PoolReadError: the storage refused; what was done stays done.
    """
    if without and not dry_run:
        raise ValueError("only a plan leaves fragments out that are still there")
    told = Collected()
    pool.locks.refresh()
    lifted = lift and pool.locks.mode is LockMode.GOVERNANCE
    locked = frozenset[ContainerId]() if lifted else _locked_containers(pool)
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
        _count(survey_of, locked, told)
        todo = collection.sort(survey_of, epochs, locked)
        if lifted:
            rewriting = None  # it would leave copies that are not locked, and take the containers that are
        chosen, told.rewrite_later = choose(todo.sparse, rewriting.limits) if rewriting else ([], 0)
        if dry_run:
            told.copied_bytes = sum(one.needed_bytes for one in chosen)
            _count_rewritten(chosen, told)
        else:
            staying = _free_containers(pool, survey_of, todo, epochs, told, check, lift=lifted)
            if rewriting:
                _rewrite(pool, survey_of, chosen, rewriting, epochs, told, check)
            # what was rewritten counts as staying here: its keys are those of the copies
            if not survey_of.unread:  # one that cannot be read may have a frame under any key
                _free_envelopes(pool, staying, marks, epochs, told, lift=lifted)
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


def _locked_containers(pool: OpenPool) -> frozenset[ContainerId]:
    found = map(names.container_of, pool.locks.locked(names.CONTAINERS))
    return frozenset(container for container in found if container is not None)


def _count(found: Survey, locked: Collection[ContainerId], told: Collected) -> None:
    for one in found.containers:
        told.found.add(one.size_bytes)
        if not one.needed and one.id in locked:
            told.locked.add(one.size_bytes)
        elif not one.needed:
            told.unneeded.add(one.size_bytes)
        else:
            told.sparse_bytes += one.item_bytes - one.needed_bytes
    told.unread = [f"container '{container.hex()}': {why}" for container, why in found.unread]


def _count_rewritten(containers: Sequence[Surveyed], told: Collected) -> None:
    for one in containers:
        told.rewritten.add(one.size_bytes)
        told.sparse_bytes -= one.item_bytes - one.needed_bytes


def _free_containers(
    pool: OpenPool,
    found: Survey,
    todo: collection.Sorted,
    epochs: Epochs,
    told: Collected,
    check: Check,
    *,
    lift: bool,
) -> list[Surveyed]:
    """Condemn and remove containers; give those that stay."""
    pool.index.reprieve([one.id for one in todo.reprieve])
    told.reprieved = len(todo.reprieve)
    condemn = [one for one in todo.condemn if _can_go(pool, found, one, told)]
    pool.index.condemn([one.id for one in condemn], epochs.now)
    for one in condemn:
        told.condemned.add(one.size_bytes)
    for one in todo.wait:
        told.waiting.add(one.size_bytes)
    told.removed, kept = collection.remove(
        pool.store,
        pool.index,
        found,
        todo.remove,
        medium=pool.medium,
        check=lambda: check("removing containers"),
        lift=lift,
    )
    pool.checks.forget(names.container_key(one.id) for one in todo.remove if one.id not in kept)
    told.reprieved += len(kept)
    going = {one.id for one in (*condemn, *todo.wait, *todo.remove)} - set(kept)
    return [one for one in found.containers if one.id not in going]


def _can_go(pool: OpenPool, found: Survey, one: Surveyed, told: Collected) -> bool:
    """Tell whether what is needed of a container is whole elsewhere: the copy of a rewriting that was cut off."""
    is_whole = collection.is_whole_elsewhere(pool.store, pool.index, found, one, medium=pool.medium)
    if not is_whole:
        told.damaged.append(f"container '{one.id.hex()}' stays: what else holds its contents is not whole")
    return is_whole


def _rewrite(
    pool: OpenPool,
    found: Survey,
    chosen: Sequence[Surveyed],
    rewriting: Rewriting,
    epochs: Epochs,
    told: Collected,
    check: Check,
) -> None:
    """Copy what is needed of sparse containers, and condemn them."""
    total = sum(one.needed_bytes for one in chosen)
    rewriter = Rewriter(
        pool.store,
        pool.index,
        medium=pool.medium,
        own=pool.domain,
        group_of=lambda one: _group_of(pool, one),
        namer_of=_Namers(pool, rewriting.naming_keys),
        clock=pool.clock,
        entropy=pool.entropy,
        pace=rewriting.pace,
        check=lambda done: check("rewriting containers", done, total),
    )
    done = rewriter.rewrite(found, chosen, rewriting.limits, epoch=epochs.now)
    _count_rewritten(done.containers, told)
    for one in done.containers:
        told.condemned.add(one.size_bytes)
    told.copied_bytes = done.copied_bytes
    told.rewrite_later += len(chosen) - len(done.containers) - len(done.damaged)
    told.damaged += done.damaged
    told.full = done.full


def _group_of(pool: OpenPool, one: Surveyed) -> KeyGroupId | None:
    """Tell the key group of a container of frames: what a backup wrote is of one group."""
    key = DataKeyId(one.data_keys[0][ORIGIN_BYTES:])
    return NOT_ENCRYPTED if key == frame.NO_KEY else pool.envelopes.group_of(key, one.origin)


class _Namers:
    """The naming keys of a pool's groups, each asked for once; held as long as one collection runs."""

    def __init__(self, pool: OpenPool, naming_keys: NamingKeys) -> None:
        self._pool = pool
        self._naming_keys = naming_keys
        self._known: dict[KeyGroupId, SegmentNamer | StrongroomError | None] = {
            NOT_ENCRYPTED: SegmentNamer(clear_naming_key(pool.medium))
        }

    def __call__(self, group: KeyGroupId) -> SegmentNamer | None:
        """Give a naming key; ``None`` when there is none any more.

        Raises:
            KeyUnavailableError, UnavailableError, NotFoundError, PoolReadError: it cannot be had now.
        """
        if group not in self._known:
            self._known[group] = self._ask(group)
        known = self._known[group]
        if isinstance(known, StrongroomError):
            raise known
        return known

    def _ask(self, group: KeyGroupId) -> SegmentNamer | StrongroomError | None:
        envelopes = self._pool.envelopes
        held = envelopes.naming(origin=self._pool.domain, group=group, medium=self._pool.medium)
        try:
            newest = [data for one in held[:_MOST_NAMING_KEYS] for data in envelopes.read(one, self._pool.domain)[:1]]
            key = self._naming_keys(group, newest) if newest else None
        except StrongroomError as error:
            return error
        return None if key is None else SegmentNamer(key)


def _free_envelopes(
    pool: OpenPool, staying: list[Surveyed], marks: Marks, epochs: Epochs, told: Collected, *, lift: bool
) -> None:
    """Free what wraps keys that no frame uses.

    An envelope is condemned with the last container that needs it, or after that; so it never goes before.
    """
    envelopes = pool.envelopes
    locked = frozenset[EnvelopeId | None]() if lift else {*map(names.envelope_of, pool.locks.locked(names.ENVELOPES))}
    origins = marks.origins
    used = {key for container in staying for key in container.data_keys}
    held = {origins.record(one.origin, one.envelope): one for one in envelopes.for_frames()}
    needed = {
        record
        for record, one in held.items()
        if one.envelope in locked or any(origins.record(one.origin, key) in used for key in envelopes.data_keys_in(one))
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
        elif envelopes.remove(one, lift=lift):
            told.envelopes += 1
