"""The state of the domain at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import Connection, func, select

from strongroom import __version__
from strongroom.api.errors import KeystoreLockedError
from strongroom.api.fields import Answer
from strongroom.api.parts import Parts
from strongroom.api.ports import PoolFacts
from strongroom.api.routes.trusts import health_of
from strongroom.api.routing import Routes
from strongroom.api.security import SESSION, PartsDep
from strongroom.catalog import guard, keys
from strongroom.core.errors import StrongroomError
from strongroom.core.ids import to_text
from strongroom.database import read
from strongroom.jobs import JobState
from strongroom.jobs.model import LIVE_STATES
from strongroom.jobs.tables import jobs
from strongroom.lifecycle.replications import pending_over
from strongroom.trust import store
from strongroom.trust.state import Decision
from strongroom.trust.store import Peer

routes = Routes("status")
MOST_LATE = 1_000


class PoolStatus(Answer):
    """A pool, in short."""

    name: str
    medium: str
    label: str
    state: str
    free_bytes: int | None
    online: bool


class JobCounts(Answer):
    """How many jobs there are in the states that matter; ``failed_24h`` ended within a day."""

    queued: int
    running: int
    waiting: int
    failed_24h: int


class Alarm(Answer):
    """Something that an operator should look at."""

    code: str
    message: str
    hint: str


class TrustStatus(Answer):
    """A trust, in short."""

    name: str
    domain: str
    state: str
    health: str


class MediaCounts(Answer):
    """How many media servers were heard of lately, and how many there are."""

    online: int
    known: int


class Status(Answer):
    """The state of the domain."""

    domain: str
    name: str
    host: str
    version: str
    started: datetime
    incarnation: int
    kms: Literal["open", "locked", "quiesced"]
    media_servers: MediaCounts
    pools: list[PoolStatus]
    jobs: JobCounts
    alarms: list[Alarm]
    trusts: list[TrustStatus]


@routes.get("/status", SESSION)
def show_status(parts: PartsDep) -> Status:
    """Show the state of the domain, with everything that needs somebody's attention."""
    pools = parts.media.pools()
    online, known = parts.media.heard()
    kms = _kms(parts)
    with read(parts.engine) as connection:
        peers = [peer for peer in store.peers(connection) if peer.trust.ours is not Decision.REMOVED]
        counted = _count_jobs(connection, parts.clock.now())
        alarms = [
            *_key_alarms(connection, kms, parts.lock),
            *_late(connection, parts),
            *_of_trusts(peers),
            *_of_pools(pools),
            *_of_expiry(connection, parts),
        ]
    return Status(
        domain=to_text(parts.ours.domain),
        name=parts.ours.name,
        host=to_text(parts.ours.host),
        version=__version__,
        started=parts.started,
        incarnation=parts.ours.incarnation,
        kms=kms,
        media_servers=MediaCounts(online=online, known=known),
        pools=[
            PoolStatus(
                name=pool.name,
                medium=to_text(pool.medium),
                label=pool.label,
                state=pool.state,
                free_bytes=pool.free_bytes,
                online=pool.online,
            )
            for pool in pools
        ],
        jobs=counted,
        alarms=alarms,
        trusts=[
            TrustStatus(
                name=peer.name, domain=to_text(peer.domain), state=peer.trust.state.value, health=health_of(peer.trust)
            )
            for peer in peers
        ],
    )


def _kms(parts: Parts) -> Literal["open", "locked", "quiesced"]:
    if parts.kms is None:
        return "locked"
    return "quiesced" if parts.kms.keystore_head().quiesced else "open"


def _count_jobs(connection: Connection, now: datetime) -> JobCounts:
    live = select(jobs.c.state, func.count()).where(jobs.c.state.in_(LIVE_STATES)).group_by(jobs.c.state)
    counts = {row[0]: row[1] for row in connection.execute(live)}
    failed = connection.execute(
        select(func.count()).where(jobs.c.state == JobState.FAILED, jobs.c.ended >= now - timedelta(days=1))
    ).scalar_one()
    return JobCounts(
        queued=counts.get(JobState.QUEUED, 0),
        running=counts.get(JobState.RUNNING, 0),
        waiting=counts.get(JobState.WAITING, 0),
        failed_24h=failed,
    )


def _key_alarms(connection: Connection, kms: str, lock: StrongroomError) -> list[Alarm]:
    found = []
    if kms == "locked":
        told = f"what needs keys waits: {lock.message}"
        found.append(Alarm(code=KeystoreLockedError.code, message=told, hint=lock.hint))
    if kms == "quiesced":
        hint = "when the copy is made: 'strongroom kms keystore unquiesce'"
        found.append(Alarm(code="kms.quiesced", message="the keystore is quiesced: no key can be changed", hint=hint))
    waiting = keys.waiting_by_tag(connection)
    if waiting:
        images = sum(item.images for item in waiting)
        found.append(
            Alarm(
                code="import.waiting-for-key",
                message=f"{len(waiting)} keys are missing, for which {images} images wait",
                hint="see the tags with 'strongroom import status --missing-keys'",
            )
        )
    return found


def _late(connection: Connection, parts: Parts) -> list[Alarm]:
    late = pending_over(connection, now=parts.clock.now(), limit=MOST_LATE)
    if not late:
        return []
    number = f"{len(late)}" if len(late) < MOST_LATE else f"{MOST_LATE} or more"
    return [
        Alarm(
            code="replication.late",
            message=f"{number} images have not been confirmed by their target for more than a day",
            hint="see the reasons with 'strongroom replication status'",
        )
    ]


def _of_trusts(peers: list[Peer]) -> list[Alarm]:
    found = []
    for peer in peers:
        health = health_of(peer.trust)
        if health != "good":
            hint = f"'strongroom trust check {peer.name}' tells what is wrong, and the cure"
            code = "trust.unreachable" if health == "unreachable" else "trust.broken"
            found.append(Alarm(code=code, message=f"the trust with '{peer.name}' is {health}", hint=hint))
    return found


def _of_pools(pools: Sequence[PoolFacts]) -> list[Alarm]:
    offline = [pool for pool in pools if not pool.online]
    hint = "look at the media server that serves it"
    alarms = [Alarm(code="pool.offline", message=f"the pool '{pool.name}' is offline", hint=hint) for pool in offline]
    for pool in pools:
        if pool.checks is not None and pool.checks.damaged:
            told = f"{pool.checks.damaged} objects of the pool '{pool.name}' were damaged when they were last checked"
            look = f"'strongroom pool repair {pool.name} --dry-run' tells what can be mended"
            alarms.append(Alarm(code="pool.damaged", message=told, hint=look))
    return alarms


def _of_expiry(connection: Connection, parts: Parts) -> list[Alarm]:
    stopped = guard.state(connection, now=parts.clock.now()).stopped
    if stopped is None:
        return []
    hint = "if that is right, 'strongroom expiry confirm'; else set the clock right first"
    return [Alarm(code="expiry.stopped", message=f"no image expires: {stopped}", hint=hint)]
