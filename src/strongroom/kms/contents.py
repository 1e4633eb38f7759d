"""What a keystore holds, in memory: groups, and keys that stay wrapped."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

from msgspec.structs import replace

from strongroom.core.ids import KeyGroupId, KeyTag
from strongroom.formats.keystore import MAX_GROUPS, MAX_KEYS, GroupRecord, KeyRecord, KeystoreBody
from strongroom.kms import states
from strongroom.kms.errors import (
    BadNameError,
    GroupNotFoundError,
    KeyExistsError,
    KeystoreFullError,
    NameTakenError,
    UnknownKeyError,
)
from strongroom.kms.states import KeyState

MAX_NAME_BYTES = 128
MAX_DESCRIPTION_BYTES = 256


class Contents:
    """The groups and keys of a keystore at one generation. Never changed: a change makes a :class:`Draft`."""

    def __init__(self, groups: Iterable[GroupRecord] = (), keys: Iterable[KeyRecord] = ()) -> None:
        self._groups = {KeyGroupId(record.group): record for record in groups}
        self._keys = {KeyTag(record.tag): record for record in keys}

    @property
    def groups(self) -> tuple[GroupRecord, ...]:
        """All groups, in the order of their making."""
        return tuple(self._groups.values())

    @property
    def keys(self) -> tuple[KeyRecord, ...]:
        """All keys, in the order of their making."""
        return tuple(self._keys.values())

    @cached_property
    def decryptable(self) -> frozenset[KeyTag]:
        """The tags of the keys that may decrypt."""
        return frozenset(tag for tag, record in self._keys.items() if KeyState(record.state) in states.DECRYPTS)

    @cached_property
    def _active(self) -> dict[KeyGroupId, KeyRecord]:
        return {
            KeyGroupId(record.group): record
            for record in self._keys.values()
            if KeyState(record.state) in states.ENCRYPTS
        }

    def has_key(self, tag: KeyTag) -> bool:
        """Tell whether there is a key with this tag, whatever its state."""
        return tag in self._keys

    def key(self, tag: KeyTag) -> KeyRecord:
        """Give a key's record.

        Raises:
            UnknownKeyError: there is none.
        """
        try:
            return self._keys[tag]
        except KeyError as error:
            raise UnknownKeyError(f"no key has the tag '{tag.hex()}'") from error

    def active_key(self, group: KeyGroupId) -> KeyRecord | None:
        """Give the group's active key, if it has one."""
        return self._active.get(group)

    def has_group(self, group: KeyGroupId) -> bool:
        """Tell whether there is a group with this id."""
        return group in self._groups

    def group(self, group: KeyGroupId) -> GroupRecord:
        """Give a group's record.

        Raises:
            GroupNotFoundError: there is none.
        """
        try:
            return self._groups[group]
        except KeyError as error:
            raise GroupNotFoundError(f"no key group has the id '{group.hex()}'") from error

    def group_named(self, name: str) -> GroupRecord | None:
        """Give the group of this name, if there is one."""
        return next((record for record in self._groups.values() if record.name == name), None)

    def keys_of(self, group: KeyGroupId) -> list[KeyRecord]:
        """List the keys of a group."""
        return [record for record in self._keys.values() if record.group == group]

    def draft(self) -> Draft:
        """Copy, in order to change."""
        return Draft(self._groups.values(), self._keys.values())

    def body(self) -> KeystoreBody:
        """Give what is written to the file."""
        return KeystoreBody(groups=list(self._groups.values()), keys=list(self._keys.values()))


class Draft(Contents):
    """Contents in the course of one change, which keep the rules of the keystore."""

    def add_group(self, record: GroupRecord) -> None:
        """Add a group.

        Raises:
            BadNameError: its name or description is too long, or the name empty.
            NameTakenError: another group has the name.
            KeystoreFullError: the format allows no more.
        """
        _check_words(record.name, record.description)
        if self.group_named(record.name) is not None:
            raise NameTakenError(f"there is a key group '{record.name}' already")
        if len(self._groups) >= MAX_GROUPS:
            raise KeystoreFullError(f"the keystore has {MAX_GROUPS} key groups, and holds no more")
        self._groups[KeyGroupId(record.group)] = record

    def add_key(self, record: KeyRecord) -> None:
        """Add a key to its group. If it is active, the group's former active key becomes inactive.

        Raises:
            BadNameError: its name or description is too long, or the name empty.
            KeyExistsError: a key with this tag is there.
            NameTakenError: another key of the group has the name.
            KeystoreFullError: the format allows no more.
            GroupNotFoundError: its group is not there.
        """
        _check_words(record.name, record.description)
        group = self.group(KeyGroupId(record.group))
        if record.tag in self._keys:
            raise KeyExistsError(f"the key with the tag '{record.tag.hex()}' is in the keystore already")
        if self.has_key_named(KeyGroupId(record.group), record.name):
            raise NameTakenError(f"the key group '{group.name}' has a key '{record.name}' already")
        if len(self._keys) >= MAX_KEYS:
            raise KeystoreFullError(f"the keystore has {MAX_KEYS} keys, and holds no more")
        if KeyState(record.state) is KeyState.ACTIVE:
            self._apply(states.demote(self._states(KeyGroupId(record.group))), record.modified)
        self._keys[KeyTag(record.tag)] = record
        self._forget()

    def has_key_named(self, group: KeyGroupId, name: str) -> bool:
        """Tell whether a key of the group has this name."""
        return any(record.name == name for record in self.keys_of(group))

    def set_state(self, tag: KeyTag, to: KeyState, now_ns: int) -> None:
        """Move a key to another state.

        Raises:
            UnknownKeyError: there is no such key.
            TransitionError: no such step from the key's state.
        """
        group = KeyGroupId(self.key(tag).group)
        self._apply(states.change(self._states(group), tag, to), now_ns)

    def remove_key(self, tag: KeyTag) -> None:
        """Forget a key for ever.

        Raises:
            UnknownKeyError: there is no such key.
            TransitionError: its state does not allow it.
        """
        states.check_destroyable(KeyState(self.key(tag).state))
        del self._keys[tag]
        self._forget()

    def _states(self, group: KeyGroupId) -> dict[KeyTag, KeyState]:
        return {KeyTag(record.tag): KeyState(record.state) for record in self.keys_of(group)}

    def _apply(self, changes: dict[KeyTag, KeyState], now_ns: int) -> None:
        for tag, state in changes.items():
            self._keys[tag] = replace(self._keys[tag], state=state.value, modified=now_ns)
        self._forget()

    def _forget(self) -> None:
        """Drop what was computed from the keys as they were."""
        self.__dict__.pop("decryptable", None)
        self.__dict__.pop("_active", None)


def _check_words(name: str, description: str) -> None:
    if name != name.strip() or not name.isprintable() or not 1 <= len(name.encode("utf-8")) <= MAX_NAME_BYTES:
        raise BadNameError(f"{name[:40]!r} is not a name for a key or a key group")
    if not description.isprintable() or len(description.encode("utf-8")) > MAX_DESCRIPTION_BYTES:
        raise BadNameError(f"{description[:40]!r} is not a description: it is too long, or has control characters")
