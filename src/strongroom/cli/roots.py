"""The root certificate of a domain that a person signs in to: fetched, compared with a pin, or kept from before."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from strongroom.cli import logins
from strongroom.cli.api_client import UnreachableServerError, UntrustedServerError, fetch_unverified
from strongroom.cli.logins import NotLoggedInError
from strongroom.core.errors import InputError

MAX_PEM_BYTES: Final = 64 << 10
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
        found = [str(pem) for pem in answer["roots"]][:4]
    except (KeyError, TypeError) as error:
        raise UnreachableServerError(f"'{url}' answered something else than its roots") from error
    for pem in found:
        if _fingerprint(pem, f"a root of '{url}'") == wanted.value:
            return pem
    raise UntrustedServerError(f"no root of '{url}' has the fingerprint '{wanted}'")


def read_root(file: Path, pin: str | None) -> str:
    """Read a root from a file; compare it with a pin if there is one.

    Raises:
        UntrustedServerError: it is another.
        InputError: the file is no certificate, or the pin no fingerprint.
    """
    with file.open("rb") as opened:
        pem = opened.read(MAX_PEM_BYTES).decode("ascii", "replace")
    presented = _fingerprint(pem, f"'{file}'")
    if pin is not None:
        from strongroom.pki.fingerprint import read_pin

        if presented != read_pin(pin).value:
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


def _fingerprint(pem: str, what: str) -> bytes:
    import hashlib
    import ssl

    try:
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem.strip())).digest()
    except ValueError as error:
        raise InputError(f"{what} is not a certificate in PEM") from error
