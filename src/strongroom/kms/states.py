"""The life of a key: five states, and which follows which.

    (created) ──► prelive ──► active ◄──► inactive ◄──► deprecated ◄──► terminated
                     │                                                       │
                     └────────────────► (destroyed) ◄────────────────────────┘

A key is created prelive or active; one that was recovered or imported enters inactive. Activating a key
makes the group's former active key inactive.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple

from strongroom.core.ids import KeyTag
from strongroom.kms.errors import TransitionError


class KeyState(StrEnum):
    """What a key may be used for."""

    PRELIVE = "prelive"
    ACTIVE = "active"
    INACTIVE = "inactive"
    DEPRECATED = "deprecated"
    TERMINATED = "terminated"


class Standard(NamedTuple):
    """What other vocabularies call a state."""

    nist: str
    """NIST SP 800-57 part 1 revision 5, section 7."""
    kmip: str
    """KMIP 2.1, State enumeration."""


TRANSITIONS: Final[Mapping[KeyState, frozenset[KeyState]]] = {
    KeyState.PRELIVE: frozenset({KeyState.ACTIVE}),
    KeyState.ACTIVE: frozenset({KeyState.INACTIVE}),
    KeyState.INACTIVE: frozenset({KeyState.ACTIVE, KeyState.DEPRECATED}),
    KeyState.DEPRECATED: frozenset({KeyState.INACTIVE, KeyState.TERMINATED}),
    KeyState.TERMINATED: frozenset({KeyState.DEPRECATED}),
}

# Neither standard has a state between deactivated and destroyed that can be left again; suspended, which may
# neither protect nor process here, is NIST's nearest. KMIP has no such state.
STANDARDS: Final[Mapping[KeyState, Standard]] = {
    KeyState.PRELIVE: Standard("pre-activation", "Pre-Active"),
    KeyState.ACTIVE: Standard("active", "Active"),
    KeyState.INACTIVE: Standard("deactivated", "Deactivated"),
    KeyState.DEPRECATED: Standard("suspended", "Deactivated"),
    KeyState.TERMINATED: Standard("suspended", "Deactivated"),
}

ENCRYPTS: Final = frozenset({KeyState.ACTIVE})
DECRYPTS: Final = frozenset({KeyState.ACTIVE, KeyState.INACTIVE})
DESTROYABLE: Final = frozenset({KeyState.PRELIVE, KeyState.TERMINATED})


def change(group: Mapping[KeyTag, KeyState], tag: KeyTag, to: KeyState) -> dict[KeyTag, KeyState]:
    """Decide what moving a key to another state changes in its group.

    Args:
        group: the states of all keys of the group.
        tag: the key to move, one of them.
        to: where to.

    Returns:
        The new states of the keys that change: the key itself, and the former active key if there is one.

    Raises:
        TransitionError: no such step from the key's state.
    """
    now = group[tag]
    if to not in TRANSITIONS[now]:
        allowed = " or ".join(f"'{state}'" for state in KeyState if state in TRANSITIONS[now])
        raise TransitionError(f"a key that is '{now}' does not become '{to}'; it may become {allowed}")
    return (demote(group) if to is KeyState.ACTIVE else {}) | {tag: to}


def demote(group: Mapping[KeyTag, KeyState]) -> dict[KeyTag, KeyState]:
    """Make room for a new active key: what was active becomes inactive."""
    return {tag: KeyState.INACTIVE for tag, state in group.items() if state is KeyState.ACTIVE}


def check_destroyable(state: KeyState) -> None:
    """Make sure that a key in this state may be destroyed.

    Raises:
        TransitionError: it must be prelive or terminated.
    """
    if state not in DESTROYABLE:
        raise TransitionError(
            f"a key that is '{state}' is not destroyed: only one that is 'prelive' or 'terminated' is",
            hint="bring the key to terminated, one state at a time",
        )
