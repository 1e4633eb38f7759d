"""Why a primary refuses a piece of work."""

from __future__ import annotations

from strongroom.core.errors import (
    AuthenticationError,
    AuthorityError,
    InputError,
    KeyUnavailableError,
    RefusedError,
    Retry,
    UnavailableError,
)


class GrantError(AuthenticationError):
    """The grant is unknown, has ended, or is another job's."""

    code = "work.bad-grant"
    default_hint = "begin the backup or restore again"


class NotYoursError(AuthorityError):
    """The media server asks for what belongs to another one's job."""

    code = "work.not-yours"


class NotAClientError(AuthorityError):
    """A host that is not registered as a client of this domain wants to do a client's work."""

    code = "work.not-a-client"
    default_hint = "enrol it with a token of the purpose 'enrol-host' and the role 'client': 'strongroom host enrol'"


class WrongClientError(AuthorityError):
    """A grant was brought by another host than the one that its job is for."""

    code = "work.wrong-client"
    default_hint = "run the backup or restore on the host that is to be backed up or to get the files"


class InterruptedWorkError(UnavailableError):
    """Nobody serves the client of a job any more: its media server was ended, or the client never came."""

    code = "work.interrupted"
    default_hint = "run the backup or restore again; contents that were stored already are not stored twice"


class NoMediaServerError(UnavailableError):
    """The media server that serves a pool is not there now."""

    code = "work.no-media-server"
    default_hint = "check that the media server runs: 'strongroom status'"


class StaleIndexError(RefusedError):
    """The index that a session searched had not heard of what was condemned before it began: nothing is committed."""

    code = "work.stale-index"
    retry: Retry = "later"
    default_hint = "run the backup again; contents that were stored already are not stored twice"


class PoolServersError(RefusedError):
    """The media servers of a pool cannot be changed so, or the work wants a pool with one."""

    code = "pool.servers"
    default_hint = "see 'strongroom pool show NAME' and 'strongroom host list'"


class PoolExistsError(RefusedError):
    """A pool has this name."""

    code = "storage.pool-exists"
    default_hint = "choose another name"


class NoBackupOperationError(RefusedError):
    """The lifecycle policy does not begin with a backup."""

    code = "backup.not-a-backup-policy"
    default_hint = "name a policy whose first operation is a backup: 'strongroom slp list'"


class NoPathsError(InputError):
    """A backup was asked for without a path, or with one that is not absolute."""

    code = "backup.bad-path"
    default_hint = "give absolute paths"


class NotReadableError(KeyUnavailableError):
    """The image cannot be read: the KMS has not got its key, or not all of it is there."""

    code = "image.waiting-for-key"
    default_hint = "recover the key ('strongroom kms key recover'), or import the keystore that has it"


class ImageInUseError(RefusedError):
    """A job reads the image, or refers to it, and must end first."""

    code = "image.in-use"
    retry: Retry = "later"
    default_hint = "wait for the job, or cancel it with 'strongroom job cancel'"


class ImageBusyError(RefusedError):
    """Another session is at this image."""

    code = "replication.busy"
    retry: Retry = "later"
    default_hint = "nothing has to be done: it is tried again"


class NotLockedError(RefusedError):
    """A media server stored an image in a pool that locks, and did not lock it."""

    code = "pool.image-not-locked"
    retry: Retry = "later"
    default_hint = (
        "nothing has to be done: it is locked with the next beat; a media server of an earlier release cannot"
    )


class EndlessLockError(RefusedError):
    """What is to be kept for ever would be locked for ever."""

    code = "backup.endless-lock"
    default_hint = "use a lifecycle policy whose retention has an end: 'strongroom slp create --retention'"


class NothingToLockError(RefusedError):
    """No copy of the image lies in a pool that locks."""

    code = "image.nothing-to-lock"
    default_hint = "see its copies with 'strongroom image show', and lock their pool with 'strongroom pool lock'"
