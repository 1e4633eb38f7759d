"""The folder of key files (``HOME.keys``): what opens the keystore, kept apart from it."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from strongroom.core.entropy import Entropy
from strongroom.core.ids import DomainId
from strongroom.core.secret import Secret
from strongroom.formats import key_file
from strongroom.formats.algorithms import KEY_BYTES
from strongroom.formats.key_file import KeyFile, Purpose
from strongroom.kms import durable
from strongroom.kms.errors import KeyFileExistsError, KeyFileExposedError, KeyFileMissingError
from strongroom.kms.phrases import check_strength

ID_BYTES: Final = 16
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class KeyFolder:
    """Key files in one folder, each named by its purpose, mode 0600, the folder mode 0700.

    Args:
        path: the folder; it need not exist before the first key is made.
        entropy: for ids and random keys.
    """

    def __init__(self, path: Path, entropy: Entropy) -> None:
        self._path = path
        self._entropy = entropy

    def create(self, purpose: Purpose, domain: DomainId, phrase: Secret | None = None) -> KeyFile:
        """Make a key file, random or from a pass phrase.

        Args:
            purpose: what the key is for.
            domain: whose it is.
            phrase: normalised; with it the file can be made again by :meth:`restore`.

        Raises:
            KeyFileExistsError: there is one for this purpose.
            WeakPassPhraseError: the phrase could be guessed.
        """
        identity = self._entropy.bytes(ID_BYTES)
        if phrase is None:
            made = KeyFile(purpose, identity, domain, "random", Secret(self._entropy.bytes(KEY_BYTES)))
        else:
            check_strength(phrase)
            made = key_file.from_pass_phrase(purpose, identity, domain, phrase)
        self.store(made)
        return made

    def restore(self, purpose: Purpose, identity: bytes, domain: DomainId, phrase: Secret) -> KeyFile:
        """Make a lost key file again.

        Nothing is written: open the keystore with it first, then :meth:`store` it.

        Args:
            purpose: what the key is for.
            identity: the id that the head of the keystore names.
            domain: the domain that the head of the keystore names.
            phrase: the pass phrase from which the key was made, normalised.
        """
        return key_file.from_pass_phrase(purpose, identity, domain, phrase)

    def store(self, file: KeyFile) -> None:
        """Write a key file, durably; never over another.

        Raises:
            KeyFileExistsError: there is one for this purpose.
            KeyFileExposedError: others may enter the folder.
            KeystoreWriteError: it could not be written.
        """
        durable.make_folder(self._path)
        self._check_folder()
        path = self._path / file.purpose
        try:
            durable.create_file(path, key_file.encode(file))
        except FileExistsError as error:
            raise KeyFileExistsError(f"there is a key file '{path}' already") from error

    def load(self, purpose: Purpose, phrase: Secret | None = None) -> KeyFile:
        """Read a key file.

        Args:
            purpose: what the key is wanted for.
            phrase: the pass phrase, normalised, when the key comes from one.

        Raises:
            KeyFileMissingError: it is not there, or not for this process to read.
            KeyFileExposedError: others than its owner may read it.
            DamagedError: it was changed.
            NewerFormatError: of a later version.
            WrongKeyFileError: it is for another purpose.
            PassPhraseNeededError: the key comes from a pass phrase, and none was given.
            WrongKeyFilePassPhraseError: another pass phrase.
        """
        path = self._path / purpose
        try:
            self._check_folder()
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise KeyFileMissingError(f"the key file '{path}' cannot be read: {error.strerror}") from error
        with os.fdopen(descriptor, "rb") as file:
            # On the open file, so that no other can take its place between look and read.
            _check_private(os.fstat(descriptor), path)
            data = file.read(key_file.MAX_BYTES + 1)
        return key_file.decode(data, purpose, phrase)

    def _check_folder(self) -> None:
        _check_private(self._path.stat(), self._path)


def _check_private(found: os.stat_result, path: Path) -> None:
    if stat.S_IMODE(found.st_mode) & _OTHERS:
        mode = stat.S_IMODE(found.st_mode)
        raise KeyFileExposedError(f"others than its owner may use '{path}': its mode is {mode:04o}")
    if found.st_uid not in (0, os.geteuid()):
        raise KeyFileExposedError(f"'{path}' belongs to the user {found.st_uid}, not to the one that runs this")
