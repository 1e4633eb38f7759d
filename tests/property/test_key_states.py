"""K1: keys move through their states as the table says, whatever is tried in whatever order.

The table here is written from the reference, not taken from the code.
"""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from strongroom.core.ids import KeyGroupId, KeyTag
from strongroom.core.secret import Secret
from strongroom.formats import key_tag
from strongroom.formats.key_tag import KeyProfile
from strongroom.formats.keystore import GroupRecord, KeyRecord
from strongroom.kms import states
from strongroom.kms.contents import Contents
from strongroom.kms.errors import TransitionError
from strongroom.kms.states import KeyState

ALLOWED = {
    ("prelive", "active"),
    ("active", "inactive"),
    ("inactive", "active"),
    ("inactive", "deprecated"),
    ("deprecated", "inactive"),
    ("deprecated", "terminated"),
    ("terminated", "deprecated"),
}
GROUPS = [KeyGroupId(bytes([number]) * 16) for number in range(2)]


def test_exactly_the_transitions_of_the_table_are_allowed_k1() -> None:
    tag = KeyTag(b"t" * 32)
    for start in KeyState:
        for to in KeyState:
            if (start.value, to.value) in ALLOWED:
                assert states.change({tag: start}, tag, to) == {tag: to}
            else:
                with pytest.raises(TransitionError, match=f"'{start}'.*'{to}'"):
                    states.change({tag: start}, tag, to)


def test_only_active_encrypts_and_active_and_inactive_decrypt_k1() -> None:
    assert {KeyState.ACTIVE} == states.ENCRYPTS
    assert {KeyState.ACTIVE, KeyState.INACTIVE} == states.DECRYPTS
    assert set(states.STANDARDS) == set(states.TRANSITIONS) == set(KeyState)


class Keys(RuleBasedStateMachine):
    """Random commands against two groups, beside a model of two dictionaries."""

    tags = Bundle("tags")

    def __init__(self) -> None:
        super().__init__()
        self.contents = Contents(
            [GroupRecord(group=group, name=group.hex(), description="", created=0, modified=0) for group in GROUPS]
        )
        self.state: dict[KeyTag, str] = {}
        self.group: dict[KeyTag, KeyGroupId] = {}
        self.made = 0

    @rule(target=tags, group=st.sampled_from(GROUPS), state=st.sampled_from(["prelive", "active", "inactive"]))
    def add(self, group: KeyGroupId, state: str) -> KeyTag:
        self.made += 1
        uuid = hashlib.sha256(str(self.made).encode()).digest()[:16]
        tag = key_tag.make(Secret(bytes(32)), uuid, KeyProfile.RANDOM)
        draft = self.contents.draft()
        draft.add_key(
            KeyRecord(
                tag=tag,
                group=group,
                name=str(self.made),
                description="",
                state=KeyState(state).value,
                created=0,
                modified=0,
                recovered=False,
                nonce=bytes(12),
                wrapped=bytes(48),
            )
        )
        self.contents = draft
        if state == "active":
            self.demote(group)
        self.state[tag], self.group[tag] = state, group
        return tag

    @rule(tag=tags, to=st.sampled_from(list(KeyState)))
    def move(self, tag: KeyTag, to: KeyState) -> None:
        if tag not in self.state:
            return
        draft = self.contents.draft()
        if (self.state[tag], to.value) in ALLOWED:
            draft.set_state(tag, to, 1)
            if to is KeyState.ACTIVE:
                self.demote(self.group[tag])
            self.state[tag] = to.value
        else:
            with pytest.raises(TransitionError):
                draft.set_state(tag, to, 1)
        self.contents = draft

    @rule(target=tags, tag=tags)
    def destroy(self, tag: KeyTag) -> object:
        if tag not in self.state:
            return multiple()
        draft = self.contents.draft()
        if self.state[tag] in ("prelive", "terminated"):
            draft.remove_key(tag)
            del self.state[tag], self.group[tag]
        else:
            with pytest.raises(TransitionError):
                draft.remove_key(tag)
        self.contents = draft
        return multiple()

    @invariant()
    def the_contents_are_what_the_model_says(self) -> None:
        assert {KeyTag(record.tag): record.state for record in self.contents.keys} == self.state
        assert self.contents.decryptable == {
            tag for tag, state in self.state.items() if state in ("active", "inactive")
        }
        for group in GROUPS:
            active = [tag for tag, state in self.state.items() if state == "active" and self.group[tag] == group]
            assert len(active) <= 1
            found = self.contents.active_key(group)
            assert [found.tag] == active if found is not None else active == []

    def demote(self, group: KeyGroupId) -> None:
        for tag, state in self.state.items():
            if state == "active" and self.group[tag] == group:
                self.state[tag] = "inactive"


TestKeys = Keys.TestCase
TestKeys.settings = settings(max_examples=60, stateful_step_count=30)
