"""Passwords (U3)."""

from __future__ import annotations

import pytest

from strongroom.core.secret import Secret
from strongroom.people.errors import WeakPasswordError
from strongroom.people.passwords import check_strength, hash_of_nobody, hash_password, matches
from tests.support.domains import ENTROPY


def test_kept_form_is_argon2id_with_its_parameters_and_fits_only_its_password() -> None:
    kept = hash_password(Secret("Käse und Brot".encode()), ENTROPY)
    assert kept.startswith("$argon2id$v=19$m=65536,t=3,p=1$")
    assert matches(Secret("Käse und Brot".encode()), kept)
    # The same letters, composed in another way by another keyboard.
    assert matches(Secret("Ka\u0308se und Brot".encode()), kept)
    assert not matches(Secret(b"Kase und Brot"), kept)
    assert not matches(Secret(b"\xff"), kept)


def test_what_is_kept_of_nobody_looks_like_any_other_and_is_compared_as_one() -> None:
    kept, nobody = hash_password(Secret(b"correct horse"), ENTROPY), hash_of_nobody(ENTROPY)
    assert [len(part) for part in kept.split("$")] == [len(part) for part in nobody.split("$")]
    assert kept.split("$")[:4] == nobody.split("$")[:4]
    assert hash_of_nobody(ENTROPY) != nobody
    assert not matches(Secret(b"correct horse"), nobody)  # and not an error: it was computed with these parameters


@pytest.mark.parametrize(
    "password",
    ["short", "x" * 1025, "aaaaaaaaaaaaaaaa", "abababababababab", "administrator", "Administrator1"],
)
def test_weak_password_is_refused(password: str) -> None:
    with pytest.raises(WeakPasswordError):
        check_strength(Secret(password.encode()), "administrator")


def test_phrase_of_several_words_is_accepted() -> None:
    check_strength(Secret(b"correct horse battery"), "administrator")
