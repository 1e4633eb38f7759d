"""The root certificate of a domain that a person signs in to: fetched, compared with a pin, or kept from before."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from strongroom.cli import logins
from strongroom.cli.api_client import UnreachableServerError, UntrustedServerError, fetch_unverified
from strongroom.cli.logins import NotLoggedInError
from strongroom.core.errors import InputError

if TYPE_CHECKING:
    from strongroom.pki.fingerprint import Fingerprint

MAX_PEM_BYTES: Final = 64 << 10
MOST_ROOTS: Final = 4
_NO_ROOT: Final = "give --fingerprint F (from 'strongroom ca show' at the domain), or --ca FILE"


def fetch_root(url: str, pin: str) -> str:
    """Fetch the roots of a primary without verifying anything, and take the one that has the pinned fingerprint.

    Returns:
        PEM.

    Raises:
        UntrustedServerError: none of them has it.
        UnreachableServerError: the primary does not answer, or with something else.
        InputError: the pin is no fingerprint.
    """
    from strongroom.pki.fingerprint import read_pin

    wanted = read_pin(pin)
    answer = fetch_unverified(url, "/ca/roots")
    try:
        found = [_only_certificate(str(pem)) for pem in answer["roots"][:MOST_ROOTS]]
    except (KeyError, TypeError, ValueError) as error:
        raise UnreachableServerError(f"'{url}' answered something else than its roots") from error
    for pem, fingerprint in found:
        if fingerprint == wanted:
            return pem
    raise UntrustedServerError(f"no root of '{url}' has the fingerprint '{wanted}'")


def read_root(file: Path, pin: str | None) -> str:
    """Read a root from a file; compare it with a pin if there is one.

    Raises:
        UntrustedServerError: it is another.
        InputError: the file is no certificate, or the pin no fingerprint.
    """
    from strongroom.pki.fingerprint import read_pin

    with file.open("rb") as opened:
        text = opened.read(MAX_PEM_BYTES).decode("ascii", "replace")
    try:
        pem, fingerprint = _only_certificate(text)
    except ValueError as error:
        raise InputError(f"'{file}' is not one certificate in PEM") from error
    if pin is not None and fingerprint != read_pin(pin):
        raise UntrustedServerError(f"the certificate in '{file}' has another fingerprint")
    return pem


def kept_root(url: str) -> str:
    """Give the root with which the caller signed in there before.

    Raises:
        NotLoggedInError: the caller never did.
    """
    root = logins.root_of(url)
    if root is None:
        raise NotLoggedInError(f"you have not signed in to '{url}' before", hint=_NO_ROOT)
    return root


def _only_certificate(text: str) -> tuple[str, Fingerprint]:
    """Read the one certificate of a PEM text; give it, written anew, and its fingerprint.

    What is believed must be what was compared. OpenSSL trusts every certificate in the text that it is given: behind
    the right one, which anybody can fetch, an attacker would put a second one.

    Raises:
        ValueError: it is not one certificate.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    from strongroom.pki.fingerprint import fingerprint_of

    certificates = x509.load_pem_x509_certificates(text.encode())
    if len(certificates) != 1:
        raise ValueError("more than one certificate")
    return certificates[0].public_bytes(Encoding.PEM).decode("ascii"), fingerprint_of(certificates[0])
