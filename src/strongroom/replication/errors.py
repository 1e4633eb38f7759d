"""Why a replication session ends without an image."""

from __future__ import annotations

from strongroom.core.errors import (
    AuthorityError,
    IntegrityError,
    RefusedError,
    Retry,
    StrongroomError,
    UnavailableError,
)
from strongroom.formats.replication_messages import Error


class ProtocolError(IntegrityError):
    """The other side said something that the protocol does not allow at this point."""

    code = "replication.protocol"
    default_hint = "check that both domains run releases that work together; the other side's log says more"


class NoCommonVersionError(RefusedError):
    """The two sides share no version of the protocol."""

    code = "replication.no-common-version"
    default_hint = "bring both domains to releases that are at most one apart"


class TrustNotActiveError(RefusedError):
    """There is no active trust between the two domains."""

    code = "replication.trust-not-active"
    retry: Retry = "later"
    default_hint = "add the trust in both domains, or resume it: 'strongroom trust list'"


class CredentialRefusedError(AuthorityError):
    """The storage credential is unknown, revoked, or not for this sender and pool."""

    code = "replication.credential-refused"
    default_hint = "make a new one at the target ('strongroom storage credential create') and add the target again"


class OriginNotAcceptedError(RefusedError):
    """The target's administrator has not accepted images of this origin."""

    code = "replication.origin-not-accepted"
    retry: Retry = "later"
    default_hint = "ask the target's administrator to accept the origin"


class ImportPolicyMissingError(RefusedError):
    """The target has no active import policy of the name that the image asks for."""

    code = "replication.slp-missing"
    retry: Retry = "later"
    default_hint = "ask the target's administrator to create or activate the import policy"


class LoopError(RefusedError):
    """The image came from the domain that it would be sent to."""

    code = "replication.loop"
    default_hint = "take that domain out of the targets of the lifecycle policy"


class BadImageError(IntegrityError):
    """A signature, page or frame that the sender gave does not hold."""

    code = "replication.bad-image"
    default_hint = "verify the image at the sender: 'strongroom image verify IMAGE'"


class InterruptedSessionError(UnavailableError):
    """The connection broke before the image was stored."""

    code = "replication.interrupted"
    default_hint = "nothing has to be done: the job goes on where it was when both ends are there again"


_BY_CODE: dict[str, type[StrongroomError]] = {
    error.code: error
    for error in (
        ProtocolError,
        NoCommonVersionError,
        TrustNotActiveError,
        CredentialRefusedError,
        OriginNotAcceptedError,
        ImportPolicyMissingError,
        LoopError,
        BadImageError,
    )
}


def to_message(error: StrongroomError) -> Error:
    """Write an error for the other side, bounded."""
    return Error(code=error.code[:64], message=error.message[:512], hint=error.hint[:256], retry=error.retry)


def from_message(message: Error) -> StrongroomError:
    """Make the error that the other side wrote; an unknown code keeps its name."""
    branch = _BY_CODE.get(message.code, UnavailableError if message.retry == "later" else RefusedError)
    error = branch(f"the other side: {message.message}", hint=message.hint)
    error.code = message.code
    error.retry = message.retry
    return error
