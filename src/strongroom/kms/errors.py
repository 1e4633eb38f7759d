"""What the key management service refuses, and why."""

from __future__ import annotations

from collections.abc import Collection

from strongroom.core.errors import (
    InputError,
    IntegrityError,
    KeyUnavailableError,
    NotFoundError,
    RefusedError,
    ResourceError,
    UnavailableError,
)
from strongroom.core.ids import KeyTag


class KeyNotFoundError(KeyUnavailableError):
    """Data needs a key that the keystore does not have.

    Args:
        tags: the tags that would do.
    """

    code = "kms.key-not-found"
    default_hint = (
        "bring the key: recover it from its pass phrase, import it from the domain that has it, "
        "or restore the keystore; what waits goes on by itself"
    )

    def __init__(self, tags: Collection[KeyTag]) -> None:
        self.tags = tuple(sorted(tags))
        names = ", ".join(f"'{tag.hex()}'" for tag in self.tags[:8])
        more = f" and {len(self.tags) - 8} more" if len(self.tags) > 8 else ""
        super().__init__(f"no key has the tag {names}{more}", context={"tags": len(self.tags)})


class KeyStateError(KeyUnavailableError):
    """The keystore has the key, and its state forbids the use."""

    code = "kms.key-state"
    default_hint = "if the key is to be used again, bring it back to inactive, one state at a time"


class NoActiveKeyError(KeyUnavailableError):
    """The key group has no active key: there is no backup then, never a clear one."""

    code = "kms.no-active-key"
    default_hint = "create a key in this group and activate it, or activate one that is there"


class DataKeyMissingError(NotFoundError):
    """No envelope at hand holds the data key that was asked for."""

    code = "kms.data-key-missing"
    default_hint = "verify the image; a peer that holds a copy has the key envelope too"


class GroupNotFoundError(NotFoundError):
    """There is no such key group."""

    code = "kms.group-not-found"
    default_hint = "list the key groups"


class UnknownKeyError(NotFoundError):
    """There is no such key to be shown or changed."""

    code = "kms.unknown-key"
    default_hint = "list the keys"


class NameTakenError(RefusedError):
    """Another group, or another key of the group, has this name."""

    code = "kms.name-taken"
    default_hint = "choose another name"


class KeyExistsError(RefusedError):
    """The key is in the keystore already."""

    code = "kms.key-exists"
    default_hint = "nothing is to be recovered; if it cannot be used, look at its state"


class KeyConflictError(IntegrityError):
    """Two different keys claim one tag."""

    code = "kms.key-conflict"
    default_hint = "one of the two was forged or damaged: find out where the import comes from, and do not use it"


class TransitionError(RefusedError):
    """A key does not go from its state to the one asked for."""

    code = "kms.key-transition"
    default_hint = "states are passed one at a time: active, inactive, deprecated, terminated, and back"


class KeyNeededError(RefusedError):
    """The key cannot be destroyed: images need it."""

    code = "kms.key-needed"
    default_hint = "expire the images first, or duplicate them under another key"


class NotAPassPhraseKeyError(InputError):
    """The tag names a random key, which no pass phrase makes again."""

    code = "kms.not-a-pass-phrase-key"
    default_hint = "bring the key from a keystore or a key export"


class WrongPassPhraseError(InputError):
    """The pass phrase does not make the key that the tag names."""

    code = "kms.wrong-pass-phrase"
    default_hint = "compare the tag with the recovery sheet, and type the phrase that belongs to this very tag"


class WeakPassPhraseError(InputError):
    """Who has a medium could guess this pass phrase."""

    code = "kms.weak-pass-phrase"
    default_hint = "let strongroom generate the phrase, or take six or more words drawn by dice"


class BadNameError(InputError):
    """A name or description that the keystore cannot hold."""

    code = "kms.bad-name"
    default_hint = "give a name of 1 to 128 bytes, and a description of at most 256"


class KeystoreFullError(RefusedError):
    """The keystore has as many groups or keys as its format allows."""

    code = "kms.keystore-full"
    default_hint = "destroy terminated keys that no image needs"


class QuiescedError(RefusedError):
    """The keystore is quiesced, for a copy of it to be made."""

    code = "kms.quiesced"
    retry = "later"
    default_hint = "when the copy is made, unquiesce the keystore as often as it was quiesced"


class NotQuiescedError(RefusedError):
    """The keystore is not quiesced."""

    code = "kms.not-quiesced"


class KeystoreExistsError(RefusedError):
    """A new keystore would take the place of another."""

    code = "kms.keystore-exists"
    default_hint = "open the keystore that is there, or move it away"


class KeystoreMissingError(KeyUnavailableError):
    """There is no keystore at its place."""

    code = "kms.keystore-missing"
    default_hint = "restore the keystore from its copy, or make a new one and recover the keys by their pass phrases"


class KeystoreBusyError(UnavailableError):
    """Another process holds the keystore's lock."""

    code = "kms.keystore-busy"
    default_hint = "try again; if it stays, look which process has the lock file open"


class KeystoreWriteError(ResourceError):
    """The keystore or a key file could not be written; what was there is still there."""

    code = "kms.keystore-write"
    default_hint = "look at space and permissions of the folder, then do it again"


class KeyFileMissingError(KeyUnavailableError):
    """A key file is not in the key folder."""

    code = "kms.key-file-missing"
    default_hint = (
        "put the key file back from the place where key files are kept, or make it again from its pass phrase"
    )


class KeyFileExposedError(RefusedError):
    """Others than the owner may read a key file or change its folder."""

    code = "kms.key-file-exposed"
    default_hint = "find out who has read it; then chmod the folder to 0700 and the files in it to 0600"


class KeyFileExistsError(RefusedError):
    """A new key file would take the place of another."""

    code = "kms.key-file-exists"
    default_hint = "what the old file opens would be lost: move it to a safe place first"
