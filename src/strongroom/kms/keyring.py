"""The use of keys: what the keystore gives to those who encrypt and decrypt, and when it refuses."""

from __future__ import annotations

from collections.abc import Collection

from strongroom.core.ids import KeyGroupId, KeyTag
from strongroom.core.secret import Secret
from strongroom.formats import key_tag
from strongroom.kms.errors import KeyNotFoundError, KeyStateError, NoActiveKeyError
from strongroom.kms.states import DECRYPTS, KeyState
from strongroom.kms.store import KeystoreFile


class KeyRing:
    """Gives keys according to their states. Safe for threads; changes nothing.

    Args:
        store: the open keystore.
    """

    def __init__(self, store: KeystoreFile) -> None:
        self._store = store

    def encrypting_key(self, group: KeyGroupId) -> tuple[KeyTag, Secret]:
        """Give the group's active key, for wrapping data keys within this package.

        Raises:
            GroupNotFoundError: no such group.
            NoActiveKeyError: it has none.
        """
        contents = self._store.read()
        name = contents.group(group).name
        record = contents.active_key(group)
        if record is None:
            raise NoActiveKeyError(f"the key group '{name}' has no active key")
        return KeyTag(record.tag), self._store.reveal(record)

    def decrypting_key(self, tag: KeyTag) -> Secret:
        """Give a key that may decrypt, for unwrapping within this package.

        Raises:
            KeyNotFoundError: no key has the tag.
            KeyStateError: its state forbids it.
        """
        contents = self._store.read()
        if not contents.has_key(tag):
            raise KeyNotFoundError([tag])
        record = contents.key(tag)
        if KeyState(record.state) not in DECRYPTS:
            raise KeyStateError(f"the key with the tag '{tag.hex()}' is '{record.state}', and decrypts nothing")
        return self._store.reveal(record)

    def drive_key(self, tag: KeyTag, a_kad: bytes, *, encrypt: bool) -> Secret:
        """Give the key that a tape drive needs for one cartridge.

        Args:
            tag: the KMS key.
            a_kad: the cartridge's 12 bytes.
            encrypt: whether the drive is to write; then the key must be active.

        Raises:
            KeyNotFoundError: no key has the tag.
            KeyStateError: its state forbids it.
        """
        key = self.decrypting_key(tag)
        state = self.states_of([tag])[tag]
        if encrypt and state is not KeyState.ACTIVE:
            raise KeyStateError(f"the key with the tag '{tag.hex()}' is '{state}', and encrypts nothing")
        return key_tag.drive_key(key, a_kad)

    def states_of(self, tags: Collection[KeyTag]) -> dict[KeyTag, KeyState | None]:
        """Tell for each tag the state of its key, or ``None`` when the keystore has no such key."""
        contents = self._store.read()
        return {tag: KeyState(contents.key(tag).state) if contents.has_key(tag) else None for tag in tags}
