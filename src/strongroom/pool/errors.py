"""What can go wrong in a pool.

Damage of what is stored is told with :class:`~strongroom.formats.errors.DamagedError`, naming container,
frame or page.
"""

from __future__ import annotations

from strongroom.core.errors import (
    InputError,
    IntegrityError,
    KeyUnavailableError,
    NotFoundError,
    RefusedError,
    ResourceError,
    UnavailableError,
)


class PoolFullError(ResourceError):
    """The storage under the pool has no room left, or a quota is used up."""

    code = "pool.full"
    default_hint = "free space or raise the quota of the pool's file system, then run the job again"


class PoolReadError(ResourceError):
    """The storage under the pool refused a read."""

    code = "pool.read-error"
    default_hint = (
        "look at the machine's disks and system log; 'strongroom image verify' tells whether an image is affected"
    )


class PoolWriteError(ResourceError):
    """The storage under the pool refused a write, for another reason than room."""

    code = "pool.write-error"
    default_hint = "look at the machine's disks and system log, and at the permissions of the pool's folder"


class ObjectMissingError(NotFoundError):
    """No object has this key."""

    code = "pool.object-missing"
    default_hint = "'strongroom image verify' tells whether an image needs it"


class ObjectExistsError(RefusedError):
    """An object of this key exists with other contents; nothing in a pool is ever overwritten."""

    code = "pool.object-exists"
    default_hint = "two writers may be using one pool; look at which services have it open"


class NotAPoolError(NotFoundError):
    """The folder holds no pool."""

    code = "pool.not-a-pool"
    default_hint = "name the folder that holds the file 'medium', or make a pool with 'strongroom pool create'"


class PoolExistsError(RefusedError):
    """The folder already holds something."""

    code = "pool.not-empty"
    default_hint = "name an empty folder, or one that does not exist yet"


class PlaceError(InputError):
    """What names a pool's bucket cannot name one."""

    code = "pool.bad-place"
    default_hint = "write --bucket s3://BUCKET/PREFIX --endpoint https://HOST[:PORT]"


class BucketUnreachableError(UnavailableError):
    """The object storage does not answer, or only that it cannot serve now, also when asked again several times."""

    code = "pool.bucket-unreachable"
    default_hint = (
        "look at the endpoint of the pool ('strongroom pool show') and at the network between; then try again"
    )


class BucketMissingError(NotFoundError):
    """The object storage has no such bucket."""

    code = "pool.bucket-missing"
    default_hint = "make the bucket with the tools of the storage, or mend its name; strongroom makes none"


class BucketDeniedError(RefusedError):
    """The object storage refuses this access key."""

    code = "pool.bucket-denied"
    default_hint = "the key must be allowed to list the bucket, and to read, write and delete below the pool's prefix"


class BucketRegionError(InputError):
    """The bucket is in another region, or its storage signs for another one."""

    code = "pool.bucket-region"
    default_hint = "make the pool with the region of the bucket: --region"


class FrameMissingError(NotFoundError):
    """No container holds this frame."""

    code = "pool.frame-missing"
    default_hint = "restore from another copy of the image, or recall it from a domain that holds one"


class PageMissingError(NotFoundError):
    """No container holds this manifest page."""

    code = "pool.page-missing"
    default_hint = "restore from another copy of the image, or recall it from a domain that holds one"


class DataKeyMissingError(KeyUnavailableError):
    """The frame is here, and no key that opens it was given."""

    code = "pool.data-key-missing"
    default_hint = "'strongroom import status --missing-keys' tells which key of the KMS is missing"


class CannotMarkError(IntegrityError):
    """What the images of a pool need cannot be told, so nothing may be removed from it."""

    code = "pool.cannot-mark"
    default_hint = (
        "'strongroom image verify' finds the image that is damaged; expire it when another copy is whole, then collect"
    )


class LockedError(RefusedError):
    """A retention lock keeps the object."""

    code = "pool.locked"
    default_hint = (
        "wait until the pool's lock clock is there ('strongroom pool show'); a governance lock can be lifted by an "
        "administrator with '--lift-lock', a compliance lock by nobody"
    )


class WeakerLockError(RefusedError):
    """A pool's lock mode is only ever made stricter."""

    code = "pool.weaker-lock"
    default_hint = "see the pool's mode with 'strongroom pool show'; make another pool for what needs no such lock"


class LocksUnreadError(IntegrityError):
    """A pool's clock or lock mode cannot be told, so nothing can be locked by it."""

    code = "pool.locks-unread"
    default_hint = "look into 'locks' in the pool with 'strongroom inspect'; what cannot be read there was damaged"


class SessionClosedError(UnavailableError):
    """The writing session was finished or aborted."""

    code = "pool.session-closed"
    default_hint = "run the job again"


class IndexBusyError(UnavailableError):
    """Another process holds the index for too long."""

    code = "pool.index-busy"
    default_hint = "try again when the other process is done; it may be making the index anew"


class IndexDamagedError(UnavailableError):
    """The index is damaged. No data are lost: it is made again from the containers."""

    code = "pool.index-damaged"
    default_hint = "restart the service, which makes the index again"
