"""What an administrator does to a trust that exists: suspend, resume, remove, confirm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Engine

from strongroom import audit
from strongroom.audit import Actor
from strongroom.core.clock import Clock
from strongroom.core.ids import DomainId
from strongroom.trust import home, store
from strongroom.trust.errors import HasDependantsError
from strongroom.trust.state import Confirmed, Event, Removed, Resumed, Suspended
from strongroom.trust.store import Peer

MAX_NAMED = 10


@dataclass(frozen=True)
class Dependant:
    """Something that stops working when a trust goes.

    Args:
        kind: for people: ``SLP``, ``pending copy``, ``storage credential``.
        name: which one.
    """

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} '{self.name}'"


Dependants = Callable[[Connection, DomainId], Sequence[Dependant]]


class TrustDesk:
    """Where an administrator's decisions about trusts are taken down. The peer hears of them with the next exchange.

    Args:
        engine: the primary's database.
        clock: for times.
        dependants: tells what needs a trust.
    """

    def __init__(self, engine: Engine, clock: Clock, dependants: Dependants) -> None:
        self._engine = engine
        self._clock = clock
        self._dependants = dependants

    def suspend(self, peer: DomainId, actor: Actor) -> Peer:
        """Let nothing pass until :meth:`resume`; certificates stay good.

        Raises:
            TrustNotFoundError, NotPossibleError: as named.
        """
        return self._decide(peer, actor, "trust.suspend", lambda c: Suspended(home.take_number(c)))

    def resume(self, peer: DomainId, actor: Actor) -> Peer:
        """Take a suspension back.

        Raises:
            TrustNotFoundError, NotPossibleError: as named.
        """
        return self._decide(peer, actor, "trust.resume", lambda c: Resumed(home.take_number(c)))

    def confirm(self, peer: DomainId, actor: Actor) -> Peer:
        """Say that the peer's home which was last seen is the right one.

        Raises:
            TrustNotFoundError, NotPossibleError: as named.
        """
        return self._decide(peer, actor, "trust.confirm", lambda _: Confirmed())

    def dependants(self, connection: Connection, peer: DomainId) -> Sequence[Dependant]:
        """List what would stop working; for a dry run.

        Raises:
            TrustNotFoundError: there is no trust.
        """
        store.get_peer(connection, peer)
        return self._dependants(connection, peer)

    def remove(self, peer: DomainId, actor: Actor, *, force: bool = False) -> Peer:
        """Remove a trust, and revoke what was issued to hosts of the peer.

        Args:
            peer: the other domain.
            actor: our administrator.
            force: although something needs it.

        Raises:
            HasDependantsError: names what needs it.
            TrustNotFoundError, NotPossibleError: as named.
        """

        def decide(connection: Connection) -> Event:
            needing = self._dependants(connection, peer)
            if needing and not force:
                named = ", ".join(str(item) for item in needing[:MAX_NAMED])
                more = f" and {len(needing) - MAX_NAMED} more" if len(needing) > MAX_NAMED else ""
                raise HasDependantsError(f"the trust is needed by {named}{more}", context={"dependants": len(needing)})
            return Removed(home.take_number(connection))

        return self._decide(peer, actor, "trust.remove", decide, {"force": force})

    def _decide(
        self,
        peer: DomainId,
        actor: Actor,
        action: str,
        event: Callable[[Connection], Event],
        facts: dict[str, audit.Fact] | None = None,
    ) -> Peer:
        def deed(connection: Connection) -> Peer:
            store.get_peer(connection, peer)
            store.happen(connection, peer, event(connection), self._clock)
            return store.get_peer(connection, peer)

        return audit.exercise(self._engine, self._clock, actor, action, f"domain:{peer.hex()}", deed, facts=facts)
