"""What can be wrong with certificates, fingerprints, tokens and introductions; each with its cure.

InputError             pki.bad-fingerprint  pki.sha1-not-accepted  pki.bad-name  pki.bad-request
                       pki.bad-enrolment
NotFoundError          pki.host-not-found  pki.certificate-not-found  pki.token-not-found
RefusedError           pki.name-taken  pki.host-known  pki.not-strongroom  pki.clock-skew  pki.bad-issuer
                       pki.refused-there
AuthenticationError    pki.no-certificate  pki.unknown-issuer  pki.not-registered  pki.certificate-revoked
                       pki.certificate-expired  pki.certificate-not-yet-valid  pki.host-retired
                       pki.wrong-fingerprint  pki.wrong-name  pki.not-the-primary  pki.chain-refused
                       token.unknown  token.expired  token.used-up  token.revoked  token.wrong-purpose
                       token.wrong-binding
IntegrityError         pki.bad-certificate  pki.bad-crl  pki.older-crl
UnavailableError       pki.unreachable  pki.crl-missing  pki.crl-expired
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from strongroom.core.errors import (
    AuthenticationError,
    AuthorityError,
    InputError,
    IntegrityError,
    NotFoundError,
    RefusedError,
    StrongroomError,
    UnavailableError,
)


class FingerprintFormatError(InputError):
    """What was given as a fingerprint is none."""

    code = "pki.bad-fingerprint"
    default_hint = (
        "give the SHA-256 fingerprint in full, 64 hexadecimal digits or 26 words, as 'strongroom ca show' prints it"
    )


class Sha1FingerprintError(FingerprintFormatError):
    """A SHA-1 fingerprint was given where a pin is wanted."""

    code = "pki.sha1-not-accepted"
    default_hint = (
        "two certificates with one SHA-1 can be made on purpose: ask the other administrator for "
        "the SHA-256 fingerprint"
    )


class HostNameError(InputError):
    """A name cannot stand in a certificate."""

    code = "pki.bad-name"
    default_hint = "give a DNS name of letters, digits and hyphens (international names as 'xn--'), or an IP address"


class CertificateRequestError(InputError):
    """A certificate request is malformed, or its sender does not hold the private key."""

    code = "pki.bad-request"
    default_hint = "make the request anew on the host that will use the certificate"


class EnrolmentError(InputError):
    """What a host asks for makes no sense."""

    code = "pki.bad-enrolment"
    default_hint = "correct the command on the host that enrols; its token was not spent"


class HostNotFoundError(NotFoundError):
    """The registry has no such host."""

    code = "pki.host-not-found"
    default_hint = "see the hosts with 'strongroom host list'"


class CertificateNotFoundError(NotFoundError):
    """No such certificate was issued here."""

    code = "pki.certificate-not-found"
    default_hint = "see the certificates with 'strongroom cert list'"


class TokenNotFoundError(NotFoundError):
    """No token has this name."""

    code = "pki.token-not-found"
    default_hint = "see the tokens with 'strongroom token list'"


class NameTakenError(RefusedError):
    """A name belongs to another host or token."""

    code = "pki.name-taken"
    default_hint = "choose another name; 'strongroom host list' shows which host has it"


class HostKnownError(RefusedError):
    """The host is in the registry already."""

    code = "pki.host-known"
    default_hint = "a host that lost its certificate is let in by a reissue token, and keeps its identity"


class IssuerError(RefusedError):
    """A certificate authority is missing, or cannot do what was asked of it."""

    code = "pki.bad-issuer"
    default_hint = "see the authorities with 'strongroom ca show'"


class CertificateDamagedError(IntegrityError):
    """Bytes that should be a certificate are none, or not one of ours."""

    code = "pki.bad-certificate"
    default_hint = "enrol the host again with a reissue token"


class CRLDamagedError(IntegrityError):
    """A revocation list is malformed, or not signed by the issuer it names."""

    code = "pki.bad-crl"
    default_hint = "look at what stands between this host and the primary: the list was changed on its way"


class CRLOlderError(IntegrityError):
    """A revocation list is older than one this host has seen."""

    code = "pki.older-crl"
    default_hint = (
        "if the primary was restored from a backup, let it issue a new list; otherwise someone replays an old one"
    )


# ---------------------------------------------------------------- who calls


class NoCertificateError(AuthenticationError):
    """The caller showed no certificate."""

    code = "pki.no-certificate"
    default_hint = "enrol the host, and call with its certificate"


class UnknownIssuerError(AuthenticationError):
    """The caller's certificate was not issued here."""

    code = "pki.unknown-issuer"
    default_hint = "present the certificate that the called domain issued, not one of the caller's own domain"


class NotRegisteredError(AuthenticationError):
    """An issuer of ours signed the certificate, and the registry does not have it."""

    code = "pki.not-registered"
    default_hint = (
        "the registry is older than the certificate, or the issuer's key was misused: find out which, then reissue"
    )


class RevokedError(AuthenticationError):
    """The certificate was revoked."""

    code = "pki.certificate-revoked"
    default_hint = "if the host is to come back, give it a reissue token"


class ExpiredError(AuthenticationError):
    """The certificate's time is over."""

    code = "pki.certificate-expired"
    default_hint = "an expired certificate cannot renew itself: give the host a reissue token, and check its clock"


class NotYetValidError(AuthenticationError):
    """The certificate's time has not begun."""

    code = "pki.certificate-not-yet-valid"
    default_hint = "compare the clocks of both hosts"


class RetiredError(AuthenticationError):
    """The host was retired or suspended."""

    code = "pki.host-retired"
    default_hint = "see 'strongroom host show'; a retired host enrols anew and gets another identity"


class CRLMissingError(UnavailableError):
    """There is no revocation list of this issuer, so nobody can tell what was revoked."""

    code = "pki.crl-missing"
    default_hint = "let this host reach the primary once; it fetches the list by itself"


class CRLExpiredError(UnavailableError):
    """The revocation list is past its nextUpdate."""

    code = "pki.crl-expired"
    default_hint = "this host was out of contact for too long: restore the way to the primary, and check the clock"


# ---------------------------------------------------------------- introductions


class UnreachableError(UnavailableError):
    """Nothing answers at the address, or it stopped answering."""

    code = "pki.unreachable"
    default_hint = "check the name, the port, the firewall, and that the primary runs"


class NotStrongroomError(RefusedError):
    """Something answers, and it is not a primary of this product."""

    code = "pki.not-strongroom"
    default_hint = "give the address and port of the primary's peer listener, as 'strongroom status' shows it there"


class WrongFingerprintError(AuthenticationError):
    """The root that was presented is not the one that was pinned. Nothing secret was sent."""

    code = "pki.wrong-fingerprint"
    default_hint = (
        "compare with the other administrator by telephone; if the pin is right, someone stands between: do not go on"
    )


class WrongNameError(AuthenticationError):
    """The server is one of the pinned domain, under another name than was called."""

    code = "pki.wrong-name"
    default_hint = (
        "call it by a name in its certificate, or let its administrator reissue the certificate with this name"
    )


class NotThePrimaryError(AuthenticationError):
    """The server belongs to the pinned domain and is not its primary."""

    code = "pki.not-the-primary"
    default_hint = "give the address of the primary, not of a media server"


class ChainError(AuthenticationError):
    """The server's certificate does not lead to the pinned root."""

    code = "pki.chain-refused"
    default_hint = "if the other domain changed its CA, take the new fingerprint; otherwise someone stands between"


class ClockSkewError(RefusedError):
    """The clocks of the two hosts differ so much that certificates cannot be judged."""

    code = "pki.clock-skew"
    default_hint = "set both clocks by NTP, then try again"


# ---------------------------------------------------------------- tokens


class TokenUnknownError(AuthenticationError):
    """No token has this value."""

    code = "token.unknown"
    default_hint = (
        "copy the whole token, without spaces, from where it was shown; tokens are good at the primary that made them"
    )


class TokenExpiredError(AuthenticationError):
    """The token's time is over."""

    code = "token.expired"
    default_hint = "ask for a new token, and check the clock of the primary that made it"


class TokenUsedUpError(AuthenticationError):
    """The token was used as often as it may be."""

    code = "token.used-up"
    default_hint = "ask for a new token; if you did not use this one, find in the audit who did"


class TokenRevokedError(AuthenticationError):
    """The token was withdrawn by an administrator."""

    code = "token.revoked"
    default_hint = "ask the administrator who withdrew it"


class TokenPurposeError(AuthorityError):
    """The token is for something else."""

    code = "token.wrong-purpose"
    default_hint = "ask for a token of the purpose that the message names"


class TokenBindingError(AuthorityError):
    """The token is bound to another domain or host."""

    code = "token.wrong-binding"
    default_hint = "use the token on the host or domain it was made for, or ask for one bound to this one"


class RemoteError(RefusedError):
    """The other primary refused, for a reason that only a newer program knows by name."""

    code = "pki.refused-there"
    default_hint = "see the log of the other primary; it may run a newer release"


def _leaves(kind: type[StrongroomError]) -> dict[str, type[StrongroomError]]:
    found = {kind.code: kind} if kind.__module__ == __name__ else {}
    for below in kind.__subclasses__():
        found |= _leaves(below)
    return found


BY_CODE: Final[Mapping[str, type[StrongroomError]]] = _leaves(StrongroomError)
"""The errors of this module by their codes, so that a refusal means the same on both sides of a
connection."""
