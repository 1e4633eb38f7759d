"""Keys on the way from one keystore to another: what an import would do, decided before anything is done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from strongroom.core.ids import DomainId, KeyGroupId, KeyTag
from strongroom.core.secret import Secret
from strongroom.formats import keystore
from strongroom.formats.key_export import ExportedKey
from strongroom.formats.key_file import KeyFile
from strongroom.formats.keystore import GroupRecord, KeyRecord
from strongroom.kms.contents import MAX_NAME_BYTES, Draft
from strongroom.kms.errors import KeyConflictError
from strongroom.kms.states import KeyState


@dataclass(frozen=True)
class Offer:
    """Groups and keys from elsewhere; every key was compared with its tag."""

    domain: DomainId
    groups: tuple[GroupRecord, ...]
    keys: tuple[ExportedKey, ...]


@dataclass(frozen=True)
class ImportReport:
    """What an import did, or would do.

    Attributes:
        imported: keys that were not here, with the state they enter.
        skipped: keys that were here already.
        groups: ids and names of the groups that are new here; the name may differ from the one elsewhere,
            when another group has that name here.
    """

    imported: tuple[tuple[KeyTag, KeyState], ...]
    skipped: tuple[KeyTag, ...]
    groups: tuple[tuple[KeyGroupId, str], ...]


def offer_of_keystore(data: bytes, hmk: KeyFile, kpk: KeyFile) -> Offer:
    """Open another domain's keystore file, as it was copied.

    Args:
        data: the file.
        hmk: its host master key.
        kpk: its key protection key.

    Raises:
        WrongKeyFileError: it needs other key files; the message names both.
        DamagedError: it was changed, or a key in it is not what its tag names.
        NewerFormatError: of a later version.
    """
    opened = keystore.open_file(data, hmk, kpk)
    keys = tuple(exported(record, keystore.unwrap(record, kpk)) for record in opened.body.keys)
    return Offer(DomainId(opened.head.domain), tuple(opened.body.groups), keys)


def exported(record: KeyRecord, key: Secret) -> ExportedKey:
    """Take a key out of a keystore, with what the keystore says of it."""
    return ExportedKey(
        tag=KeyTag(record.tag),
        group=record.group,
        name=record.name,
        description=record.description,
        state=record.state,
        created=record.created,
        key=key,
    )


def entry_state(state: KeyState) -> KeyState:
    """Decide the state in which an imported key enters.

    Inactive: it opens what there is, and encrypts only after somebody here activates it. A key that its own
    domain took out of use stays out of use.
    """
    if state in (KeyState.DEPRECATED, KeyState.TERMINATED):
        return state
    return KeyState.INACTIVE


class Importer:
    """Brings an offer into a draft.

    Args:
        protect: wraps a key for this keystore: key, tag, group, created; gives nonce and wrapped key.
        reveal: unwraps a key of this keystore.
        now_ns: the time of the import.
    """

    def __init__(
        self,
        protect: Callable[[Secret, KeyTag, KeyGroupId, int], tuple[bytes, bytes]],
        reveal: Callable[[KeyRecord], Secret],
        now_ns: int,
    ) -> None:
        self._protect = protect
        self._reveal = reveal
        self._now_ns = now_ns

    def bring(self, offer: Offer, draft: Draft) -> ImportReport:
        """Add what is not there.

        Raises:
            KeyConflictError: a tag is here with another key; the draft is not to be used then.
            KeystoreFullError: the keystore would hold too much.
        """
        skipped = self._known(offer.keys, draft)
        wanted = [key for key in offer.keys if key.tag not in skipped]
        groups = self._bring_groups(offer, {key.group for key in wanted}, draft)
        for key in wanted:
            self._bring_key(key, draft)
        return ImportReport(
            imported=tuple((key.tag, entry_state(KeyState(key.state))) for key in wanted),
            skipped=tuple(skipped),
            groups=groups,
        )

    def _known(self, keys: Sequence[ExportedKey], draft: Draft) -> dict[KeyTag, None]:
        """Find the keys that are here already, and refuse a tag that names two keys."""
        known: dict[KeyTag, None] = {}
        for key in keys:
            if not draft.has_key(key.tag):
                continue
            if self._reveal(draft.key(key.tag)) != key.key:
                raise KeyConflictError(f"another key than the one offered has the tag '{key.tag.hex()}' here")
            known[key.tag] = None
        return known

    def _bring_groups(self, offer: Offer, wanted: set[bytes], draft: Draft) -> tuple[tuple[KeyGroupId, str], ...]:
        brought = []
        for group in offer.groups:
            identity = KeyGroupId(group.group)
            if identity not in wanted or draft.has_group(identity):
                continue
            taken = {record.name for record in draft.groups}
            name = _free_name(group.name, offer.domain.hex()[:8], taken)
            draft.add_group(replace(group, name=name, modified=self._now_ns))
            brought.append((identity, name))
        return tuple(brought)

    def _bring_key(self, key: ExportedKey, draft: Draft) -> None:
        group = KeyGroupId(key.group)
        taken = {record.name for record in draft.keys_of(group)}
        nonce, wrapped = self._protect(key.key, key.tag, group, key.created)
        draft.add_key(
            KeyRecord(
                tag=key.tag,
                group=group,
                name=_free_name(key.name, key.tag.hex()[4:12], taken),
                description=key.description,
                state=entry_state(KeyState(key.state)).value,
                created=key.created,
                modified=self._now_ns,
                recovered=True,
                nonce=nonce,
                wrapped=wrapped,
            )
        )


def _free_name(name: str, mark: str, taken: Iterable[str]) -> str:
    """Give the name, or when it is taken the name with a mark, or with a mark and a number."""
    names = set(taken)
    if name not in names:
        return name
    number = 1
    while True:
        suffix = f" ({mark})" if number == 1 else f" ({mark}-{number})"
        front = name.encode("utf-8")[: MAX_NAME_BYTES - len(suffix)].decode("utf-8", errors="ignore").rstrip()
        candidate = front + suffix
        if candidate not in names:
            return candidate
        number += 1
