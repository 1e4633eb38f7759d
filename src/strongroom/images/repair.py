"""Repairing a pool: its containers are mended, and the images that stay damaged are named.

Nothing here needs a key. Which files of an image are lost, verifying it says.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

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
from strongroom.pool.repair import ContainerRepair, Mended

_MOST_PROBLEMS: Final = 10


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


@dataclass(slots=True)
class RepairReport:
    """What a repair found and did, or would do.

    Attributes:
        containers: those that are damaged.
        indexed: containers that the index had not, or otherwise than they are.
        images: those that are damaged still.
    """

    containers: list[Mended] = field(default_factory=list)
    indexed: int = 0
    images: list[DamagedImage] = field(default_factory=list)


def repair_pool(pool: OpenPool, *, dry_run: bool) -> RepairReport:
    """Mend a pool's containers and its index, and name the images that stay damaged.

    May run beside backups, restores and replications; whoever reads an item in the moment in which its container is
    put aside may find it missing once.

    Args:
        pool: open.
        dry_run: change nothing, and say what would be done.

    Raises:
        PoolReadError: the storage cannot be listed.
        PoolFullError, PoolWriteError: the storage refused; what was mended before stays so.
    """
    report = RepairReport()
    repair = ContainerRepair(
        pool.store,
        pool.index,
        medium=pool.medium,
        origins={pool.domain, *(found.image.signer for _, found in _fragments(pool) if isinstance(found, Fragment))},
        clock=pool.clock,
        entropy=pool.entropy,
    )
    survey = repair.survey()
    report.indexed = len(survey.stale) + len(survey.gone)
    if not dry_run:
        repair.refresh_index()
        if survey.gone:
            pool.index.purge()
    report.containers = [repair.mend(container, dry_run=dry_run) for container in survey.damaged]
    if not dry_run:
        pool.index.distrusted.replace([mended.container for mended in report.containers if not mended.aside])
    for name, found in _fragments(pool):
        if isinstance(found, Fragment):
            problems = list(islice(_problems(pool, repair, found), _MOST_PROBLEMS))
            if problems:
                report.images.append(DamagedImage(name, ImageId(found.copy.payload.image), problems))
        else:
            report.images.append(DamagedImage(name, None, [found.message]))
    return report


def _fragments(pool: OpenPool) -> Iterator[tuple[str, Fragment | StrongroomError]]:
    """Give every fragment, or what is wrong with it."""
    for name in pool.fragments.names():
        try:
            yield name, pool.fragments.read(*names.image_of(name))
        except NoSuchCopyError:
            continue  # it was expired since its name was read
        except (IntegrityError, PoolReadError) as error:
            yield name, error


def _problems(pool: OpenPool, repair: ContainerRepair, copy: Fragment) -> Iterator[str]:
    """Say what is missing of an image, from its pages and the places of its frames; contents are not read."""
    origin = copy.image.signer
    pages = pool.pages(origin)

    def fetch(page: PageId) -> bytes:
        try:
            return pages.page(page)
        except (IntegrityError, NotFoundError, PoolReadError):
            saved = repair.read_saved(page, origin)
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
                if not repair.is_present(row.frame, origin):
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
