"""From a pass phrase to 32 bytes, the same on any machine.

Source: ``docs/reference/formats/key-tag.md``, section *Pass phrase*; Argon2id: RFC 9106.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from typing import Final

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from strongroom.core.errors import AuthenticationError, InputError
from strongroom.core.secret import Secret
from strongroom.formats.algorithms import KEY_BYTES

SALT_BYTES: Final = 16
MAX_NORMALISED_BYTES: Final = 1_024

# With several lanes the library hangs, or runs out of memory, when threads derive at the same time; and 64 MiB at a
# time are enough.
_one_at_a_time: Final = threading.Lock()

# Written out, because what `str.split` takes for white space may change with the Unicode version of Python.
_WHITE_SPACE: Final = re.compile(
    "[\u0009-\u000d\u001c-\u001f\u0020\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+"
)
# A character of the normal form stands for at most four before it: a longer phrase cannot become short
# enough.
_MAX_CHARACTERS: Final = 4 * MAX_NORMALISED_BYTES


class PassPhraseError(InputError):
    """A pass phrase that cannot be one: empty, too long, or not text."""

    code = "passphrase.unusable"
    default_hint = "give a pass phrase of at least one and at most 1,024 bytes"


class WrongPassPhraseError(AuthenticationError):
    """The pass phrase is not the one that a file was sealed to, or that a key was made from."""

    code = "passphrase.wrong"
    default_hint = "type it again; look for exchanged letters and the keyboard's layout"


def normalise(phrase: str) -> Secret:
    """Bring a pass phrase into the one form that derivations take.

    Two ways to type the same phrase (composed or decomposed accents, a tab for a space, a line end behind it)
    give the same bytes.

    Args:
        phrase: what a person typed or a file held.

    Returns:
        1 to 1,024 bytes of UTF-8.

    Raises:
        PassPhraseError: nothing is left, it is too long, or it has characters that UTF-8 lacks.
    """
    # White space never composes with its neighbours, so it may be cut down before normalising as well as
    # after: that bounds the work on hostile input.
    compact = _compact(phrase)
    if len(compact) > _MAX_CHARACTERS:
        raise PassPhraseError("the pass phrase is too long")
    try:
        data = _compact(unicodedata.normalize("NFC", compact)).encode("utf-8")
    except UnicodeEncodeError:
        # The cause is left out: it carries the phrase.
        raise PassPhraseError("the pass phrase has characters that are not text") from None
    if not data:
        raise PassPhraseError("the pass phrase is empty")
    if len(data) > MAX_NORMALISED_BYTES:
        raise PassPhraseError("the pass phrase is too long")
    return Secret(data)


def derive(phrase: Secret, salt: bytes) -> Secret:
    """Compute pass phrase derivation 1: Argon2id, 3 passes, 65,536 KiB, 4 lanes.

    Takes a tenth of a second and 64 MiB of memory, on purpose.

    Args:
        phrase: what :func:`normalise` gave.
        salt: 16 bytes.

    Returns:
        32 bytes.

    Raises:
        ValueError: the salt has another length: a mistake of the caller, never of data.
    """
    if len(salt) != SALT_BYTES:
        raise ValueError(f"a salt has {SALT_BYTES} bytes, not {len(salt)}")
    argon2id = Argon2id(salt=salt, length=KEY_BYTES, iterations=3, lanes=4, memory_cost=65_536)
    with _one_at_a_time:
        return Secret(argon2id.derive(phrase.reveal()))


def _compact(text: str) -> str:
    return _WHITE_SPACE.sub(" ", text).strip(" ")
