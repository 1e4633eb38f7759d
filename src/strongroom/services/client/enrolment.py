"""How a client comes to its certificate, and to the next one.

Source: ``docs/reference/protocols/enrolment.md``; this is the client's side.

A key is made here and stays here. If the answer is lost on its way, the token is spent and the host is in the registry:
then an administrator gives it a reissue token, and it comes back as the host that it is.
"""

from __future__ import annotations

import msgspec
from cryptography import x509

from strongroom.core.clock import Clock
from strongroom.core.ids import HostId, from_text, to_text
from strongroom.core.secret import Secret
from strongroom.pki import bootstrap, messages
from strongroom.pki.bootstrap import PinnedDomain, check_issued
from strongroom.pki.ca import load_certificate
from strongroom.pki.channel import Address
from strongroom.pki.errors import NotStrongroomError
from strongroom.pki.fingerprint import Fingerprint
from strongroom.pki.keys import make_host_key, make_request
from strongroom.pki.names import HostNames
from strongroom.pki.roles import Role
from strongroom.pki.tls import Credential
from strongroom.services.client.identity import AlreadyEnrolledError, ClientFolder, ClientIdentity


def enrol(
    folder: ClientFolder, primary: Address, pin: Fingerprint, token: Secret, name: str, clock: Clock
) -> ClientIdentity:
    """Enrol this host as a client, and keep what it got.

    Args:
        folder: where.
        primary: its peer listener.
        pin: SHA-256 of the domain's root.
        token: of the purpose *enrol-host*, for a client.
        name: by which the domain knows this host.
        clock: for the first meeting.

    Raises:
        HostNameError: the name cannot be used.
        AlreadyEnrolledError: the folder has a client of that domain; the token is not spent.
        StrongroomError: as :func:`~strongroom.pki.bootstrap.introduce`, or what the primary refused with.
    """
    (checked,) = HostNames.read([name]).texts
    key = make_host_key()
    with folder.alone():
        pinned, channel = bootstrap.introduce(primary, pin, clock)
        with channel:
            if folder.find(pinned.domain) is not None:
                raise AlreadyEnrolledError(f"'{folder.path}' has a client of the domain '{pinned.domain.hex()}'")
            asked = messages.EnrolRequest(
                token=_text(token), request=make_request(key), role=Role.CLIENT.value, label=checked, names=[checked]
            )
            answer = channel.post(messages.ENROL_PATH, asked)
        return _keep(folder, primary, pinned, key, answer)


def come_back(
    folder: ClientFolder, primary: Address, pin: Fingerprint, token: Secret, host: HostId, clock: Clock
) -> ClientIdentity:
    """Get a certificate for a client that lost its own; all that it had are revoked.

    Args:
        folder: where; an identity for the same domain is replaced.
        primary: its peer listener.
        pin: SHA-256 of the domain's root.
        token: of the purpose *reissue*, for this host.
        host: the id that it had.
        clock: for the first meeting.

    Raises:
        StrongroomError: as :func:`enrol`.
    """
    key = make_host_key()
    with folder.alone():
        pinned, channel = bootstrap.introduce(primary, pin, clock)
        with channel:
            asked = messages.ReissueRequest(
                token=_text(token), request=make_request(key), home=pinned.domain.hex(), host=to_text(host)
            )
            answer = channel.post(messages.REISSUE_PATH, asked)
        return _keep(folder, primary, pinned, key, answer, host)


def renew(folder: ClientFolder, held: ClientIdentity, clock: Clock) -> ClientIdentity:
    """Get the next certificate, with a new key, unless another command has just done so.

    Returns:
        What is to be shown from now on.

    Raises:
        StrongroomError: the primary cannot be reached or refuses; the present certificate stays in use.
    """
    with folder.alone():
        held = folder.get(held.domain)  # another command may have been first
        if not held.is_due(clock.now()):
            return held
        key = make_host_key()
        pinned = PinnedDomain(held.domain, held.root, ())
        with bootstrap.connect(held.primary, pinned, clock, credential=held.credential) as channel:
            answer = channel.post(messages.RENEW_PATH, messages.RenewRequest(request=make_request(key)))
        return _keep(folder, held.primary, pinned, key, answer, held.host)


def _name(certificate: x509.Certificate) -> str:
    """Read the name that the domain gave; :func:`check_issued` has looked at whose certificate it is."""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    found = [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]
    if not found:
        raise NotStrongroomError("the certificate in the answer gives this client no name")
    return str(found[0])


def _text(token: Secret) -> str:
    return token.reveal().decode("utf-8", "replace")


def _keep(
    folder: ClientFolder,
    primary: Address,
    pinned: PinnedDomain,
    key: Secret,
    answer: bytes,
    expected: HostId | None = None,
) -> ClientIdentity:
    try:
        issued = messages.decode(answer, messages.IssuedDocument)
    except msgspec.DecodeError as error:
        raise NotStrongroomError(f"'{primary}' answered with no certificate") from error
    host = expected or HostId(from_text(issued.host))
    check_issued(issued.chain, [pinned.root], key, home=pinned.domain, host=host)
    identity = ClientIdentity(
        domain=pinned.domain,
        host=host,
        name=_name(load_certificate(issued.chain[0])),
        primary=primary,
        root=pinned.root,
        credential=Credential(tuple(issued.chain), key),
    )
    folder.keep(identity)
    return identity
