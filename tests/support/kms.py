"""A key management service over a real keystore file, for tests of it and of what stands on it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from strongroom.core.clock import ManualClock
from strongroom.core.ids import DomainId, KeyTag
from strongroom.core.secret import Secret
from strongroom.formats import key_tag
from strongroom.formats.key_file import KeyFile
from strongroom.formats.key_tag import KeyProfile
from strongroom.formats.passphrase import normalise
from strongroom.kms.keyfolder import KeyFolder
from strongroom.kms.keyring import KeyRing
from strongroom.kms.service import KeyManagement
from strongroom.kms.store import KeystoreFile


class SeededEntropy:
    """Random-looking bytes that a seed fixes; never the same twice from one seed."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._calls = 0

    def bytes(self, count: int) -> bytes:
        self._calls += 1
        return hashlib.shake_256(f"{self._seed}/{self._calls}".encode()).digest(count)


@dataclass
class Needed:
    """The catalog's answer to who needs a key."""

    images: dict[KeyTag, int] = field(default_factory=dict)

    def images_needing(self, tag: KeyTag) -> int:
        return self.images.get(tag, 0)


class KmsHome:
    """A domain's keystore and key folder under one path, and the service over them."""

    def __init__(self, path: Path, name: str = "a") -> None:
        self.entropy = SeededEntropy(name)
        self.clock = ManualClock()
        self.needed = Needed()
        self.domain = DomainId(hashlib.sha256(name.encode()).digest())
        self.keystore = path / name / "kms" / "keystore"
        self.folder = KeyFolder(path / f"{name}.keys", self.entropy)
        self.hmk: KeyFile = self.folder.create("hmk", self.domain)
        self.kpk: KeyFile = self.folder.create("kpk", self.domain)
        self.store = KeystoreFile.create(self.keystore, self.domain, self.hmk, self.kpk, self.entropy)
        self.keys = self.service(self.store)
        self.ring = KeyRing(self.store)

    def reopened(self) -> KeystoreFile:
        """Open the keystore once more, as another process would."""
        return KeystoreFile(self.keystore, self.folder.load("hmk"), self.folder.load("kpk"), self.entropy)

    def service(self, store: KeystoreFile) -> KeyManagement:
        return KeyManagement(store, self.needed, clock=self.clock, entropy=self.entropy)


@dataclass(frozen=True)
class PhraseKey:
    """A key from a pass phrase, derived once for many tests."""

    phrase: Secret
    tag: KeyTag
    key: Secret


def make_phrase_key() -> PhraseKey:
    phrase = normalise("velvet orbit candle raft mumble cactus")
    uuid = hashlib.sha256(b"phrase key").digest()[:16]
    key = key_tag.from_pass_phrase(phrase, uuid)
    return PhraseKey(phrase, key_tag.make(key, uuid, KeyProfile.PASS_PHRASE), key)
