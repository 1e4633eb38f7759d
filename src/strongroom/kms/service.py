"""The key management service of one domain."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from strongroom.core.clock import Clock, to_ns
from strongroom.core.entropy import Entropy
from strongroom.core.ids import DomainId, KeyGroupId, KeyTag
from strongroom.core.secret import Secret
from strongroom.formats import key_export, key_tag
from strongroom.formats.algorithms import KEY_BYTES, NONCE_BYTES
from strongroom.formats.key_export import ExportOrigin
from strongroom.formats.key_file import KeyFile
from strongroom.formats.key_tag import KeyProfile
from strongroom.formats.keystore import GroupRecord, KeyRecord, KeystoreHead
from strongroom.formats.passphrase import SALT_BYTES
from strongroom.kms import phrases, recovery, transfer
from strongroom.kms.contents import Contents, Draft
from strongroom.kms.errors import (
    GroupNotFoundError,
    KeyExistsError,
    KeyNeededError,
)
from strongroom.kms.states import KeyState
from strongroom.kms.store import KeystoreFile
from strongroom.kms.transfer import Importer, ImportReport, Offer
from strongroom.kms.views import GroupView, KeyView

ID_BYTES = 16

Listener = Callable[[KeyTag], None]
"""Is told the tag of a key that may decrypt from now on."""


class KeyUsage(Protocol):
    """Who knows which images need a key: the catalog."""

    def images_needing(self, tag: KeyTag) -> int:
        """Count the images, here or known to be elsewhere, that cannot be read without this key."""


@dataclass(frozen=True)
class NewPassPhraseKey:
    """A key that was just made from a pass phrase: show phrase and sheet now, they are kept nowhere."""

    key: KeyView
    phrase: Secret
    sheet: str


class KeyManagement:
    """Key groups, keys and their states; recovery, drills, export and import. Safe for threads.

    Pass phrases are taken in the form that :func:`strongroom.formats.passphrase.normalise` gives.
    Operations that derive a key from a pass phrase take a good part of a second and 64 MiB; they hold no
    lock meanwhile.

    Args:
        store: the open keystore.
        usage: asked before a key is destroyed.
        clock: for the times in the records.
        entropy: for ids and keys.
    """

    def __init__(self, store: KeystoreFile, usage: KeyUsage, *, clock: Clock, entropy: Entropy) -> None:
        self._store = store
        self._usage = usage
        self._clock = clock
        self._entropy = entropy
        self._listeners: list[Listener] = []
        self._telling = threading.Lock()
        self._told = store.read().decryptable

    # -------------------------------------------------------------- groups and keys

    def create_group(self, name: str, description: str = "") -> GroupView:
        """Make an empty key group.

        Raises:
            NameTakenError: another group has the name.
            BadNameError: it is no name.
        """
        now = self._now_ns()
        record = GroupRecord(
            group=self._entropy.bytes(ID_BYTES),
            name=name,
            description=description,
            created=now,
            modified=now,
        )
        self._change(lambda draft: draft.add_group(record))
        return self.group(name)

    def groups(self) -> list[GroupView]:
        """List the key groups."""
        contents = self._read()
        return [GroupView.of(record, contents) for record in contents.groups]

    def group(self, name: str) -> GroupView:
        """Show a key group.

        Raises:
            GroupNotFoundError: there is none of this name.
        """
        contents = self._read()
        return GroupView.of(_group_named(contents, name), contents)

    def create_key(self, group: str, name: str, *, active: bool = False, description: str = "") -> KeyView:
        """Make a random key, prelive or at once active.

        Random keys survive only in copies of the keystore and in exports.

        Raises:
            GroupNotFoundError: no such group.
            NameTakenError: the group has a key of this name.
            BadNameError: it is no name.
        """
        key = Secret(self._entropy.bytes(KEY_BYTES))
        tag = key_tag.make(key, self._entropy.bytes(ID_BYTES), KeyProfile.RANDOM)
        state = KeyState.ACTIVE if active else KeyState.PRELIVE
        return self._add(key, tag, group, name, description, state)

    def create_pass_phrase_key(
        self,
        group: str,
        name: str,
        phrase: Secret | None = None,
        *,
        active: bool = False,
        description: str = "",
    ) -> NewPassPhraseKey:
        """Make a key from a pass phrase, which with the tag makes it again on any machine.

        Args:
            group: name of the key group.
            name: name of the key, unique in its group.
            phrase: normalised; without it one is drawn.
            active: whether it is active at once, rather than prelive.
            description: for people.

        Raises:
            WeakPassPhraseError: the given phrase could be guessed; the message says why.
            GroupNotFoundError: no such group.
            NameTakenError: the group has a key of this name.
            BadNameError: it is no name.
        """
        # The name is looked at before the derivation, so that a typing error costs nothing.
        _group_named(self._read(), group)
        if phrase is None:
            phrase = phrases.generate(self._entropy)
        else:
            phrases.check_strength(phrase, (group, name))
        uuid = self._entropy.bytes(ID_BYTES)
        key = key_tag.from_pass_phrase(phrase, uuid)
        tag = key_tag.make(key, uuid, KeyProfile.PASS_PHRASE)
        state = KeyState.ACTIVE if active else KeyState.PRELIVE
        view = self._add(key, tag, group, name, description, state)
        return NewPassPhraseKey(view, phrase, recovery.sheet(view, self._store.domain, self._clock))

    def keys(self, group: str | None = None) -> list[KeyView]:
        """List the keys, all or those of a group.

        Raises:
            GroupNotFoundError: no such group.
        """
        contents = self._read()
        records = contents.keys if group is None else contents.keys_of(_group_id(contents, group))
        return [KeyView.of(record, contents) for record in records]

    def key(self, tag: KeyTag) -> KeyView:
        """Show a key.

        Raises:
            UnknownKeyError: no key has the tag.
        """
        contents = self._read()
        return KeyView.of(contents.key(tag), contents)

    # -------------------------------------------------------------- states

    def activate(self, tag: KeyTag) -> KeyView:
        """Let a prelive or inactive key encrypt; the group's former active key becomes inactive.

        Raises:
            TransitionError: the key's state does not allow it.
            UnknownKeyError: no key has the tag.
        """
        return self._set_state(tag, KeyState.ACTIVE)

    def deactivate(self, tag: KeyTag) -> KeyView:
        """Let an active or deprecated key decrypt only.

        Raises:
            TransitionError: the key's state does not allow it.
            UnknownKeyError: no key has the tag.
        """
        return self._set_state(tag, KeyState.INACTIVE)

    def deprecate(self, tag: KeyTag) -> KeyView:
        """Take an inactive key out of use, or a terminated one back to the state before.

        Raises:
            TransitionError: the key's state does not allow it.
            UnknownKeyError: no key has the tag.
        """
        return self._set_state(tag, KeyState.DEPRECATED)

    def terminate(self, tag: KeyTag) -> KeyView:
        """Prepare a deprecated key for destruction.

        Raises:
            TransitionError: the key's state does not allow it.
            UnknownKeyError: no key has the tag.
        """
        return self._set_state(tag, KeyState.TERMINATED)

    def destroy(self, tag: KeyTag, *, although_needed: bool = False) -> None:
        """Forget a prelive or terminated key for ever.

        Args:
            tag: which key.
            although_needed: do it although images need it; two people must have agreed.

        Raises:
            KeyNeededError: images need it.
            TransitionError: it is in another state.
            UnknownKeyError: no key has the tag.
        """
        needed = self._usage.images_needing(tag)
        if needed and not although_needed:
            raise KeyNeededError(f"{needed} images need the key with the tag '{tag.hex()}'", context={"images": needed})
        self._change(lambda draft: draft.remove_key(tag))

    # -------------------------------------------------------------- recovery

    def recover(self, tag: KeyTag, phrase: Secret, *, group: str, name: str, description: str = "") -> KeyView:
        """Make a key again from its tag and pass phrase; it enters inactive.

        Args:
            tag: what the data says that it needs.
            phrase: normalised.
            group: name of the key group it goes to, which is made if it is not there.
            name: name of the key in it.
            description: for people.

        Raises:
            WrongPassPhraseError: at once, and nothing is stored.
            KeyExistsError: the key is here.
            NotAPassPhraseKeyError: the key was made at random.
            NameTakenError: the group has another key of this name.
            DamagedError: this is not a tag.
            NewerFormatError: the tag is of a later version.
        """
        if self._read().has_key(tag):
            raise KeyExistsError(f"the key with the tag '{tag.hex()}' is in the keystore already")
        key = recovery.key_from(tag, phrase)
        return self._add(key, tag, group, name, description, KeyState.INACTIVE, recovered=True)

    def check(self, tag: KeyTag, phrase: Secret) -> None:
        """Drill: make sure that a pass phrase makes the key of this tag. Nothing is stored.

        Raises:
            WrongPassPhraseError: it does not.
            NotAPassPhraseKeyError: the key was made at random.
            DamagedError: this is not a tag.
            NewerFormatError: the tag is of a later version.
        """
        recovery.check(tag, phrase)

    # -------------------------------------------------------------- between keystores

    def export_groups(self, names: Sequence[str], phrase: Secret) -> bytes:
        """Write chosen groups with all their keys, sealed to a pass phrase of its own.

        Raises:
            GroupNotFoundError: no such group.
            WeakPassPhraseError: the phrase could be guessed.
        """
        contents = self._read()
        groups = [_group_named(contents, name) for name in dict.fromkeys(names)]
        phrases.check_strength(phrase, names)
        keys = [
            transfer.exported(record, self._store.reveal(record))
            for group in groups
            for record in contents.keys_of(KeyGroupId(group.group))
        ]
        origin = ExportOrigin(
            domain=self._store.domain,
            created=self._now_ns(),
            export=self._entropy.bytes(ID_BYTES),
            salt=self._entropy.bytes(SALT_BYTES),
            nonce=self._entropy.bytes(NONCE_BYTES),
        )
        return key_export.seal_file(origin, groups, keys, phrase)

    def import_export(self, data: bytes, phrase: Secret, *, preview: bool = False) -> ImportReport:
        """Bring in the keys of an export, all or none.

        Args:
            data: the export file.
            phrase: its pass phrase, normalised.
            preview: only tell what would be done.

        Raises:
            WrongExportPassPhraseError: another pass phrase.
            KeyConflictError: a tag is here with another key.
            DamagedError: the file was changed.
            NewerFormatError: of a later version.
        """
        opened = key_export.open_file(data, phrase)
        offer = Offer(DomainId(opened.head.domain), opened.groups, opened.keys)
        return self._import(offer, preview=preview)

    def import_keystore(self, data: bytes, hmk: KeyFile, kpk: KeyFile, *, preview: bool = False) -> ImportReport:
        """Bring in the keys of another keystore, carried here with its key files; all or none.

        Raises:
            WrongKeyFileError: the keystore needs other key files; the message names both.
            KeyConflictError: a tag is here with another key.
            DamagedError: the file was changed.
            NewerFormatError: of a later version.
        """
        return self._import(transfer.offer_of_keystore(data, hmk, kpk), preview=preview)

    def decryptable(self) -> frozenset[KeyTag]:
        """Tell the tags of the keys that may decrypt now."""
        return self._read().decryptable

    def quiesce(self) -> int:
        """Refuse changes while the keystore is copied; returns how many :meth:`unquiesce` are due."""
        return self._store.quiesce()

    def unquiesce(self) -> int:
        """Take back one :meth:`quiesce`; returns how many are still due.

        Raises:
            NotQuiescedError: there is none.
        """
        return self._store.unquiesce()

    def keystore_head(self) -> KeystoreHead:
        """Tell the keystore's ids, generation and quiesce counter."""
        return self._store.head()

    # -------------------------------------------------------------- listeners

    def on_usable(self, listener: Listener) -> None:
        """Register who is to hear of keys that may decrypt from now on.

        It is called without a lock, after the change is durable, in the thread that made it or, for a
        change by another process, in the one that noticed. It must not raise, and must bear being told of a
        tag twice.
        """
        self._listeners.append(listener)

    def refresh(self) -> None:
        """Notice what other processes changed, and tell the listeners. Every other call does so too."""
        self._read()

    # -------------------------------------------------------------- within

    def _read(self) -> Contents:
        contents = self._store.read()
        self._tell(contents)
        return contents

    def _change(self, edit: Callable[[Draft], None]) -> None:
        self._store.change(edit)
        self._read()

    def _tell(self, contents: Contents) -> None:
        with self._telling:
            new = contents.decryptable - self._told
            self._told = contents.decryptable
        for tag in sorted(new):
            for listener in self._listeners:
                listener(tag)

    def _set_state(self, tag: KeyTag, to: KeyState) -> KeyView:
        now = self._now_ns()
        self._change(lambda draft: draft.set_state(tag, to, now))
        return self.key(tag)

    def _add(
        self,
        key: Secret,
        tag: KeyTag,
        group: str,
        name: str,
        description: str,
        state: KeyState,
        *,
        recovered: bool = False,
    ) -> KeyView:
        now = self._now_ns()

        def edit(draft: Draft) -> None:
            if recovered and draft.group_named(group) is None:
                draft.add_group(
                    GroupRecord(
                        group=self._entropy.bytes(ID_BYTES),
                        name=group,
                        description="",
                        created=now,
                        modified=now,
                    )
                )
            identity = _group_id(draft, group)
            nonce, wrapped = self._store.protect(key, tag, identity, now)
            draft.add_key(
                KeyRecord(
                    tag=tag,
                    group=identity,
                    name=name,
                    description=description,
                    state=state.value,
                    created=now,
                    modified=now,
                    recovered=recovered,
                    nonce=nonce,
                    wrapped=wrapped,
                )
            )

        self._change(edit)
        return self.key(tag)

    def _import(self, offer: Offer, *, preview: bool) -> ImportReport:
        importer = Importer(self._store.protect, self._store.reveal, self._now_ns())
        if preview:
            return importer.bring(offer, self._read().draft())
        report = self._store.change(lambda draft: importer.bring(offer, draft))
        self._read()
        return report

    def _now_ns(self) -> int:
        return to_ns(self._clock.now())


def _group_named(contents: Contents, name: str) -> GroupRecord:
    record = contents.group_named(name)
    if record is None:
        raise GroupNotFoundError(f"there is no key group '{name}'")
    return record


def _group_id(contents: Contents, name: str) -> KeyGroupId:
    return KeyGroupId(_group_named(contents, name).group)
