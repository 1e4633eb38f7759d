"""What can be wrong between two domains; each with its cure.

    NotFoundError          trust.not-found
    InputError             trust.wrong-domain
    RefusedError           trust.not-possible  trust.has-dependants  trust.not-active  trust.to-itself
                           trust.nonce-reused  trust.older-incarnation  trust.newer-incarnation
                           trust.older-start  trust.two-homes  trust.removed
    AuthenticationError    trust.not-a-primary
    UnavailableError       trust.outbox-full

A wrong fingerprint, token, name or clock keeps the code of the package that found it: ``pki.wrong-fingerprint``,
``token.unknown``, ``token.used-up``, ``token.expired``, ``pki.wrong-name``, ``pki.clock-skew``.
"""

from __future__ import annotations

from typing import ClassVar

from strongroom.core.errors import (
    AuthenticationError,
    InputError,
    NotFoundError,
    RefusedError,
    Retry,
    UnavailableError,
)


class TrustNotFoundError(NotFoundError):
    """This domain has nothing to do with the domain named."""

    code = "trust.not-found"
    default_hint = "see the trusts with 'strongroom trust list'"


class WrongDomainError(InputError):
    """The request was meant for another domain, or the other domain is not the one that was meant."""

    code = "trust.wrong-domain"
    default_hint = "compare the domain ids with 'strongroom trust show' and 'strongroom status' in both domains"


class NotPossibleError(RefusedError):
    """The state of the trust does not allow this."""

    code = "trust.not-possible"


class HasDependantsError(RefusedError):
    """Something still needs the trust."""

    code = "trust.has-dependants"
    default_hint = "change or delete what the message names first, or remove with '--force' and lose it"


class NotActiveError(RefusedError):
    """The trust does not let this pass now."""

    code = "trust.not-active"
    default_hint = "see what is missing with 'strongroom trust check'"


class TrustToItselfError(RefusedError):
    """A domain cannot trust itself."""

    code = "trust.to-itself"
    default_hint = "give the address of the other domain's primary"


class NonceReusedError(RefusedError):
    """A nonce came again with another key."""

    code = "trust.nonce-reused"
    default_hint = "begin anew with 'strongroom trust add'"


class OlderIncarnationError(RefusedError):
    """The speaker was restored from a copy that is older than what is already known here."""

    code = "trust.older-incarnation"
    default_hint = "shut that primary down: a newer one of the same domain has already spoken"


class NewerIncarnationError(RefusedError):
    """The speaker was restored, and an administrator has not yet said that this is right."""

    code = "trust.newer-incarnation"
    retry: Retry = "later"
    default_hint = (
        "ask the other administrator whether the primary was restored, then confirm it: 'POST /v1/trusts/PEER/confirm'"
    )


class OlderStartError(RefusedError):
    """The speaker was started before one that has already spoken."""

    code = "trust.older-start"
    retry: Retry = "later"
    default_hint = "if this comes again, two primaries of one domain are alive, or one was put back to an older state"


class TwoHomesError(RefusedError):
    """Two homes of one domain are alive, or one was put back to an older state without a restore."""

    code = "trust.two-homes"
    default_hint = (
        "find both primaries, stop the wrong one, then confirm it: 'POST /v1/trusts/PEER/confirm' where this was seen"
    )


class RemovedError(RefusedError):
    """The called domain's administrator has removed the trust."""

    code = "trust.removed"
    default_hint = "ask the other administrator; trust is made again with 'strongroom trust add' in both domains"


class NotAPrimaryError(AuthenticationError):
    """The caller is known, and is not the primary of another domain."""

    code = "trust.not-a-primary"
    default_hint = "only a primary with the certificate that the called domain issued may use this"


class OutboxFullError(UnavailableError):
    """Too many messages wait for this domain."""

    code = "trust.outbox-full"
    default_hint: ClassVar[str] = "restore the way to the other primary; what waits is sent then"
