"""The primary's file of service keys: archive key, CA keys, catalog key, keys at peers, secrets of storage credentials.

It is opened with the service key of the key folder, apart from the keystore: with a locked keystore the primary goes
on signing, talking and importing headers.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final

from strongroom.core.clock import Clock, to_ns
from strongroom.core.entropy import Entropy
from strongroom.core.errors import KeyUnavailableError
from strongroom.core.ids import DomainId
from strongroom.core.secret import Secret
from strongroom.formats import service_keys
from strongroom.formats.algorithms import NONCE_BYTES, Cipher
from strongroom.formats.key_file import KeyFile
from strongroom.formats.service_keys import ServiceKey, ServiceKeysHead
from strongroom.kms import durable

ARCHIVE: Final = "archive"
CA_ROOT: Final = "ca/root"
CA_HOSTS: Final = "ca/hosts"
CA_FOREIGN: Final = "ca/foreign"
CATALOG: Final = "catalog"


class ServiceKeyMissingError(KeyUnavailableError):
    """A service key is not in the file."""

    code = "primary.service-key-missing"
    retry = "never"
    default_hint = "restore the primary's home from its backup"


class ServiceKeys:
    """The file, open; every change is durable when it returns. Safe for threads; one process has it open.

    Args:
        path: the file.
        service: the key that opens it.
        clock: for times of making.
        entropy: for nonces.
    """

    def __init__(self, path: Path, service: KeyFile, clock: Clock, entropy: Entropy) -> None:
        self._path = path
        self._service = service
        self._clock = clock
        self._entropy = entropy
        self._lock = threading.Lock()
        opened = service_keys.open_file(path.read_bytes(), service)
        self._head = opened.head
        self._keys = {key.name: key for key in opened.keys}

    @classmethod
    def create(cls, path: Path, domain: DomainId, service: KeyFile, clock: Clock, entropy: Entropy) -> ServiceKeys:
        """Make an empty file."""
        head = ServiceKeysHead(
            domain=domain,
            generation=1,
            service=service.id,
            cipher=Cipher.AES_256_GCM,
            nonce=entropy.bytes(NONCE_BYTES),
        )
        durable.make_folder(path.parent)
        durable.create_file(path, service_keys.seal_file(head, (), service))
        return cls(path, service, clock, entropy)

    @property
    def domain(self) -> DomainId:
        """The domain whose keys these are."""
        return DomainId(self._head.domain)

    def get(self, name: str) -> Secret:
        """Give a key.

        Raises:
            ServiceKeyMissingError: there is none of this name.
        """
        with self._lock:
            key = self._keys.get(name)
        if key is None:
            raise ServiceKeyMissingError(f"there is no service key '{name}'")
        return key.value

    def keep(self, name: str, key: Secret, alg: str = "secret") -> None:
        """Keep a key durably, in place of one of the same name."""
        with self._lock:
            made = ServiceKey(name=name, alg=alg, created=to_ns(self._clock.now()), value=key)
            self._write({**self._keys, name: made})

    def drop(self, name: str) -> None:
        """Destroy a key; nothing happens when there is none of this name."""
        with self._lock:
            if name in self._keys:
                self._write({key: value for key, value in self._keys.items() if key != name})

    def _write(self, keys: dict[str, ServiceKey]) -> None:
        head = ServiceKeysHead(
            domain=self._head.domain,
            generation=self._head.generation + 1,
            service=self._head.service,
            cipher=self._head.cipher,
            nonce=self._entropy.bytes(NONCE_BYTES),
        )
        durable.replace_file(self._path, service_keys.seal_file(head, tuple(keys.values()), self._service))
        self._head, self._keys = head, keys
