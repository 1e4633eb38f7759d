"""What the key management service tells about groups and keys: facts without secrets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from strongroom.core.clock import from_ns
from strongroom.core.ids import KeyGroupId, KeyTag
from strongroom.formats import key_tag
from strongroom.formats.key_tag import KeyProfile
from strongroom.formats.keystore import GroupRecord, KeyRecord
from strongroom.kms.contents import Contents
from strongroom.kms.states import STANDARDS, KeyState, Standard


@dataclass(frozen=True)
class KeyView:
    """A key, as it is shown."""

    tag: KeyTag
    group: KeyGroupId
    group_name: str
    name: str
    description: str
    state: KeyState
    profile: KeyProfile
    created: datetime
    modified: datetime
    recovered: bool

    @property
    def standard(self) -> Standard:
        """What NIST SP 800-57 and KMIP call the state."""
        return STANDARDS[self.state]

    @classmethod
    def of(cls, record: KeyRecord, contents: Contents) -> KeyView:
        """Show a record."""
        group = KeyGroupId(record.group)
        return cls(
            tag=KeyTag(record.tag),
            group=group,
            group_name=contents.group(group).name,
            name=record.name,
            description=record.description,
            state=KeyState(record.state),
            profile=key_tag.parse(record.tag).profile,
            created=from_ns(record.created),
            modified=from_ns(record.modified),
            recovered=record.recovered,
        )


@dataclass(frozen=True)
class GroupView:
    """A key group, as it is shown; ``counts`` tells how many keys it has in each state."""

    group: KeyGroupId
    name: str
    description: str
    created: datetime
    modified: datetime
    counts: Mapping[KeyState, int]
    active: KeyTag | None

    @classmethod
    def of(cls, record: GroupRecord, contents: Contents) -> GroupView:
        """Show a record."""
        group = KeyGroupId(record.group)
        counted = Counter(KeyState(key.state) for key in contents.keys_of(group))
        active = contents.active_key(group)
        return cls(
            group=group,
            name=record.name,
            description=record.description,
            created=from_ns(record.created),
            modified=from_ns(record.modified),
            counts={state: counted[state] for state in KeyState},
            active=None if active is None else KeyTag(active.tag),
        )
