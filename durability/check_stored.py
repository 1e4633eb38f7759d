"""Looks at a home that nobody serves: keys, catalog and pool are as they were acknowledged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import select, text

from durability.facts import Facts
from durability.story import POOL
from strongroom.catalog.errors import ImageNotFoundError
from strongroom.catalog.images import get_image
from strongroom.catalog.model import CopyState
from strongroom.core.errors import StrongroomError
from strongroom.core.ids import DomainId, ImageId, from_text
from strongroom.database import read
from strongroom.images.open_pool import OpenPool
from strongroom.images.verify import verify_image
from strongroom.pool.containers import list_containers, read_contents
from strongroom.services.primary.opening import Primary, open_primary
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
    try:
        if not home.root_key.is_file() or not home.root_key.stat().st_size:
            yield f"{facts.name}: the root key is gone"
        primary.own_identity()
        for found in _in_catalog(facts, primary):
            yield f"{facts.name}: {found}"
    finally:
        primary.engine.dispose()
    if facts.has_pool:
        for found in pool_problems(home.pool(POOL), list(facts.images)):
            yield f"{facts.name}: {found}"


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
        confirmed = connection.execute(text("SELECT image FROM replications WHERE state = 'confirmed'")).scalars()
        for image in {*facts.receipts} - {_shown(bytes(one)) for one in confirmed}:
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


def _shown(image: bytes) -> str:
    plain = image.hex()
    return "-".join((plain[:8], plain[8:12], plain[12:16], plain[16:20], plain[20:]))


def pool_problems(path: Path, images: list[str]) -> Iterator[str]:
    """Open a pool as its media server does; name what is wrong with images in it, and with its index."""
    pool = OpenPool.open(path, SystemClock(), SystemEntropy())
    try:
        for container, problem in pool.refreshed.problems:
            yield f"the container {container.hex()}: {problem}"
        for refused in pool.refused:
            yield f"an envelope: {refused}"
        names = list(pool.fragments.names())
        for image in images:
            if not any(image.replace("-", "") in name for name in names):
                yield f"the pool has no image {image}"
        for name in names:
            image, _, copy = name.rpartition("/")[2].partition("-")
            found = pool.fragments.read(ImageId(bytes.fromhex(image)), int(copy, 16))
            for wrong in verify_image(pool, found, None):
                yield f"the image {image}: {wrong.message} [{wrong.code}]"
        yield from _index_problems(pool)
    finally:
        pool.close()


def _index_problems(pool: OpenPool) -> Iterator[str]:
    kept = _contents(pool)
    pool.index.rebuild(pool.store)
    if kept != _contents(pool):
        yield "the index that was kept is not the one that is made anew"


def _contents(pool: OpenPool) -> tuple[object, ...]:
    """Give all that the index answers for what the containers hold."""
    listed = sorted(pool.index.containers())
    answers: list[object] = []
    for container in list_containers(pool.store):
        contents = read_contents(pool.store, container, pool.medium)
        items = list(contents.items)
        origin = contents.header.origin
        answers.append(pool.index.locate([item.id for item in items], origin))  # type: ignore[arg-type]  # frames or pages
        segments = {name for item in items for name, _ in item.segments}
        answers.append(pool.index.find_segments(segments, origin))  # type: ignore[arg-type]  # names, as the index has them
    return listed, answers
