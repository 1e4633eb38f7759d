from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.secret import Secret
from strongroom.formats import passphrase
from strongroom.formats.passphrase import PassPhraseError, derive, normalise


@pytest.mark.parametrize(
    ("typed", "bytes_"),
    [
        ("correct horse", b"correct horse"),
        (" \t correct \r\n\u00a0\u3000 horse\n", b"correct horse"),
        ("a\u001cb\u001fc", b"a b c"),
        ("Cafe\u0301", "Caf\u00e9".encode()),
        ("\u212b", "\u00c5".encode()),  # the Ångström sign is Å in NFC
        ("zero\u200bwidth", "zero\u200bwidth".encode()),  # no White_Space property, so it stays
        ("\ufb01", "\ufb01".encode()),  # compatibility forms stay: NFC, not NFKC
    ],
)
def test_one_phrase_typed_in_several_ways_gives_the_same_bytes_k3(typed: str, bytes_: bytes) -> None:
    assert normalise(typed).reveal() == bytes_


@pytest.mark.parametrize("typed", ["", " ", "\t\n\u2003", "\ud800", "x" * 1_025, "\u00e9" * 513, "x" * 100_000])
def test_phrases_that_cannot_be_one_are_refused(typed: str) -> None:
    with pytest.raises(PassPhraseError) as caught:
        normalise(typed)
    assert caught.value.__cause__ is None
    assert "xxx" not in str(caught.value)


def test_the_longest_phrases_are_taken_however_they_are_typed() -> None:
    composed = "\u1f82" * 341  # three bytes each
    assert len(normalise(unicodedata.normalize("NFD", composed)).reveal()) == 1_023
    assert len(normalise(" " * 100_000 + "x" * 1_024).reveal()) == 1_024


def test_white_space_is_what_unicode_says_and_four_controls() -> None:
    # `isspace`: bidirectional class WS, B or S, or category Zs; that is White_Space and U+001C to U+001F.
    white = {chr(n) for n in range(sys.maxunicode + 1) if chr(n).isspace()}
    for n in range(0x1_0000):
        if not 0xD800 <= n < 0xE000:
            got = normalise(f"a{chr(n)}b").reveal() == b"a b"
            assert got == (chr(n) in white), hex(n)


@given(st.text(max_size=200))
def test_normalising_is_what_the_page_says_and_settles(typed: str) -> None:
    expected = " ".join(unicodedata.normalize("NFC", typed).split()).encode("utf-8", "surrogatepass")
    try:
        got = normalise(typed).reveal()
    except PassPhraseError:
        assert not 0 < len(expected) <= 1_024 or any("\ud800" <= c <= "\udfff" for c in typed)
        return
    assert got == expected
    assert normalise(got.decode()).reveal() == got


def test_the_derivation_is_argon2id_with_the_written_parameters_k3() -> None:
    # Computed with the command `argon2` (Argon2 reference implementation):
    # printf 'correct horse' | argon2 0123456789abcdef -id -t 3 -k 65536 -p 4 -l 32 -r
    key = derive(Secret(b"correct horse"), b"0123456789abcdef")
    assert key.reveal().hex() == "2f56f5363a695288ff28810e46ad69a1fe3068bc6494cd26a8a673b7d9c2b0a2"


def test_a_salt_of_another_length_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        derive(Secret(b"x"), b"short")


def test_nothing_of_a_phrase_shows() -> None:
    assert "horse" not in repr(passphrase.normalise("correct horse"))
