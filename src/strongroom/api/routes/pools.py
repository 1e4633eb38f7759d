"""Storage pools."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Literal

from fastapi import Path
from pydantic import AfterValidator, Field, SecretStr, StringConstraints
from sqlalchemy import Connection, func, select

from strongroom.api.errors import BadRequestError, PoolNotFoundError
from strongroom.api.fields import Answer, Body, Line, Name, Password, Remark, secret
from strongroom.api.paging import DEFAULT_LIMIT, After, Limit, Page, cut
from strongroom.api.parts import Parts
from strongroom.api.ports import NewBucket, PoolFacts
from strongroom.api.routes.images import StartedJob
from strongroom.api.routing import Routes
from strongroom.api.security import CallerDep, PartsDep
from strongroom.catalog.model import CopyState
from strongroom.catalog.tables import copies
from strongroom.core.clock import from_ns
from strongroom.core.ids import MediumId, to_text
from strongroom.database import read
from strongroom.formats.lock_record import MOST_ROUNDING_DAYS
from strongroom.people.sessions import authorise
from strongroom.pool.errors import PlaceError
from strongroom.pool.place import DEFAULT_REGION, BucketKey, BucketPlace, is_bucket

routes = Routes("pools")


def _printable(value: SecretStr) -> SecretStr:
    if re.fullmatch(r"[!-~]+", value.get_secret_value()) is None:
        raise ValueError("must be printable ASCII")
    return value


class KeyRequest(Body):
    """The access key for a bucket."""

    access_key: Annotated[str, StringConstraints(pattern=r"^[!-~]{1,256}$")]
    secret_key: Annotated[Password, AfterValidator(_printable)]


class BucketRequest(KeyRequest):
    """A bucket of an object storage that speaks S3, and the access key for it."""

    url: Line = Field(description="s3://BUCKET/PREFIX")
    endpoint: Line = Field(description="https://HOST[:PORT]")
    region: Line = DEFAULT_REGION


class PoolRequest(Body):
    """A new pool: in a folder, in a bucket, or where the media server keeps its pools."""

    # It becomes the name of a folder, of a scope and of a part of a path.
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
    path: Annotated[Line, Field(description="a folder on the media server")] | None = None
    bucket: BucketRequest | None = None


class RepairRequest(Body):
    """Whether anything is to be changed."""

    dry_run: bool = False


class CollectRequest(Body):
    """With ``dry_run`` nothing is changed: the job's result tells what would be freed.

    ``lift_lock`` also frees what governance locks keep and no image needs; it wants a reason, and ``pool.unlock``.
    """

    dry_run: bool = False
    lift_lock: bool = False
    reason: Remark = ""


class LockRequest(Body):
    """How strictly what is stored from now on is locked, and in which steps its end is rounded up."""

    mode: Literal["governance", "compliance"]
    rounding_days: int = Field(default=7, ge=1, le=MOST_ROUNDING_DAYS)


class LockShown(Answer):
    """How a pool is locked. Times are of its lock clock; null when nothing was ever locked in it."""

    mode: str
    rounding_days: int
    clock: datetime | None
    objects: int = Field(description="locked now")
    latest: datetime | None = Field(description="end of the last lock")


class ScrubRequest(Body):
    """How fast everything is read, in bytes a second; without it, as the settings say."""

    bytes_per_second: Annotated[int, Field(ge=1, le=1 << 50)] | None = None


class ChecksShown(Answer):
    """How the pool's objects held when they were last checked; ``unchecked`` counts containers that never were."""

    oldest: datetime | None
    unchecked: int
    damaged: int


class Links(Answer):
    """Domains that send to the pool, and those that it sends to."""

    source: list[str]
    targets: list[str]


class PoolShown(Answer):
    """A pool, as its media server last told of it."""

    name: str
    medium: str
    label: str
    path: str
    media_host: str
    state: str
    online: bool
    images: int
    stored_bytes: int | None
    free_bytes: int | None
    chunker: str
    requests: dict[str, int] = Field(
        description="for a pool in object storage: requests by kind and bytes since it was made"
    )
    checks: ChecksShown | None
    next_scrub: datetime | None
    replication: Links
    lock: LockShown


@routes.post("/pools", "pool.create", on="pool:{name}", status=201)
def create_pool(body: PoolRequest, caller: CallerDep) -> PoolShown:
    """Make a storage pool; without a path, where the media server keeps its pools."""
    where = _where(body)
    shown = str(where.place) if isinstance(where, NewBucket) else where
    made = caller.act(
        lambda: caller.parts.media.make_pool(body.name, where, caller.actor),
        facts={"path": shown},
        describe=lambda pool: {"medium": to_text(pool.medium)},
    )
    return _shown(made, 0)


@routes.get("/pools", "pool.read")
def list_pools(parts: PartsDep, after: After = None, limit: Limit = DEFAULT_LIMIT) -> Page[PoolShown]:
    """List the pools by name."""
    items, following = cut(parts.media.pools(), lambda pool: pool.name, after, limit)
    with read(parts.engine) as connection:
        return Page(items=[_shown(pool, _count(connection, pool.medium)) for pool in items], next=following)


@routes.get("/pools/{name}", "pool.read", on="pool:{name}")
def show_pool(name: Annotated[Name, Path()], parts: PartsDep) -> PoolShown:
    """Show a pool."""
    pool = find_pool(parts, name)
    with read(parts.engine) as connection:
        return _shown(pool, _count(connection, pool.medium))


@routes.post("/pools/{name}/repair", "pool.repair", on="pool:{name}", status=202)
def repair_pool(name: Annotated[Name, Path()], body: RepairRequest, caller: CallerDep) -> StartedJob:
    """Start a job that mends what is damaged in a pool, or says what it would do; nothing is deleted."""
    parts = caller.parts
    job = caller.act(
        lambda: parts.pools.repair(find_pool(parts, name).medium, dry_run=body.dry_run),
        facts={"dry_run": body.dry_run},
        describe=lambda job: {"job": job},
    )
    return StartedJob(job=job)


@routes.post("/pools/{name}/key", "pool.create", on="pool:{name}")
def replace_key(name: Annotated[Name, Path()], body: KeyRequest, caller: CallerDep) -> PoolShown:
    """Replace the access key of a pool in a bucket; one that does not serve is refused, and the earlier one stays."""
    pool = caller.act(lambda: caller.parts.media.rekey_pool(name, _key(body), caller.actor))
    with read(caller.parts.engine) as connection:
        return _shown(pool, _count(connection, pool.medium))


@routes.post("/pools/{name}/collect", "pool.collect", on="pool:{name}", status=202)
def collect_pool(name: Annotated[Name, Path()], body: CollectRequest, caller: CallerDep) -> StartedJob:
    """Start a job that frees what no image of the pool needs, or counts it."""
    facts: dict[str, str | int | None] = {"dry_run": body.dry_run}
    if body.lift_lock:
        if not body.reason.strip():
            raise BadRequestError("'reason': whoever lifts a lock says why")
        facts |= {"lift_lock": True, "reason": body.reason}

    def deed(connection: Connection) -> int:
        if body.lift_lock:
            authorise(caller.session, "pool.unlock", caller.object)
        return caller.parts.media.collect(connection, name, dry_run=body.dry_run, lift=body.lift_lock)

    return StartedJob(job=caller.transact(deed, facts=facts))


@routes.post("/pools/{name}/lock", "pool.lock", on="pool:{name}")
def lock_pool(name: Annotated[Name, Path()], body: LockRequest, caller: CallerDep) -> PoolShown:
    """Lock every image that is stored in the pool from now on until its retention is over; never made less strict."""
    pool = caller.act(
        lambda: caller.parts.media.lock_pool(name, body.mode, body.rounding_days, caller.actor),
        facts={"mode": body.mode, "rounding_days": body.rounding_days},
    )
    with read(caller.parts.engine) as connection:
        return _shown(pool, _count(connection, pool.medium))


@routes.post("/pools/{name}/scrub", "pool.scrub", on="pool:{name}", status=202)
def scrub_pool(name: Annotated[Name, Path()], body: ScrubRequest, caller: CallerDep) -> StartedJob:
    """Start a job that reads and checks everything in the pool; one that runs already is named."""
    return StartedJob(
        job=caller.transact(
            lambda connection: caller.parts.media.scrub(connection, name, bytes_per_second=body.bytes_per_second),
            facts={"bytes_per_second": body.bytes_per_second},
        )
    )


def find_pool(parts: Parts, name: str) -> PoolFacts:
    """Look a pool up.

    Raises:
        PoolNotFoundError: none has this name.
    """
    pool = parts.media.pool(name)
    if pool is None:
        raise PoolNotFoundError(f"there is no pool '{name}'")
    return pool


def _where(body: PoolRequest) -> str | NewBucket | None:
    """Tell where a pool is to be.

    Raises:
        PlaceError: it is to be in a folder and in a bucket, or what names the bucket cannot.
    """
    if body.bucket is None:
        if body.path is not None and is_bucket(body.path):
            raise PlaceError("a bucket is no folder")
        return body.path
    if body.path is not None:
        raise PlaceError("a pool is in a folder or in a bucket", hint="give one of the two")
    place = BucketPlace.make(body.bucket.url, body.bucket.endpoint, body.bucket.region)
    return NewBucket(place, _key(body.bucket))


def _key(body: KeyRequest) -> BucketKey:
    return BucketKey(body.access_key, secret(body.secret_key))


def _count(connection: Connection, medium: MediumId) -> int:
    query = select(func.count(copies.c.image.distinct())).where(
        copies.c.medium == medium, copies.c.state == CopyState.COMPLETE
    )
    return connection.execute(query).scalar_one()


def _shown(pool: PoolFacts, images: int) -> PoolShown:
    return PoolShown(
        name=pool.name,
        medium=to_text(pool.medium),
        label=pool.label,
        path=pool.path,
        media_host=pool.media_host,
        state=pool.state,
        online=pool.online,
        images=images,
        stored_bytes=pool.stored_bytes,
        free_bytes=pool.free_bytes,
        chunker=pool.chunker,
        requests=dict(pool.requests),
        checks=ChecksShown(oldest=pool.checks.oldest, unchecked=pool.checks.unchecked, damaged=pool.checks.damaged)
        if pool.checks
        else None,
        next_scrub=pool.next_scrub,
        replication=Links(source=list(pool.sources), targets=list(pool.targets)),
        lock=LockShown(
            mode=pool.lock.mode,
            rounding_days=pool.lock.rounding_days,
            clock=from_ns(pool.lock.clock_ns) if pool.lock.clock_ns else None,
            objects=pool.lock.objects,
            latest=from_ns(pool.lock.latest_ns) if pool.lock.latest_ns else None,
        ),
    )
