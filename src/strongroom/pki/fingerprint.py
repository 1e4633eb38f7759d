"""Fingerprints of root certificates: how they are shown, and how a pin is read.

The words carry the 256 bits of SHA-256 and four bits of check, ten bits a word, in 26 words; so a slip of
the ear is told apart from a wrong certificate. A shortened fingerprint is never accepted: an attacker
chooses what is left out.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.formats.algorithms import label
from strongroom.pki.errors import FingerprintFormatError, Sha1FingerprintError, WrongFingerprintError
from strongroom.pki.words import NUMBERS, WORDS

SHA256_BYTES: Final = 32
SHA1_BYTES: Final = 20
WORD_BITS: Final = 10
WORD_COUNT: Final = 26
CHECK_BITS: Final = WORD_BITS * WORD_COUNT - 8 * SHA256_BYTES
MAX_PIN_CHARACTERS: Final = 512
_PREFIX: Final = re.compile(r"^sha-?(1|256)\s*(?:fingerprint)?\s*[:=]\s*", re.IGNORECASE)
_CHECK_LABEL: Final = label("fingerprint-words")


@dataclass(frozen=True)
class Fingerprint:
    """SHA-256 over the DER of a certificate.

    Args:
        value: 32 bytes.
    """

    value: bytes

    def __post_init__(self) -> None:
        if len(self.value) != SHA256_BYTES:
            raise ValueError("a fingerprint has 32 bytes")

    @property
    def hex(self) -> str:
        """Write in hexadecimal, in pairs, as most tools show it: ``AB:CD:...``."""
        return self.value.hex(":").upper()

    @property
    def words(self) -> str:
        """Write as 26 words, for reading out."""
        number = (int.from_bytes(self.value, "big") << CHECK_BITS) | _check(self.value)
        shifts = range(WORD_BITS * (WORD_COUNT - 1), -1, -WORD_BITS)
        return " ".join(WORDS[(number >> shift) & (len(WORDS) - 1)] for shift in shifts)

    def __str__(self) -> str:
        return self.hex

    def require(self, pin: Fingerprint, *, of: str) -> None:
        """Compare with the pinned one.

        Args:
            pin: what the administrator received by another way.
            of: what is being compared, for the message.

        Raises:
            WrongFingerprintError: they differ.
        """
        if not hmac.compare_digest(self.value, pin.value):
            raise WrongFingerprintError(
                f"{of} has the fingerprint '{self.hex}', not the expected '{pin.hex}'",
                context={"presented": self.value.hex(), "expected": pin.value.hex()},
            )


def fingerprint_of(certificate: x509.Certificate) -> Fingerprint:
    """Compute the fingerprint of a certificate."""
    return Fingerprint(hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest())


def sha1_for_comparison(certificate: x509.Certificate) -> str:
    """Compute the SHA-1 fingerprint that older tools show. For the eye only: :func:`read_pin` refuses it."""
    der = certificate.public_bytes(Encoding.DER)
    return hashlib.sha1(der, usedforsecurity=False).hexdigest().upper()


def read_pin(text: str) -> Fingerprint:
    """Read a pin as people write it: hexadecimal with or without colons and spaces, or 26 words.

    Raises:
        Sha1FingerprintError: the text has the length, or the name, of a SHA-1.
        FingerprintFormatError: neither digits nor words, cut short, or words that do not fit together.
    """
    if len(text) > MAX_PIN_CHARACTERS:
        raise FingerprintFormatError(f"a fingerprint of {len(text)} characters is too long")
    rest = text.strip()
    named = _PREFIX.match(rest)
    if named:
        rest = rest[named.end() :]
    if named and named[1] == "1":
        raise Sha1FingerprintError("this is a SHA-1 fingerprint")
    digits = re.sub(r"[\s:]", "", rest)
    if re.fullmatch(r"[0-9A-Fa-f]+", digits):
        return _from_hex(digits)
    return _from_words(re.split(r"[\s,;.\-]+", rest.lower().strip(" ,;.-\t\r\n")))


def _from_hex(digits: str) -> Fingerprint:
    if len(digits) == 2 * SHA1_BYTES:
        raise Sha1FingerprintError("40 hexadecimal digits are a SHA-1 fingerprint")
    if len(digits) != 2 * SHA256_BYTES:
        raise FingerprintFormatError(f"a fingerprint has 64 hexadecimal digits, here are {len(digits)}")
    return Fingerprint(bytes.fromhex(digits))


def _from_words(words: list[str]) -> Fingerprint:
    for place, word in enumerate(words, start=1):
        if word not in NUMBERS:
            raise FingerprintFormatError(f"'{word}', word {place} of the fingerprint, is not in the list of words")
    if len(words) != WORD_COUNT:
        raise FingerprintFormatError(f"a fingerprint has {WORD_COUNT} words, here are {len(words)}")
    number = 0
    for word in words:
        number = (number << WORD_BITS) | NUMBERS[word]
    value = (number >> CHECK_BITS).to_bytes(SHA256_BYTES, "big")
    if number & ((1 << CHECK_BITS) - 1) != _check(value):
        raise FingerprintFormatError("these words do not fit together: one is wrong, or two changed places")
    return Fingerprint(value)


def _check(value: bytes) -> int:
    return hashlib.sha256(_CHECK_LABEL + value).digest()[0] >> (8 - CHECK_BITS)
