"""Magics: letters that name a format, then digits that are its version."""

from __future__ import annotations

from typing import Final

from strongroom.formats.errors import DamagedError, NewerFormatError

_DIGITS: Final = b"0123456789"


def check_magic(found: bytes, expected: bytes, what: str) -> None:
    """Compare the bytes that stand in the place of a magic.

    They are not quoted in messages: where a file that holds a key belongs, they may be a bare key.

    Raises:
        NewerFormatError: the same letters with a higher number.
        DamagedError: anything else.
    """
    if found == expected:
        return
    letters = expected.rstrip(_DIGITS)
    version = found[len(letters) :]
    if found.startswith(letters) and len(found) == len(expected) and version.isdigit() and found > expected:
        raise NewerFormatError(f"{what} has version {version.decode()}, which this program does not have")
    raise DamagedError(f"{what} does not have {expected.decode()} where it belongs")
