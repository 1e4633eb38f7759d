"""The first message of both ends."""

from __future__ import annotations

from strongroom.core.ids import DomainId
from strongroom.formats.replication_messages import VERSION, Hello, Role
from strongroom.replication.errors import NoCommonVersionError, ProtocolError


def hello(role: Role, own: DomainId) -> Hello:
    """Say who we are and what we understand."""
    return Hello(versions=[VERSION], role=role, domain=own, capabilities=[])


def check_hello(message: Hello, *, expected_role: Role, peer: DomainId) -> None:
    """Check the other side's first message against its certificate.

    Raises:
        NoCommonVersionError: no version in common.
        ProtocolError: another domain than its certificate says, or the wrong role.
    """
    if VERSION not in message.versions:
        raise NoCommonVersionError(f"the other side speaks the versions {message.versions}, this one {VERSION}")
    if message.domain != peer:
        raise ProtocolError(
            f"the other side says that it is '{message.domain.hex()}', and its certificate that it is '{peer.hex()}'"
        )
    if message.role != expected_role:
        raise ProtocolError(f"the other side is the {message.role}, as this one is")
