"""What each role may do (U3)."""

from __future__ import annotations

import pytest

from strongroom.people.roles import ALL_PERMISSIONS, PERMISSIONS, UserRole


def test_every_permission_is_in_some_role() -> None:
    assert frozenset().union(*PERMISSIONS.values()) == ALL_PERMISSIONS


@pytest.mark.parametrize(
    "permission",
    ["key.destroy", "key.export", "trust.add", "token.create", "user.change", "image.expire", "image.export"],
)
def test_operator_may_not_change_the_rules_or_take_data_out(permission: str) -> None:
    assert permission in ALL_PERMISSIONS
    assert permission not in PERMISSIONS[UserRole.OPERATOR]


def test_taking_keys_out_is_for_security_alone() -> None:
    holders = {role for role, held in PERMISSIONS.items() if held & {"key.export", "keystore.export"}}
    assert holders == {UserRole.SECURITY}


def test_security_does_not_restore_data() -> None:
    assert not PERMISSIONS[UserRole.SECURITY] & {"image.restore", "image.export", "image.expire"}
