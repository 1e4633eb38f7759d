"""The JSON forms of what travels: identities, paths of any bytes, bounded text, secrets."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    SecretStr,
    StringConstraints,
    WithJsonSchema,
)

from strongroom.core.secret import Secret
from strongroom.pki.channel import Address, AddressError

MAX_PATH_BYTES: Final = 65_536
LARGEST_INT: Final = 2**63 - 1
"""What both databases take."""
_ONE_LINE: Final = r"^[^\x00-\x1f\x7f]*$"
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_HEX32: Final = re.compile(r"[0-9a-f]{64}")

Name = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=_ONE_LINE)]
"""What people call a thing: one line."""
PartOfPath = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f/]+$")]
"""What people call a thing whose name stands in paths."""
Line = Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=_ONE_LINE)]
"""A reason, an address, a file's path on the primary's host: one line."""
Remark = Annotated[str, StringConstraints(max_length=256, pattern=_ONE_LINE)]
"""A description; may be empty."""


def _encodable(value: SecretStr) -> SecretStr:
    try:
        value.get_secret_value().encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("must be Unicode text") from None  # the cause would quote it
    return value


Password = Annotated[SecretStr, Field(min_length=1, max_length=1_024), AfterValidator(_encodable)]
"""A password, pass phrase, token or credential: never shown again, and not in errors."""


class Body(BaseModel):
    """What a request says. An unknown field is an error, so that a slip of the pen changes nothing silently."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Answer(BaseModel):
    """What an answer says. Readers ignore fields they do not know, so that later releases can add some."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)


class Done(Answer):
    """It was done, and there is nothing to tell."""


def _uuid(value: Any) -> bytes:
    if not isinstance(value, str) or not _UUID.fullmatch(value.lower()):
        raise ValueError("must be a UUID")
    return bytes.fromhex(value.replace("-", ""))


def _hex32(value: Any) -> bytes:
    if not isinstance(value, str) or not _HEX32.fullmatch(value.lower()):
        raise ValueError("must be 64 hexadecimal digits")
    return bytes.fromhex(value)


def _path(value: Any) -> bytes:
    if not isinstance(value, str) or len(value) > 2 * MAX_PATH_BYTES:
        raise ValueError("must be the base64 of a path")
    try:
        path = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("must be the base64 of a path") from error
    if not 0 < len(path) <= MAX_PATH_BYTES or b"\0" in path or not path.startswith(b"/"):
        raise ValueError(f"must be an absolute path of 1 to {MAX_PATH_BYTES} bytes")
    return path


UUID = Annotated[bytes, PlainValidator(_uuid), WithJsonSchema({"type": "string", "format": "uuid"})]
Hex32 = Annotated[bytes, PlainValidator(_hex32), WithJsonSchema({"type": "string", "pattern": "^[0-9a-f]{64}$"})]
PathBytes = Annotated[bytes, PlainValidator(_path), WithJsonSchema({"type": "string", "format": "byte"})]


def secret(value: SecretStr) -> Secret:
    """Take a secret out of a request."""
    return Secret(value.get_secret_value().encode("utf-8"))


def text(value: Secret) -> str:
    """Put a secret into the one answer that shows it."""
    return value.reveal().decode("utf-8")


def address(words: str) -> Address:
    """Read an address that a resolver can be asked for.

    Raises:
        AddressError: it is none.
    """
    found = Address.read(words)
    try:
        found.host.encode("idna")
    except UnicodeError as error:
        raise AddressError(f"'{words}' is not an address: its name cannot be one") from error
    return found


def show_path(path: bytes) -> str:
    """Write a path for people; bytes that are not UTF-8 show as escapes."""
    return path.decode("utf-8", "backslashreplace")


def b64(data: bytes) -> str:
    """Write bytes as base64."""
    return base64.b64encode(data).decode("ascii")
