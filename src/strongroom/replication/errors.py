"""Why a replication session ends without an image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from strongroom.core.errors import (
    AuthorityError,
    IntegrityError,
    RefusedError,
    ResourceError,
    Retry,
    StrongroomError,
    UnavailableError,
)
from strongroom.formats import replication_messages as messages
from strongroom.formats.errors import DamagedError, NewerFormatError
from strongroom.formats.replication_messages import AnyMessage, Error
from strongroom.pool.errors import PoolFullError


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


class AlreadyHeldError(RefusedError):
    """The target has this image, complete.

    Attributes:
        receipt: the receipt that the target signed for it; empty when there is none yet.
    """

    code = "replication.already-held"
    default_hint = "nothing has to be done: the job takes the receipt and ends"
    receipt: bytes = b""


class NoSpaceError(ResourceError):
    """The target's pool is full."""

    code = "replication.no-space"
    default_hint = "ask the target's administrator for room; the job goes on where it was"


class QuotaError(RefusedError):
    """The quota that the target gave this trust is used up."""

    code = "replication.quota"
    retry: Retry = "later"
    default_hint = "ask the target's administrator to raise the quota"


class OwnPoolError(ResourceError):
    """What this side holds already cannot be read; the other side is not at fault."""

    code = "replication.own-pool"
    default_hint = "verify the image on the side that says this: 'strongroom image verify'"


class OwnTroubleError(UnavailableError):
    """Something of this side's own failed: its database, its index, its storage; the image is not at fault."""

    code = "replication.own-trouble"
    default_hint = (
        "look at the log of the media server on the side that says this;"
        " when the cause is gone, the job goes on by itself where it was"
    )


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
        AlreadyHeldError,
        NoSpaceError,
        QuotaError,
        OwnPoolError,
        OwnTroubleError,
    )
}


def decode(data: bytes) -> tuple[AnyMessage, memoryview]:
    """Read a message.

    Raises:
        ProtocolError: it is none.
    """
    try:
        return messages.decode(data)
    except (DamagedError, NewerFormatError) as error:
        raise ProtocolError(error.message) from error


def cut(body: memoryview, lengths: Sequence[int]) -> list[bytes]:
    """Cut a body into the objects that the message says are in it.

    Raises:
        ProtocolError: the lengths do not add up.
    """
    try:
        return messages.cut(body, lengths)
    except DamagedError as error:
        raise ProtocolError(error.message) from error


@contextmanager
def judging() -> Iterator[None]:
    """Check here what a sender gave: what does not hold is the image's fault. Nothing that fails elsewhere is.

    Raises:
        BadImageError: in place of any other error of integrity; a breach of the protocol stays one.
    """
    try:
        yield
    except (ProtocolError, BadImageError):
        raise
    except IntegrityError as error:
        raise BadImageError(error.message) from error


def as_refusal(error: StrongroomError) -> StrongroomError:
    """Turn what went wrong with an image on its way in into what the sender is told.

    A word of the protocol stays, also one that came from the own primary as a record. So does what may be tried later.
    Whatever else failed is trouble of our own, which no image is to be given up for.
    """
    if isinstance(error, PoolFullError):
        refusal: StrongroomError = NoSpaceError(error.message)
    elif error.code in _BY_CODE or error.retry == "later":
        return error
    else:
        refusal = OwnTroubleError(f"{error.code}: {error.message}")
    refusal.__cause__ = error
    return refusal


def to_message(error: StrongroomError) -> Error:
    """Write an error for the other side, bounded."""
    return Error(code=error.code[:64], message=error.message[:512], hint=error.hint[:256], retry=error.retry)


def from_message(message: Error, body: bytes = b"") -> StrongroomError:
    """Make the error that the other side wrote; an unknown code keeps its name."""
    branch = _BY_CODE.get(message.code, UnavailableError if message.retry == "later" else RefusedError)
    error = branch(f"the other side: {_printable(message.message)}", hint=_printable(message.hint))
    error.code = branch.code if message.code in _BY_CODE else _printable(message.code)
    error.retry = message.retry
    if isinstance(error, AlreadyHeldError):
        error.receipt = body
    return error


def _printable(text: str) -> str:
    """Make a stranger's words fit to be shown: one line, short."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:512]).strip()
