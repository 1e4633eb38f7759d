"""What can go wrong in a media server."""

from __future__ import annotations

from strongroom.core.errors import (
    AuthenticationError,
    AuthorityError,
    InputError,
    NotFoundError,
    RefusedError,
    ResourceError,
    Retry,
    UnavailableError,
)


class NoIdentityError(NotFoundError):
    """The home has no certificate of a media server's own domain."""

    code = "media.no-identity"
    default_hint = "enrol the media server: 'strongroom cert issue --to HOST:PORT --fingerprint F --token-file FILE'"


class NoDescriptorError(ResourceError):
    """The process has as many files and connections open as it may."""

    code = "media.no-descriptor"
    default_hint = "let fewer backups and restores run at once, or raise the limit of open files of the media server"


class PoolNotOpenError(NotFoundError):
    """This media server does not serve the pool, or could not open it."""

    code = "media.pool-not-open"
    retry: Retry = "later"
    default_hint = "look at the media server's log; 'strongroom pool list' tells which media server serves which pool"


class OtherPoolError(RefusedError):
    """Another pool lies at the path."""

    code = "media.other-pool"
    default_hint = "choose another folder"


class NoGrantError(AuthenticationError):
    """A request came without a grant, or with something that is none."""

    code = "media.no-grant"
    default_hint = "begin the backup or restore at the primary, which gives the grant"


class NotMountedError(NotFoundError):
    """A client asks about an image that is not open for it, or not any more."""

    code = "media.not-mounted"
    default_hint = "mount the image again; 'strongroom job show' tells why a mount ended"


class WrongJobError(RefusedError):
    """The grant is for another kind of work."""

    code = "media.wrong-job"
    default_hint = "begin the backup or restore again"


class NotOurPrimaryError(AuthorityError):
    """Somebody else than this domain's primary asked for work."""

    code = "media.not-our-primary"


class NotForeignError(AuthorityError):
    """A replication session was opened by a host that is not another domain's."""

    code = "media.not-foreign"


class NotOurClientError(AuthorityError):
    """A client's work was asked for by a host that is none of this domain's clients."""

    code = "media.not-our-client"
    default_hint = "enrol the host as a client of the domain whose media server this is: 'strongroom host enrol'"


class WrongClientError(AuthorityError):
    """A grant was brought by another client than the one that the primary names for its job."""

    code = "media.wrong-client"
    default_hint = "run it on the host that it was begun for; bring primary and media server to the same release"


class WrongTargetError(AuthenticationError):
    """What answers at the target's address is not a host of the target."""

    code = "media.wrong-target"
    default_hint = "check the target's addresses: 'strongroom storage target list'"


class TargetUnreachableError(UnavailableError):
    """No media server of the target answers."""

    code = "media.target-unreachable"
    default_hint = "check the network between the media servers; the job tries again by itself"


class CancelledError(RefusedError):
    """The job was cancelled."""

    code = "media.cancelled"


class ClientGoneError(UnavailableError):
    """The client closed the connection before the work was done."""

    code = "media.client-gone"
    default_hint = "run the backup or restore again"


class StoppingError(UnavailableError):
    """The media server was stopped in the middle of a client's work."""

    code = "media.stopping"
    default_hint = "run the backup or restore again when the media server is back"


class UnknownWorkError(InputError):
    """The media server does not know this call."""

    code = "media.unknown-work"
    default_hint = "bring media server and primary to the same release"
