"""The log of a pool: what all who write in it must agree on before a container is condemned, or goes.

A pool in a folder has one writer, which agrees with itself; one in object storage may have several, and its log is
kept by whoever knows them all. A condemned container is marked there first and in the index after that, and taken
back in the same order: so no index finds what the log calls condemned, once it has followed.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from strongroom.core.ids import ContainerId


class PoolLog(Protocol):
    """The log, as one collection sees it. All methods may raise what the collection is to end with."""

    @property
    def is_shared(self) -> bool:
        """Tell whether others write in the pool too."""

    def condemn(self, containers: Collection[ContainerId]) -> None:
        """Mark containers as condemned in the epoch of now; every index that follows finds nothing in them."""

    def reprieve(self, containers: Collection[ContainerId]) -> None:
        """Take that back."""

    def may_remove(self, container: ContainerId) -> bool:
        """Let a condemned container go; for good, so that it may be deleted whenever that can be done."""


class OwnLog:
    """The log of a pool with one writer: its index holds what there is to know."""

    @property
    def is_shared(self) -> bool:
        """Nobody else writes."""
        return False

    def condemn(self, containers: Collection[ContainerId]) -> None:
        """Nobody else searches for what is in them."""

    def reprieve(self, containers: Collection[ContainerId]) -> None:
        """Nobody else was told."""

    def may_remove(self, container: ContainerId) -> bool:  # noqa: ARG002 - as the protocol has it
        """Nobody else can take it back."""
        return True
