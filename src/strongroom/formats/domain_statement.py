"""Domain statement: binds the fingerprint that people compare to the domain id that lasts.

Source: ``docs/reference/protocols/peer.md``, section *Domain statement*.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from strongroom.formats.errors import ForeignError
from strongroom.formats.records import Features, Moment
from strongroom.formats.signed import Kind, Payload

MAX_NAME_BYTES: Final = 128
MAX_ROOT_BYTES: Final = 4_096
MAX_ADDRESS_BYTES: Final = 300

Root = Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_ROOT_BYTES)]
"""A CA root certificate, DER."""
PeerAddress = Annotated[str, msgspec.Meta(min_length=3, max_length=MAX_ADDRESS_BYTES)]
"""``host:port`` of a peer listener."""
Rising = Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)]


class DomainStatement(Payload, frozen=True, kw_only=True):
    """What a domain says of itself, signed by its archive key."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME_BYTES)]
    incarnation: Rising
    number: Rising
    roots: Annotated[tuple[Root, ...], msgspec.Meta(min_length=1, max_length=4)]
    peer: Annotated[tuple[PeerAddress, ...], msgspec.Meta(min_length=1, max_length=16)]
    issued: Moment
    features: Features

    def __post_init__(self) -> None:
        for address in self.peer:
            host, colon, port = address.rpartition(":")
            # Digits of other alphabets would be a number to int().
            if not (host and colon and port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
                raise ValueError("an address of the peer listener is not host:port")

    @property
    def order(self) -> tuple[int, int]:
        """Of two statements of one domain the one with the higher order holds."""
        return self.incarnation, self.number


DOMAIN_STATEMENT: Final = Kind(b"SRDOMS01", DomainStatement, 64 << 10, "domain statement")


def require_root(statement: DomainStatement, root: bytes) -> None:
    """Make sure that a statement vouches for the root that a connection was verified with.

    Args:
        statement: checked.
        root: DER.

    Raises:
        ForeignError: it names other roots.
    """
    if root not in statement.roots:
        raise ForeignError(f"the statement of the domain '{statement.name}' does not name the root that was pinned")
