"""What a host is to this domain; kept in the registry, never in a certificate."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """Role of a host in this domain."""

    PRIMARY = "primary"
    MEDIA = "media"
    CLIENT = "client"
    FOREIGN_PRIMARY = "foreign-primary"
    FOREIGN_MEDIA = "foreign-media"

    @property
    def is_foreign(self) -> bool:
        """Whether hosts of this role belong to another domain."""
        return self in (Role.FOREIGN_PRIMARY, Role.FOREIGN_MEDIA)

    @property
    def listens(self) -> bool:
        """Whether other hosts connect to this one, so that its certificate must be good for a server."""
        return self in (Role.PRIMARY, Role.MEDIA)


class HostState(StrEnum):
    """Whether a host may act; suspension can be undone, retirement cannot."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    RETIRED = "retired"
