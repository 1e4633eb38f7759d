"""Column types that mean the same in both databases, and refuse what does not belong in them."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, Integer, LargeBinary, Text
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DontWrapMixin
from sqlalchemy.types import TypeDecorator, TypeEngine

from strongroom.core.clock import EPOCH
from strongroom.core.errors import InputError
from strongroom.database.errors import DocumentError

DOCUMENT_BYTES = 65_536
MICROSECOND = timedelta(microseconds=1)


class ColumnValueError(InputError, DontWrapMixin):
    """A value does not fit its column; a defect of the caller."""

    code = "database.bad-value"


def row_id() -> TypeEngine[int]:
    """Give the type of a rising row number: SQLite numbers rows by itself only for INTEGER."""
    return BigInteger().with_variant(Integer(), "sqlite")


def encode_document(value: Any, limit_bytes: int) -> str:
    """Write a value as the JSON that :class:`Document` keeps.

    Raises:
        DocumentError: not JSON (secrets, bytes, NaN), or longer than ``limit_bytes``.
    """
    try:
        text = json.dumps(value, separators=(",", ":"), sort_keys=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise DocumentError(f"a document cannot be written as JSON: {error}") from error
    if len(text) > limit_bytes:
        raise DocumentError(f"a document of {len(text)} bytes is longer than {limit_bytes}")
    return text


class Identity(TypeDecorator[bytes]):
    """An identity of fixed length, kept as bytes.

    Args:
        length: 16 or 32 bytes; every value is checked on its way in.
    """

    impl = LargeBinary
    cache_ok = True

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self.length = length

    def process_bind_param(self, value: bytes | None, dialect: Dialect) -> bytes | None:  # noqa: ARG002 - given by SQLAlchemy
        """Check the length."""
        if value is None:
            return None
        if len(value) != self.length:
            raise ColumnValueError(f"an identity of {self.length} bytes was expected")
        return value

    def process_result_value(self, value: Any | None, dialect: Dialect) -> bytes | None:  # noqa: ARG002 - as above
        """Give bytes, whatever buffer the driver uses."""
        return None if value is None else bytes(value)


class Moment(TypeDecorator[datetime]):
    """An aware time in UTC, kept as whole microseconds since 1970, so that both databases order it alike."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002 - given by SQLAlchemy
        """Convert to microseconds; a time without zone is refused, because nobody knows when it is."""
        if value is None:
            return None
        if value.utcoffset() is None:
            raise ColumnValueError(f"a time without time zone was given: '{value.isoformat()}'")
        return (value - EPOCH) // MICROSECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - as above
        """Convert to a time in UTC."""
        return None if value is None else EPOCH + value * MICROSECOND


class Document(TypeDecorator[Any]):
    """A JSON value of bounded length, kept as text: never searched by the database, always read whole.

    Args:
        limit_bytes: length of the text, which is ASCII, so that any file name passes through any database.
    """

    impl = Text
    cache_ok = True

    def __init__(self, limit_bytes: int = DOCUMENT_BYTES) -> None:
        super().__init__()
        self.limit_bytes = limit_bytes

    def process_bind_param(self, value: Any | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - given by SQLAlchemy
        """Write as JSON.

        Raises:
            DocumentError: not JSON (secrets, bytes, NaN), or too long.
        """
        return None if value is None else encode_document(value, self.limit_bytes)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:  # noqa: ARG002 - as above
        """Read the JSON."""
        return None if value is None else json.loads(value)
