"""Looks at a home that nobody serves: keys, catalog and pool are as they were acknowledged."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import Connection, select, text

from durability import check_collected
from durability.facts import Facts
from durability.story import POOL
from strongroom.catalog.copies import committing
from strongroom.catalog.errors import ImageNotFoundError
from strongroom.catalog.images import get_image
from strongroom.catalog.model import CopyState
from strongroom.catalog.tables import copies
from strongroom.core.errors import StrongroomError
from strongroom.core.ids import DomainId, ImageId, MediumId, from_text, to_text
from strongroom.database import read
from strongroom.images.open_pool import OpenPool
from strongroom.images.repair import repair_pool
from strongroom.images.verify import verify_image
from strongroom.pool.containers import list_containers, read_contents
from strongroom.pool.index import Index
from strongroom.services.primary.opening import Primary, open_primary
from strongroom.services.primary.pools import own_pools
from strongroom.settings.domain import DomainSettings
from strongroom.settings.home import Home
from strongroom.settings.system import SystemClock, SystemEntropy
from strongroom.trust.store import require_active
from strongroom.trust.tables import trusts


def problems_of(facts: Facts, world: Path) -> Iterator[str]:
    """Name what was acknowledged and is not there, or not whole."""
    try:
        yield from _problems(facts, Home(facts.home(world)))
    except StrongroomError as error:
        yield f"{facts.name}: {error.message} [{error.code}]"
    except Exception as error:  # noqa: BLE001 - what the product does not expect is what is looked for
        yield f"{facts.name}: {type(error).__name__}: {error}"


def _problems(facts: Facts, home: Home) -> Iterator[str]:
    primary = open_primary(home, DomainSettings.load(home), SystemClock(), SystemEntropy())
    images = list(facts.images)
    epoch, signed = 0, []
    try:
        if not home.root_key.is_file() or not home.root_key.stat().st_size:
            yield f"{facts.name}: the root key is gone"
        primary.own_identity()
        for found in _in_catalog(facts, primary):
            yield f"{facts.name}: {found}"
        with read(primary.engine) as connection:
            for medium in own_pools(connection, primary.domain):
                epoch, signed = medium.epoch, [data for _, _, data in committing(connection, medium.medium)]
                images += _complete_on(connection, medium.medium)
    finally:
        primary.engine.dispose()
    if facts.has_pool:
        for found in pool_problems(home.pool(POOL), images, damaged=facts.damaged, epoch=epoch, committing=signed):
            yield f"{facts.name}: {found}"


def _complete_on(connection: Connection, medium: MediumId) -> list[str]:
    """Give the images that the catalog says are whole on a medium, acknowledged or not."""
    found = select(copies.c.image).where(copies.c.medium == medium, copies.c.state == CopyState.COMPLETE)
    return [to_text(ImageId(image)) for image in connection.execute(found).scalars()]


def _in_catalog(facts: Facts, primary: Primary) -> Iterator[str]:
    known = {tag.hex() for tag in primary.kms.management.decryptable()}
    for tag in facts.tags:
        if tag not in known:
            yield f"the key {tag} is gone"
    with read(primary.engine) as connection:
        for row in connection.execute(text("PRAGMA integrity_check")):
            if row[0] != "ok":
                yield f"the catalog is damaged: {row[0]}"
        for image in facts.images:
            try:
                copies = get_image(connection, ImageId(from_text(image))).copies
            except ImageNotFoundError:
                copies = ()
            if not any(copy.state is CopyState.COMPLETE and copy.key.domain == primary.domain for copy in copies):
                yield f"the catalog has no complete copy of {image}"
        complete = _own_complete(connection, primary.domain)
        for image in facts.expired:
            if image in complete:
                yield f"the image {image} was expired, and is back"
        confirmed = connection.execute(text("SELECT image FROM replications WHERE state = 'confirmed'")).scalars()
        for image in {*facts.receipts} - {to_text(ImageId(one)) for one in confirmed}:
            yield f"the receipt of {image} is gone"
        names = set(connection.execute(text("SELECT name FROM slps")).scalars())
        for policy in {*facts.policies} - names:
            yield f"the policy {policy} is gone"
        if facts.trusts:
            peers = connection.execute(select(trusts.c.peer)).scalars().all()
            if not peers:
                yield "the trust is gone"
            for peer in peers:
                require_active(connection, DomainId(peer))
        if facts.sends and not connection.execute(text("SELECT 1 FROM storage_targets")).all():
            yield "the storage target is gone"


def _own_complete(connection: Connection, domain: DomainId) -> set[str]:
    found = select(copies.c.image).where(copies.c.domain == domain, copies.c.state == CopyState.COMPLETE)
    return {to_text(ImageId(image)) for image in connection.execute(found).scalars()}


def pool_problems(
    path: Path, images: list[str], *, damaged: str = "", epoch: int = 0, committing: list[bytes] | None = None
) -> Iterator[str]:
    """Open a pool as its media server does, and collect it; name what is wrong with it, before or after.

    Args:
        path: its folder.
        images: that must be whole in it.
        damaged: a container that was damaged on purpose: it is repaired first.
        epoch: of the pool.
        committing: what is signed, and perhaps not in the pool yet.
    """
    pool = OpenPool.open(path, SystemClock(), SystemEntropy())
    try:
        for container, problem in pool.refreshed.problems:
            if container.hex() != damaged:
                yield f"the container {container.hex()}: {problem}"
        if damaged:
            for left in repair_pool(pool, dry_run=False).images:
                yield f"the repair leaves {left.name} damaged: {left.problems}"
        for refused in pool.refused:
            yield f"an envelope: {refused}"
        yield from _image_problems(pool, images)
        yield from _index_problems(pool)
        check_collected.collect_twice(pool, epoch, committing or [])
        yield from check_collected.unneeded(pool, committing or [])
        for found in (*_image_problems(pool, images), *_index_problems(pool)):
            yield f"after a collection: {found}"
    finally:
        pool.close()


def _image_problems(pool: OpenPool, images: Collection[str]) -> Iterator[str]:
    names = list(pool.fragments.names())
    for image in images:
        if not any(image.replace("-", "") in name for name in names):
            yield f"the pool has no image {image}"
    for name in names:
        image, _, copy = name.rpartition("/")[2].partition("-")
        found = pool.fragments.read(ImageId(bytes.fromhex(image)), int(copy, 16))
        for wrong in verify_image(pool, found, None):
            yield f"the image {image}: {wrong.message} [{wrong.code}]"


def _index_problems(pool: OpenPool) -> Iterator[str]:
    """Make the index anew beside the one that was kept, and compare them.

    What is condemned the containers do not tell, so the new one is told.
    """
    with TemporaryDirectory() as folder:
        anew = Index(Path(folder), pool.entropy, medium=pool.medium)
        try:
            anew.refresh(pool.store)
            for container, epoch in pool.index.condemned().items():
                anew.condemn([container], epoch)
            if _contents(pool, pool.index) != _contents(pool, anew):
                yield "the index that was kept is not the one that is made anew"
        finally:
            anew.close()


def _contents(pool: OpenPool, index: Index) -> tuple[object, ...]:
    """Give all that an index answers for what the containers hold."""
    listed = sorted(index.containers())
    answers: list[object] = []
    for container in list_containers(pool.store):
        contents = read_contents(pool.store, container, pool.medium)
        items = list(contents.items)
        origin = contents.header.origin
        answers.append(index.locate([item.id for item in items], origin))  # type: ignore[arg-type]  # frames or pages
        segments = {name for item in items for name, _ in item.segments}
        answers.append(index.find_segments(segments, origin))  # type: ignore[arg-type]  # names, as the index has them
    return listed, answers
