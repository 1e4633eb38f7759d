"""The keystore file: opened with HMK and KPK, changed under a lock, never half written.

Every change replaces the whole file and raises its generation. Other processes notice by its head, whose
nonce is fresh with each writing.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from msgspec.structs import replace

from strongroom.core.entropy import Entropy
from strongroom.core.ids import DomainId, KeyGroupId, KeyTag
from strongroom.core.secret import Secret
from strongroom.formats import keystore
from strongroom.formats.algorithms import NONCE_BYTES, Cipher
from strongroom.formats.errors import NewerFormatError
from strongroom.formats.key_file import KeyFile
from strongroom.formats.keystore import KeyRecord, KeystoreHead
from strongroom.formats.sealed import FRONT_BYTES, MAX_HEAD_BYTES
from strongroom.kms import durable
from strongroom.kms.contents import Contents, Draft
from strongroom.kms.errors import (
    KeystoreBusyError,
    KeystoreExistsError,
    KeystoreMissingError,
    KeystoreWriteError,
    NotQuiescedError,
    QuiescedError,
)

LOCK_TRIES: Final = 600
LOCK_PAUSE_SECONDS: Final = 0.05

T = TypeVar("T")


class KeystoreFile:
    """One keystore and the two keys that open it. Safe for threads, and for processes of one host.

    Args:
        path: the keystore; its lock file is ``PATH.lock``.
        hmk: host master key.
        kpk: key protection key.
        entropy: for nonces.

    Raises:
        KeystoreMissingError: there is none.
        WrongKeyFileError: it needs another HMK or KPK; the message names both.
        DamagedError: it was changed.
        NewerFormatError: of a later version.
    """

    def __init__(self, path: Path, hmk: KeyFile, kpk: KeyFile, entropy: Entropy) -> None:
        self._path = path
        self._hmk = hmk
        self._kpk = kpk
        self._entropy = entropy
        self._mutex = threading.RLock()
        self._front = b""
        self._head, self._contents, self._complete = self._load()

    @classmethod
    def create(cls, path: Path, domain: DomainId, hmk: KeyFile, kpk: KeyFile, entropy: Entropy) -> KeystoreFile:
        """Make an empty keystore.

        Raises:
            KeystoreExistsError: there is one.
            KeystoreWriteError: it could not be written.
        """
        head = KeystoreHead(
            domain=domain,
            generation=1,
            hmk=hmk.id,
            kpk=kpk.id,
            cipher=Cipher.AES_256_GCM,
            nonce=entropy.bytes(NONCE_BYTES),
            quiesced=0,
        )
        durable.make_folder(path.parent)
        try:
            durable.create_file(path, keystore.seal_file(head, Contents().body(), hmk))
        except FileExistsError as error:
            raise KeystoreExistsError(f"there is a keystore '{path}' already") from error
        return cls(path, hmk, kpk, entropy)

    @property
    def domain(self) -> DomainId:
        """The domain whose keystore this is."""
        return DomainId(self._head.domain)

    def head(self) -> KeystoreHead:
        """Give the head as it is in the file now: ids, generation, quiesce counter."""
        with self._mutex:
            self._refresh()
            return self._head

    def read(self) -> Contents:
        """Give the contents as they are in the file now, another process's changes included."""
        with self._mutex:
            self._refresh()
            return self._contents

    def change(self, edit: Callable[[Draft], T]) -> T:
        """Change the contents in one step that is on stable storage when this returns.

        Args:
            edit: changes the draft; when it raises, nothing is written. It must be quick.

        Raises:
            QuiescedError: somebody is copying the keystore.
            KeystoreBusyError: another process does not let go of the lock.
            KeystoreWriteError: it could not be written; the old contents stand.
            NewerFormatError: a later version left something in it that writing would lose.
        """
        with self._exclusively():
            if self._head.quiesced:
                raise QuiescedError(f"the keystore is quiesced ({self._head.quiesced} outstanding)")
            draft = self._contents.draft()
            result = edit(draft)
            self._write(draft, self._head.quiesced)
            return result

    def quiesce(self) -> int:
        """Refuse changes until :meth:`unquiesce` was called as often; returns how often that is.

        The counter lies in the file, so it holds for every process, over restarts, and in the copy.
        """
        with self._exclusively():
            self._write(self._contents, self._head.quiesced + 1)
            return self._head.quiesced

    def unquiesce(self) -> int:
        """Take back one quiesce; returns how many are still outstanding.

        Raises:
            NotQuiescedError: there is none.
        """
        with self._exclusively():
            if not self._head.quiesced:
                raise NotQuiescedError("the keystore is not quiesced")
            self._write(self._contents, self._head.quiesced - 1)
            return self._head.quiesced

    def protect(self, key: Secret, tag: KeyTag, group: KeyGroupId, created_ns: int) -> tuple[bytes, bytes]:
        """Wrap a KMS key under the KPK; returns nonce and wrapped key for its record."""
        nonce = self._entropy.bytes(NONCE_BYTES)
        return nonce, keystore.wrap(key, self._kpk, tag=tag, group=group, created=created_ns, nonce=nonce)

    def reveal(self, record: KeyRecord) -> Secret:
        """Unwrap a KMS key.

        Raises:
            DamagedError: it does not authenticate, or is not what its tag names.
        """
        return keystore.unwrap(record, self._kpk)

    @contextmanager
    def _exclusively(self) -> Iterator[None]:
        """Hold both locks, with the newest contents loaded."""
        with self._mutex, _file_lock(self._path.with_name(self._path.name + ".lock")):
            self._refresh()
            yield

    def _refresh(self) -> None:
        with self._open() as descriptor:
            same = os.pread(descriptor, len(self._front), 0) == self._front
        if not same:
            self._head, self._contents, self._complete = self._load()

    def _load(self) -> tuple[KeystoreHead, Contents, bool]:
        with self._open() as descriptor, os.fdopen(os.dup(descriptor), "rb") as file:
            data = file.read(keystore.MAX_BYTES + 1)
        opened = keystore.open_file(data, self._hmk, self._kpk)
        self._front = data[: FRONT_BYTES + MAX_HEAD_BYTES]
        return opened.head, Contents(opened.body.groups, opened.body.keys), opened.complete

    @contextmanager
    def _open(self) -> Iterator[int]:
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise KeystoreMissingError(f"the keystore '{self._path}' cannot be read: {error.strerror}") from error
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _write(self, contents: Contents, quiesced: int) -> None:
        if not self._complete:
            raise NewerFormatError("the keystore has fields of a later version, which writing it would lose")
        head = replace(
            self._head,
            generation=self._head.generation + 1,
            nonce=self._entropy.bytes(NONCE_BYTES),
            quiesced=quiesced,
        )
        durable.replace_file(self._path, keystore.seal_file(head, contents.body(), self._hmk))
        # From the file, so that what is believed is what was written.
        self._head, self._contents, self._complete = self._load()


@contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock among processes; given back by the kernel when the process dies."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, durable.FILE_MODE)
    except OSError as error:
        raise KeystoreWriteError(f"the lock file '{path}' cannot be opened: {error.strerror}") from error
    try:
        pause = threading.Event()
        for _ in range(LOCK_TRIES):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                pause.wait(LOCK_PAUSE_SECONDS)
        else:
            raise KeystoreBusyError(f"another process holds the lock '{path}'")
        yield
    finally:
        os.close(descriptor)
