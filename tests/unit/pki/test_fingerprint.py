"""Fingerprints are shown in two ways and read in both; SHA-1 is shown and never believed (T2)."""

from __future__ import annotations

import hashlib

import pytest

from strongroom.core.clock import ManualClock
from strongroom.pki.ca import to_der
from strongroom.pki.errors import FingerprintFormatError, Sha1FingerprintError, WrongFingerprintError
from strongroom.pki.fingerprint import Fingerprint, fingerprint_of, read_pin, sha1_for_comparison
from strongroom.pki.words import NUMBERS, WORDS
from tests.support.domains import CA

SOME = Fingerprint(hashlib.sha256(b"some").digest())


def test_fingerprint_is_sha256_over_der() -> None:
    root = CA.make(1, ManualClock().now()).root.certificate
    assert fingerprint_of(root).value == hashlib.sha256(to_der(root)).digest()
    assert sha1_for_comparison(root) == hashlib.sha1(to_der(root), usedforsecurity=False).hexdigest().upper()


@pytest.mark.parametrize(
    "text",
    [
        SOME.hex,
        SOME.value.hex(),
        f"SHA256 Fingerprint={SOME.hex}",
        f"  sha-256: {SOME.value.hex(' ')}\n",
        SOME.words,
        SOME.words.upper().replace(" ", "-"),
        SOME.words.replace(" ", ",\n"),
    ],
)
def test_pin_is_read_as_people_write_it(text: str) -> None:
    assert read_pin(text) == SOME


@pytest.mark.parametrize("text", ["ab:" * 19 + "ab", "AB" * 20, "sha1=" + "ab" * 20, "SHA-1: whatever"])
def test_sha1_is_refused_by_its_own_error(text: str) -> None:
    with pytest.raises(Sha1FingerprintError) as raised:
        read_pin(text)
    assert raised.value.code == "pki.sha1-not-accepted"
    assert "SHA-256" in raised.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "",
        "zz" * 32,
        "ab" * 31,
        "ab" * 33,
        SOME.words.rsplit(" ", 1)[0],
        SOME.words + " " + WORDS[0],
        "a" * 1000,
    ],
)
def test_shortened_or_malformed_pin_is_refused(text: str) -> None:
    with pytest.raises(FingerprintFormatError) as raised:
        read_pin(text)
    assert raised.value.code == "pki.bad-fingerprint"


def test_unknown_word_is_named_with_its_place() -> None:
    words = SOME.words.split()
    words[3] = "strongroom"
    with pytest.raises(FingerprintFormatError, match="'strongroom', word 4"):
        read_pin(" ".join(words))


def test_check_bits_catch_most_slips() -> None:
    words = SOME.words.split()
    caught = 0
    for replacement in WORDS[:160]:
        if replacement != words[5]:
            try:
                read_pin(" ".join([*words[:5], replacement, *words[6:]]))
            except FingerprintFormatError:
                caught += 1
    assert caught > 130  # of 160: fifteen in sixteen are expected


def test_other_fingerprint_is_refused_with_both_shown() -> None:
    other = Fingerprint(bytes(32))
    with pytest.raises(WrongFingerprintError) as raised:
        SOME.require(other, of="the root")
    assert SOME.hex in raised.value.message
    assert other.hex in raised.value.message


def test_words_can_be_told_apart() -> None:
    """The list is a lasting format; a digest of it keeps it from being changed by accident."""
    assert len(WORDS) == len(NUMBERS) == 1024
    assert len({word[:4] for word in WORDS}) == 1024
    assert list(WORDS) == sorted(WORDS)
    assert all(4 <= len(word) <= 8 and word.isalpha() and word.islower() for word in WORDS)
    assert hashlib.sha256(" ".join(WORDS).encode()).hexdigest().startswith("9e6c0b0956b795ab")
