"""Passwords: Argon2id (RFC 9106), kept as a PHC string, which carries salt and parameters.

One computation takes 64 MiB and three passes, in one lane: with several, OpenSSL shares one set of threads
among all computations of the process, and those that run side by side stop each other for ever (seen with the
OpenSSL that cryptography 50 carries). At most two run at once, whoever asks, so that sign-ins do not take the
memory of everything else.
"""

from __future__ import annotations

import base64
import threading
import unicodedata
from typing import Final

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from strongroom.core.entropy import Entropy
from strongroom.core.secret import Secret
from strongroom.people.errors import WeakPasswordError

SHORTEST: Final = 12
LONGEST_BYTES: Final = 1_024
SALT_BYTES: Final = 16
HASH_BYTES: Final = 32
ITERATIONS: Final = 3
LANES: Final = 1
MEMORY_KIB: Final = 64 * 1024
AT_ONCE: Final = 2
_turns: Final = threading.BoundedSemaphore(AT_ONCE)


def hash_password(password: Secret, entropy: Entropy) -> str:
    """Turn a password into what is kept of it."""
    kdf = Argon2id(
        salt=entropy.bytes(SALT_BYTES),
        length=HASH_BYTES,
        iterations=ITERATIONS,
        lanes=LANES,
        memory_cost=MEMORY_KIB,
    )
    with _turns:
        return kdf.derive_phc_encoded(_normal(password))


def hash_of_nobody(entropy: Entropy) -> str:
    """Make what no password matches, though comparing takes as long: salt and hash are drawn, not computed."""
    salt, drawn = (
        base64.b64encode(entropy.bytes(count)).decode("ascii").rstrip("=") for count in (SALT_BYTES, HASH_BYTES)
    )
    return f"$argon2id$v=19$m={MEMORY_KIB},t={ITERATIONS},p={LANES}${salt}${drawn}"


def matches(password: Secret, kept: str) -> bool:
    """Tell whether this is the password; takes the same time either way."""
    if len(password) > LONGEST_BYTES:
        return False
    try:
        with _turns:
            Argon2id.verify_phc_encoded(_normal(password), kept)
    except InvalidKey:
        return False
    return True


def check_strength(password: Secret, name: str) -> None:
    """Refuse a password that would be guessed.

    Raises:
        WeakPasswordError: says why.
    """
    if len(password) > LONGEST_BYTES:
        raise WeakPasswordError(f"a password has at most {LONGEST_BYTES} bytes")
    text = _normal(password).decode("utf-8", errors="replace")
    if len(text) < SHORTEST:
        raise WeakPasswordError(f"a password has at least {SHORTEST} characters")
    if len(set(text)) < SHORTEST // 3 or (name.lower() in text.lower() and len(text) < 2 * len(name) + SHORTEST // 2):
        raise WeakPasswordError("the password is the user's name, or repeats a few characters")


def _normal(password: Secret) -> bytes:
    """Give one spelling to what looks alike: keyboards differ in how they compose letters."""
    try:
        return unicodedata.normalize("NFC", password.reveal().decode("utf-8")).encode("utf-8")
    except UnicodeDecodeError:
        return password.reveal()
