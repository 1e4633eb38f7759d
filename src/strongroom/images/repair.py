"""Repairing a pool: its containers are mended, and the images that stay damaged are named.

Nothing here needs a key. Which files of an image are lost, verifying it says.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from strongroom.formats.fragment import Fragment
from strongroom.images.affected import DamagedImage, damaged_images, fragments_of
from strongroom.images.open_pool import OpenPool
from strongroom.pool import names
from strongroom.pool.repair import ContainerRepair, Mended


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
        pool.locks,
        medium=pool.medium,
        origins={pool.domain, *(found.image.signer for _, found in fragments_of(pool) if isinstance(found, Fragment))},
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
        pool.checks.forget(names.container_key(one.container) for one in report.containers if one.aside)
    report.images = list(damaged_images(pool, repair))
    return report
