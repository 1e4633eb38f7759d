"""Backups and restores: begun for a person, done by a client and a media server, decided here.

person            client                media server              primary
begin ─────────────────────────────────────────────────────────►  job, copy lease, grant
                  stream, grant ──────► redeem ─────────────────►  what may be done
                                        (keys, storing)
                                        commit ─────────────────►  one transaction: headers signed, kept
                                        (fragment written)
                                        written ────────────────►  acknowledged; lifecycle begins; job done

While it has the client's session, the media server says so with ``attend``; a job that nobody attends to is given up.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, insert, select, update

from strongroom.catalog.copies import (
    abandon_copy,
    begin_copy,
    commit_copy,
    committed_fragment,
    mark_written,
    renew_lease,
    session_epoch,
)
from strongroom.catalog.images import get_image
from strongroom.catalog.media import get_medium
from strongroom.catalog.model import CameBy, Copy, CopyKey, CopyState, Image, Medium
from strongroom.core.clock import from_ns, to_ns
from strongroom.core.errors import StrongroomError
from strongroom.core.ids import UUID_BYTES, HostId, ImageId, KeyGroupId, KeyTag, MediumId, from_text, to_text
from strongroom.core.secret import Secret
from strongroom.database import read, transact
from strongroom.formats.algorithms import Cipher
from strongroom.formats.image_header import NO_KEY_GROUP, image_id_of
from strongroom.formats.lock_record import LockMode
from strongroom.jobs import JobId, JobState, NewJob, Progress, driven
from strongroom.jobs.tables import jobs
from strongroom.lifecycle.policies import require_active
from strongroom.lifecycle.policy import Backup, Fixed
from strongroom.services import messages
from strongroom.services.primary import pools
from strongroom.services.primary.attendance import Attendance
from strongroom.services.primary.client_hosts import Client, require_shown
from strongroom.services.primary.copies_to_read import previous_copy, readable_copy
from strongroom.services.primary.errors import (
    EndlessLockError,
    GrantError,
    InterruptedWorkError,
    NoBackupOperationError,
    NoPathsError,
    NotYoursError,
)
from strongroom.services.primary.headers import BackupFacts, fragment_to_write, sign_backup
from strongroom.services.primary.opening import Primary
from strongroom.services.primary.pool_log import require_followed
from strongroom.services.primary.tables import client_work

BACKUP: Final = "backup"
RESTORE: Final = "restore"
MOUNT: Final = "mount"
KINDS: Final = frozenset({BACKUP, RESTORE, MOUNT})
LEASE: Final = timedelta(days=7)
"""Of the copy. It is given up with its job, so it must only outlast a primary that is away for a while."""
GRANT_BYTES: Final = 32


@dataclass(frozen=True)
class StartedBackup:
    """What a client needs for a backup; the grant is shown once."""

    job: JobId
    image: ImageId
    grant: Secret
    host: HostId
    previous_started: datetime | None


@dataclass(frozen=True)
class StartedRestore:
    """What a client needs for a restore; the grant is shown once."""

    job: JobId
    grant: Secret
    host: HostId
    image: Image
    copy: Copy


class ClientWork:
    """Begins and ends what clients do.

    Args:
        primary: whose.
        acknowledged: told, in the same transaction, of each image that is complete.
    """

    def __init__(self, primary: Primary, acknowledged: Callable[[Connection, ImageId], None]) -> None:
        self._primary = primary
        self._acknowledged = acknowledged
        self._attendance = Attendance()

    # ------------------------------------------------------------ for people

    def start_backup(
        self,
        connection: Connection,
        client: Client,
        paths: Sequence[bytes],
        slp: str,
        *,
        silent: Collection[HostId] = (),
    ) -> StartedBackup:
        """Begin a backup. Whatever would make it fail later is looked at now: nothing is read before.

        Media servers that are *silent* are chosen last.

        Raises:
            NoPathsError: no path, or one that is not absolute.
            PolicyNotFoundError, PolicyNotActiveError, NoBackupOperationError: of the policy.
            PoolNotFoundError, NoMediaServerError: of its storage.
        EndlessLockError: the storage locks, and the retention has no end.
            NoActiveKeyError, GroupNotFoundError, KeystoreLockedError: it asks for encryption, which cannot be done.
        """
        if not paths or any(not path.startswith(b"/") for path in paths):
            raise NoPathsError("a backup needs at least one absolute path")
        policy = require_active(connection, slp)
        operation = policy.policy.operations[0]
        if not isinstance(operation, Backup):
            raise NoBackupOperationError(f"the lifecycle policy '{slp}' does not begin with a backup")
        pool = pools.pool_named(connection, self._primary.domain, operation.storage)
        if pool.lock_mode != LockMode.NONE.word and not isinstance(operation.retention, Fixed):
            raise EndlessLockError(
                f"the pool '{pool.label}' locks what is stored in it, and the policy '{slp}' keeps its images for ever"
            )
        host = self._host_of(connection, pool, silent)
        group, cipher = self._key_group(operation)
        now = self._primary.clock.now()
        salt = self._primary.entropy.bytes(UUID_BYTES)
        image = image_id_of(self._primary.domain, salt)
        backup_id = f"{client.name}_{int(now.timestamp())}"
        job = driven.begin(
            connection,
            self._primary.jobs,
            NewJob(BACKUP, subject=backup_id, params={"client": client.name, "slp": slp, "image": to_text(image)}),
            now,
        )
        session = self._primary.entropy.bytes(UUID_BYTES)
        copy = begin_copy(
            connection,
            image,
            session=session,
            domain=self._primary.domain,
            medium=pool.medium,
            came_by=CameBy.BACKUP,
            now=now,
            deadline=now + LEASE,
            job=job,
        )
        previous = previous_copy(connection, self._primary.ours, client, pool.medium, group)
        details = {
            "salt": salt.hex(),
            "backup_id": backup_id,
            "client": client.name,
            "client_host": None if client.host is None else client.host.hex(),
            "started_ns": to_ns(now),
            "slp": slp,
            "slp_version": policy.version,
            "data_class": policy.policy.data_class,
            "retention": operation.retention.seconds if isinstance(operation.retention, Fixed) else None,
            "cipher": cipher,
            "paths": [base64.b64encode(path).decode("ascii") for path in paths],
            "previous": None if previous is None else [to_text(previous[0].image), previous[0].number],
        }
        grant = self._grant(connection, job, BACKUP, host, pool.medium, copy, session, group, details)
        return StartedBackup(job, image, grant, host, None if previous is None else from_ns(previous[1]))

    def start_restore(
        self,
        connection: Connection,
        image: ImageId,
        copy: int | None,
        paths: Sequence[bytes],
        *,
        kind: str = RESTORE,
        client: HostId | None = None,
        silent: Collection[HostId] = (),
    ) -> StartedRestore:
        """Begin a restore or mount of a copy of this domain; the first that can be read, if none is named.

        Args:
            connection: of the transaction that makes the job.
            image: which.
            copy: its number.
            paths: what is wanted of it; nothing stands for everything.
            kind: restore or mount.
            client: the registered host that gets it; ``None`` for the media server's own host.
            silent: media servers that are chosen last.

        Raises:
            ImageNotFoundError: there is no such image.
            NotReadableError: no copy here can be read now; the message names the missing key tags.
            NoMediaServerError: nobody serves its pool.
        """
        found = get_image(connection, image)
        chosen = readable_copy(self._primary.domain, found, copy)
        medium = get_medium(connection, chosen.medium)
        host = self._host_of(connection, medium, silent)
        now = self._primary.clock.now()
        job = driven.begin(
            connection,
            self._primary.jobs,
            NewJob(kind, subject=found.backup_id, params={"image": to_text(image), "copy": chosen.key.number}),
            now,
        )
        details = {
            "client_host": None if client is None else client.hex(),
            "paths": [base64.b64encode(path).decode("ascii") for path in paths],
            "cipher": chosen.cipher,
        }
        grant = self._grant(connection, job, kind, host, chosen.medium, chosen.key, None, found.key_group, details)
        return StartedRestore(job, grant, host, found, chosen)

    # ------------------------------------------------------------ for media servers

    def redeem(self, host: HostId, said: messages.Redeem) -> messages.JobSpec:
        """Tell a media server what it may do for a client that showed a grant.

        Raises:
            GrantError: there is no such grant.
            NotYoursError: the job is another media server's.
            AuthenticationError: another client brings it than the one that the job is for.
        """

        def deed(connection: Connection) -> messages.JobSpec:
            row = self._row(connection, host, said.job)
            if not hmac.compare_digest(bytes(row.digest), hashlib.sha256(said.grant).digest()):
                raise GrantError("the grant is not this job's")
            client = _client_of(row)
            require_shown(connection, self._primary.domain, client, said.shown, now=self._primary.clock.now())
            previous = None
            if row.details.get("previous"):
                image, number = row.details["previous"]
                previous = messages.PreviousImage(image=bytes.fromhex(image.replace("-", "")), copy=number)
            return messages.JobSpec(
                job=row.job,
                kind=row.kind,
                image=row.image,
                medium=row.medium,
                copy=row.copy,
                group=row.key_group,
                cipher=row.details["cipher"],
                tags=list(self._usable_tags(KeyGroupId(row.key_group))) if row.kind == BACKUP else [],
                previous=previous,
                paths=[base64.b64decode(path) for path in row.details["paths"]],
                client=client,
            )

        return transact(self._primary.engine, deed)

    def work(self, connection: Connection, host: HostId, job: int) -> Row[Any]:
        """Look the work of a media server's job up.

        Raises:
            GrantError: there is none.
            NotYoursError: it is another media server's.
        """
        return self._row(connection, host, job)

    def commit(self, host: HostId, said: messages.CommitBackup) -> messages.FragmentToWrite:
        """Make an image of what was stored, or give the same fragment again.

        Raises:
            LeaseLostError: the session took too long, or was given up.
            StrongroomError: as :func:`commit_copy` does.
        """

        def deed(connection: Connection) -> messages.FragmentToWrite:
            before = self._acknowledged_before(connection, host, said.job)
            if before is not None:
                return before
            row = self._row(connection, host, said.job)
            medium = pools.require_served(connection, MediumId(row.medium), host)
            key = CopyKey(ImageId(row.image), self._primary.domain, row.copy)
            signed_before = committed_fragment(connection, key)
            if signed_before is not None:
                return fragment_to_write(medium.medium, key, signed_before)
            if row.session is None:
                raise NotYoursError(f"the job {row.job} writes nothing")
            details = row.details
            facts = BackupFacts(
                image=row.image,
                salt=bytes.fromhex(details["salt"]),
                backup_id=details["backup_id"],
                client=details["client"],
                client_host=_client_of(row) or self._primary.ours.host,
                started_ns=details["started_ns"],
                slp=details["slp"],
                slp_version=details["slp_version"],
                data_class=details["data_class"],
                retention_seconds=details["retention"],
                key_group=KeyGroupId(row.key_group),
                cipher=details["cipher"],
                copy=row.copy,
            )
            require_followed(connection, medium.medium, session_epoch(connection, row.session), said.followed)
            fragment = sign_backup(self._primary, medium, facts, said)
            commit_copy(
                connection,
                row.session,
                [fragment],
                now=self._primary.clock.now(),
                known=self._primary.known_tags(),
            )
            counted = {
                "read_bytes": said.read_bytes,
                "same_bytes": said.same_bytes,
                "added_bytes": said.added_bytes,
                "files": said.files,
                "content_bytes": said.content,
                "problems": said.problems,
            }
            connection.execute(
                update(client_work).where(client_work.c.job == row.job).values(details={**details, "counted": counted})
            )
            return fragment_to_write(medium.medium, key, fragment.copy.data + fragment.trailer.data)

        return transact(self._primary.engine, deed)

    def written(self, connection: Connection, key: CopyKey) -> None:
        """Take it that a backup's fragment is on stable storage: the image is acknowledged."""
        mark_written(connection, key)
        self._acknowledged(connection, key.image)
        row = connection.execute(
            select(client_work).where(client_work.c.image == key.image, client_work.c.kind == BACKUP)
        ).one_or_none()
        if row is not None:
            result = {"image": to_text(key.image), **row.details.get("counted", {})}
            driven.finish(connection, JobId(row.job), result, self._primary.clock.now())
            self._end(connection, row.job)

    def advance(self, host: HostId, said: messages.Advance) -> bool:
        """Note how far a client's job is; tell whether to go on."""

        def deed(connection: Connection) -> bool:
            row = self._row(connection, host, said.job)
            now = self._primary.clock.now()
            if row.session is not None:
                renew_lease(connection, row.session, now=now, deadline=now + LEASE)
            progress = Progress(bytes_done=said.bytes, files=said.files, message=said.message)
            return driven.advance(connection, JobId(row.job), progress)

        return transact(self._primary.engine, deed)

    def done(self, host: HostId, job: int, result: dict[str, object]) -> None:
        """Take it that a restore was sent whole."""

        def deed(connection: Connection) -> None:
            row = self._row(connection, host, job)
            driven.finish(connection, JobId(row.job), result, self._primary.clock.now())
            self._end(connection, row.job)

        transact(self._primary.engine, deed)

    def fail(self, host: HostId, job: int, error: StrongroomError) -> None:
        """End a client's job with an error; what it began is given up."""

        def deed(connection: Connection) -> None:
            row = self._row(connection, host, job)
            self._give_up(connection, row, error)

        transact(self._primary.engine, deed)

    def attend(self, host: HostId, said: messages.Attend) -> messages.Nothing:
        """Hear which clients a media server has a session with; the first word of its process ends all others."""
        if said.began:

            def deed(connection: Connection) -> None:
                for row in connection.execute(select(client_work).where(client_work.c.host == host)).all():
                    self._give_up(connection, row, InterruptedWorkError("the media server was started again"))

            transact(self._primary.engine, deed)
        with read(self._primary.engine) as connection:
            query = select(client_work.c.job).where(client_work.c.host == host, client_work.c.job.in_(said.jobs))
            self._attendance.heard(connection.execute(query).scalars())
        return messages.Nothing()

    def end_unattended(self) -> None:
        """Give up the jobs that no media server attends to any more; called every few seconds."""
        with read(self._primary.engine) as connection:
            silent = self._attendance.end_round(connection.execute(select(client_work.c.job)).scalars())
        if not silent:
            return

        def deed(connection: Connection) -> None:
            for row in connection.execute(select(client_work).where(client_work.c.job.in_(silent))).all():
                self._give_up(
                    connection, row, InterruptedWorkError("no media server has the client's session any more")
                )

        transact(self._primary.engine, deed)

    # ------------------------------------------------------------ within

    def _give_up(self, connection: Connection, row: Row[Any], error: StrongroomError) -> None:
        if row.kind == BACKUP and self._is_committed(connection, row):
            return  # the image is there; its media server only has to say that it wrote the fragment
        if row.session is not None:
            abandon_copy(connection, row.session)
        driven.fail(connection, JobId(row.job), error, self._primary.clock.now())
        self._end(connection, row.job)

    def _is_committed(self, connection: Connection, row: Row[Any]) -> bool:
        key = CopyKey(ImageId(row.image), self._primary.domain, row.copy)
        return committed_fragment(connection, key) is not None

    def _acknowledged_before(self, connection: Connection, host: HostId, job: int) -> messages.FragmentToWrite | None:
        """Give the fragment of a backup that a beat brought to its end, when the answer to its commit was lost."""
        query = select(jobs.c.result).where(jobs.c.id == job, jobs.c.kind == BACKUP, jobs.c.state == JobState.DONE)
        result = connection.execute(query).scalar_one_or_none()
        if result is None:
            return None
        image = get_image(connection, ImageId(from_text(result["image"])))
        copy = next(one for one in image.copies if one.came_by is CameBy.BACKUP)
        medium = pools.require_served(connection, copy.medium, host)
        data = committed_fragment(connection, copy.key, CopyState.COMPLETE)
        return None if data is None else fragment_to_write(medium.medium, copy.key, data)

    def _end(self, connection: Connection, job: int) -> None:
        connection.execute(delete(client_work).where(client_work.c.job == job))

    def _row(self, connection: Connection, host: HostId, job: int) -> Row[Any]:
        row = connection.execute(select(client_work).where(client_work.c.job == job)).one_or_none()
        if row is None:
            raise GrantError(f"the job {job} is not open to clients")
        if row.host != host:
            raise NotYoursError(f"the job {job} is another media server's")
        return row

    def _host_of(self, connection: Connection, pool: Medium, silent: Collection[HostId]) -> HostId:
        since = self._primary.clock.now() - pools.SILENT_AFTER
        return pools.host_of(connection, pool, since=since, without=silent)

    def _key_group(self, operation: Backup) -> tuple[KeyGroupId, int]:
        """Find the key group, and fail now if it has no active key: never a clear backup, never a late failure."""
        if operation.key_group is None:
            return KeyGroupId(NO_KEY_GROUP), Cipher.NONE
        kms = self._primary.kms
        group = kms.management.group(operation.key_group).group
        kms.ring.encrypting_key(group)
        return group, Cipher.AES_256_GCM

    def _usable_tags(self, group: KeyGroupId) -> list[KeyTag]:
        if group == NO_KEY_GROUP:
            return []
        return sorted(self._primary.kms.management.decryptable())[:1_024]

    def _grant(
        self,
        connection: Connection,
        job: JobId,
        kind: str,
        host: HostId,
        medium: MediumId,
        copy: CopyKey,
        session: bytes | None,
        group: KeyGroupId,
        details: dict[str, Any],
    ) -> Secret:
        grant = self._primary.entropy.bytes(GRANT_BYTES)
        connection.execute(
            insert(client_work).values(
                job=job,
                kind=kind,
                digest=hashlib.sha256(grant).digest(),
                host=host,
                medium=medium,
                image=copy.image,
                copy=copy.number,
                session=session,
                key_group=group,
                details=details,
            )
        )
        return Secret(grant)


def _client_of(row: Row[Any]) -> HostId | None:
    """Tell which registered host a job is for; ``None`` for the media server's own."""
    text = row.details.get("client_host")  # jobs that were open at an upgrade have none
    return None if text is None else HostId(bytes.fromhex(text))
