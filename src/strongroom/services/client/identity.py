"""Who this host is as a client: one file for each domain, with the private key, for its owner alone.

Certificate and key are one record, replaced at once: whatever stops a renewal, the two fit each other.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

import msgspec
from cryptography import x509

from strongroom.core.errors import AuthenticationError, NotFoundError, RefusedError
from strongroom.core.ids import DomainId, HostId
from strongroom.core.secret import Secret
from strongroom.formats import records
from strongroom.formats.errors import DamagedError
from strongroom.kms import durable
from strongroom.pki.ca import load_certificate, to_der
from strongroom.pki.channel import Address
from strongroom.pki.errors import ExpiredError
from strongroom.pki.tls import Credential

MAX_BYTES: Final = 128 << 10
RENEW_BEFORE: Final = timedelta(days=120)
"""A third of the time for which a certificate is issued: two thirds may pass, one is to try again."""
SUFFIX: Final = ".client"
LOCK: Final = "lock"
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_Der = Annotated[bytes, msgspec.Meta(max_length=16_384)]


class NotEnrolledError(NotFoundError):
    """This host is no client of the domain."""

    code = "client.not-enrolled"
    default_hint = "enrol it: 'strongroom host enrol --to HOST:PORT --fingerprint F --token-file FILE'"


class AlreadyEnrolledError(RefusedError):
    """This host is a client of the domain already."""

    code = "client.already-enrolled"
    default_hint = "go on with it; to replace a lost or stolen key, get a reissue token and give --again HOST"


class OpenToOthersError(AuthenticationError):
    """The file with the client's private key can be read or changed by other accounts of this host."""

    code = "client.open-to-others"
    default_hint = "close it ('chmod 700' the folder, 'chmod 600' the file); if others may have read it, reissue"


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    domain: records.Bytes32
    host: records.Bytes16
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
    primary: Annotated[str, msgspec.Meta(max_length=300)]
    root: _Der
    chain: Annotated[list[_Der], msgspec.Meta(min_length=1, max_length=4)]
    key: _Der


@dataclass(frozen=True)
class ClientIdentity:
    """A client of one domain.

    Args:
        domain: which.
        host: id that the domain gave it.
        name: under which its images are listed.
        primary: peer listener of the domain's primary.
        root: of the domain, as it was pinned.
        credential: what it shows.
    """

    domain: DomainId
    host: HostId
    name: str
    primary: Address
    root: x509.Certificate
    credential: Credential

    @property
    def not_after(self) -> datetime:
        """When the certificate ends."""
        return load_certificate(self.credential.chain[0]).not_valid_after_utc

    def is_due(self, now: datetime) -> bool:
        """Tell whether it is time to renew."""
        return self.not_after - now <= RENEW_BEFORE

    def require_valid(self, now: datetime) -> None:
        """Refuse to go on with a certificate that has ended: the other side could not say why it hangs up.

        Raises:
            ExpiredError: it has.
        """
        if now >= self.not_after:
            raise ExpiredError(
                f"the certificate of the client '{self.name}' ended on {self.not_after:%Y-%m-%d %H:%M} UTC",
                hint="get it a reissue token: 'strongroom token create', then 'strongroom host enrol --again'",
            )


class ClientFolder:
    """Where the identities of this host's client lie.

    Args:
        path: the folder; made when it is first needed, mode 0700.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def find(self, domain: DomainId) -> ClientIdentity | None:
        """Give the identity for a domain, if there is one; raises as :meth:`get`, but for the first."""
        path = self._path(domain)
        try:
            with path.open("rb") as file:
                if (path.parent.stat().st_mode | path.stat().st_mode) & _OTHERS:
                    raise OpenToOthersError(f"'{path}' or its folder is open to other accounts")
                data = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            return None
        said = records.decode(data, _Record, max_bytes=MAX_BYTES, what="client file")
        if said.domain != domain:
            raise DamagedError(f"'{path}' is of another domain than its name says")
        return ClientIdentity(
            domain=domain,
            host=HostId(said.host),
            name=said.name,
            primary=Address.read(said.primary),
            root=load_certificate(said.root),
            credential=Credential(tuple(said.chain), Secret(said.key)),
        )

    def get(self, domain: DomainId) -> ClientIdentity:
        """Give the identity for a domain.

        Raises:
            NotEnrolledError: there is none.
            OpenToOthersError: other accounts could read or replace it.
            DamagedError: the file was changed.
        """
        found = self.find(domain)
        if found is None:
            raise NotEnrolledError(f"'{self.path}' has no client of the domain '{domain.hex()}'")
        return found

    def keep(self, identity: ClientIdentity) -> None:
        """Keep an identity in place of the one before, on stable storage; with :meth:`alone` held.

        Raises:
            KeystoreWriteError: it could not be written.
        """
        record = _Record(
            domain=identity.domain,
            host=identity.host,
            name=identity.name,
            primary=str(identity.primary),
            root=to_der(identity.root),
            chain=list(identity.credential.chain),
            key=identity.credential.key.reveal(),
        )
        durable.replace_file(self._path(identity.domain), records.encode(record))

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the folder: two commands that renew at once would each destroy the other's key.

        Raises:
            KeystoreWriteError: the folder cannot be made.
        """
        durable.make_folder(self.path)
        descriptor = os.open(self.path / LOCK, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, durable.FILE_MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _path(self, domain: DomainId) -> Path:
        return self.path / f"{domain.hex()}{SUFFIX}"
