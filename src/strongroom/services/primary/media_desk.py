"""What media servers tell the primary: beats, and what they have written."""

from __future__ import annotations

from itertools import takewhile
from typing import Final

import msgspec
from sqlalchemy import Connection, delete, insert

from strongroom.catalog import journal
from strongroom.catalog.copies import committing
from strongroom.catalog.expiry import lock_copy
from strongroom.catalog.media import find_medium, note_locks
from strongroom.catalog.model import CameBy, CopyKey, CopyState
from strongroom.catalog.rows import get_copy
from strongroom.core.ids import HostId, ImageId, MediumId, to_text
from strongroom.database import read, transact
from strongroom.formats import signed
from strongroom.formats.journal import BATCH
from strongroom.formats.lock_record import LockMode
from strongroom.jobs import JobId
from strongroom.jobs.fencing import check_fence
from strongroom.pki import revocation
from strongroom.pki.ca import IssuerKind
from strongroom.pki.fingerprint import fingerprint_of
from strongroom.services import messages, sending_messages, upkeep_messages
from strongroom.services.primary import bucket_keys, pool_log, pools
from strongroom.services.primary.client_work import ClientWork
from strongroom.services.primary.collecting import COLLECT
from strongroom.services.primary.errors import NotLockedError, NotYoursError
from strongroom.services.primary.headers import fragment_to_write
from strongroom.services.primary.opening import Primary
from strongroom.services.primary.receiving import Receiving
from strongroom.services.primary.tables import media_beats

_LOCKED: Final = "its pool locks what is stored in it"
MOST_ANSWER_BYTES: Final = 6 << 20
"""Fragments and batches in one answer; what is above it in the bound of a record is room for the rest."""


class MediaDesk:
    """Keeps what is known of media servers, and tells them what to write.

    Args:
        primary: whose.
        clients: takes what was written for clients.
        receiving: takes what was written for other domains.
    """

    def __init__(self, primary: Primary, clients: ClientWork, receiving: Receiving) -> None:
        self._primary = primary
        self._clients = clients
        self._receiving = receiving

    def beat(self, host: HostId, said: messages.Beat) -> messages.BeatAnswer:
        """Take a sign of life; give what the media server serves, and what must lie on its media and may not yet."""

        def deed(connection: Connection) -> messages.BeatAnswer:
            connection.execute(delete(media_beats).where(media_beats.c.host == host))
            connection.execute(
                insert(media_beats).values(
                    host=host,
                    at=self._primary.clock.now(),
                    version=said.version,
                    pools=[_told(pool) for pool in said.pools],
                    address=said.address,
                    socket=said.socket,
                )
            )
            for pool in said.pools:
                served = find_medium(connection, MediumId(pool.medium))
                if served is not None and host in pools.hosts_of(connection, served):
                    note_locks(connection, served.medium, mode=pool.lock.mode, clock_ns=pool.lock.clock_ns)
            return self._answer(connection, host)

        return transact(self._primary.engine, deed)

    def bucket_key(self, host: HostId, said: messages.AskBucketKey) -> messages.BucketKeyRow:
        """Give a media server the access key for the bucket of a pool that it serves.

        Raises:
            NotYoursError: another one serves it.
            ServiceKeyMissingError: there is none for this pool.
        """
        with read(self._primary.engine) as connection:
            medium = pools.require_served(connection, MediumId(said.medium), host)
        return bucket_keys.row_of(bucket_keys.get(self._primary.keys, medium.medium))

    def stored(self, host: HostId, said: upkeep_messages.Stored) -> messages.Nothing:
        """Note what a media server stored in a pool, for the others.

        Raises:
            NotYoursError: it does not serve the pool.
        """

        def deed(connection: Connection) -> messages.Nothing:
            medium = pools.require_served(connection, MediumId(said.medium), host)
            pool_log.stored(connection, medium.medium, said.names)
            return messages.Nothing()

        return transact(self._primary.engine, deed)

    def follow(self, host: HostId, said: upkeep_messages.Follow) -> upkeep_messages.Followed:
        """Tell a media server what it may not have heard of a pool.

        Raises:
            NotYoursError: it does not serve the pool.
        """
        with read(self._primary.engine) as connection:
            medium = pools.require_served(connection, MediumId(said.medium), host)
            return pool_log.follow(connection, medium.medium, said.after)

    def mark_containers(self, host: HostId, said: upkeep_messages.MarkContainers) -> upkeep_messages.Marked:
        """Take what a collection decided, while its job is at the attempt in which it was asked.

        Raises:
            NotYoursError: the host does not serve the pool, or the job does not collect it.
            FencedError: another attempt has taken over.
        """

        def deed(connection: Connection) -> upkeep_messages.Marked:
            medium = pools.require_served(connection, MediumId(said.medium), host).medium
            check_fence(connection, JobId(said.job), said.attempt)
            job = self._primary.jobs.get(connection, JobId(said.job))
            if job.kind != COLLECT or job.params["medium"] != to_text(medium) or job.params["dry_run"]:
                raise NotYoursError(f"the job {said.job} does not collect that pool")
            names = list(said.names)
            if said.step == "condemn":
                pool_log.condemn(connection, medium, names)
            elif said.step == "reprieve":
                pool_log.reprieve(connection, medium, names)
            elif said.step == "remove":
                names = pool_log.remove(connection, medium, names)
            else:
                raise NotYoursError(f"a collection has no step '{said.step}'")
            return upkeep_messages.Marked(names=names)

        return transact(self._primary.engine, deed)

    def written(self, host: HostId, said: messages.Written) -> sending_messages.WrittenAnswer:
        """Take it that a fragment, or a journal batch, is on stable storage."""

        def deed(connection: Connection) -> sending_messages.WrittenAnswer:
            medium = pools.require_served(connection, MediumId(said.medium), host)
            if said.image is None:
                journal.mark_batch_written(connection, medium.medium, said.sequence)
                return sending_messages.WrittenAnswer()
            key = CopyKey(ImageId(said.image), self._primary.domain, said.copy)
            copy = get_copy(connection, key)
            if copy.medium != medium.medium:
                raise NotYoursError("that copy lies in another pool than the one that it is said to be written to")
            if medium.lock_mode != LockMode.NONE.word and not said.locked_until_ns:
                raise NotLockedError(f"the image '{to_text(said.image)}' was not locked, and its pool locks")
            if copy.came_by is CameBy.REPLICATION:
                self._receiving.announced(connection, key, medium.medium)
            else:
                self._clients.written(connection, key)
            if said.locked_until_ns and get_copy(connection, key).state is not CopyState.EXPIRED:
                lock_copy(
                    connection,
                    key,
                    said.locked_until_ns,
                    own=self._primary.domain,
                    now=self._primary.clock.now(),
                    reason=_LOCKED,
                )
            return sending_messages.WrittenAnswer()

        return transact(self._primary.engine, deed)

    def _answer(self, connection: Connection, host: HostId) -> messages.BeatAnswer:
        own = pools.own_pools(connection, self._primary.domain)
        served = [medium for medium in own if host in pools.hosts_of(connection, medium)]
        fragments: list[messages.FragmentToWrite] = []
        batches: list[messages.BatchToWrite] = []
        room = _Room(MOST_ANSWER_BYTES)
        for medium in served:
            pool_log.forget(connection, medium.medium)
            fragments += [
                fragment_to_write(medium.medium, key, data)
                for key, _, data in committing(connection, medium.medium)
                if room.takes(data)
            ]
            journal.sign_batch(
                connection,
                medium.medium,
                incarnation=self._primary.incarnation,
                now=self._primary.clock.now(),
                sign=lambda batch: signed.sign(BATCH, batch, self._primary.signer),
            )
            waiting = journal.unwritten_batches(connection, medium.medium)
            batches += [
                messages.BatchToWrite(medium=medium.medium, sequence=sequence, data=data)
                for sequence, data in takewhile(lambda batch: room.takes(batch[1]), waiting)
            ]
        crls = [
            revocation.current_crl(connection, fingerprint_of(self._primary.authorities[kind].certificate))
            for kind in (IssuerKind.HOSTS, IssuerKind.FOREIGN)
        ]
        return messages.BeatAnswer(
            pools=[
                messages.PoolToOpen(medium=m.medium, path=m.location, shared=len(pools.hosts_of(connection, m)) > 1)
                for m in served
            ],
            fragments=fragments,
            batches=batches,
            crls=crls,
        )


class _Room:
    """What an answer still has room for; the rest comes with the next beat."""

    def __init__(self, most_bytes: int) -> None:
        self._left = most_bytes

    def takes(self, data: bytes) -> bool:
        """Tell whether this fits in too."""
        fits = len(data) <= self._left
        if fits:
            self._left -= len(data)
        return fits


def _told(pool: messages.PoolState) -> dict[str, object]:
    return {
        "medium": pool.medium.hex(),
        "path": pool.path,
        "free_bytes": pool.free_bytes,
        "stored_bytes": pool.stored_bytes,
        "journal": pool.journal,
        "requests": pool.requests,
        "lock": msgspec.structs.asdict(pool.lock),
        "checks": msgspec.to_builtins(pool.checks),
        "followed": pool.followed,
    }
