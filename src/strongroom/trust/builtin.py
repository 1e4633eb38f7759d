"""The messages that trust itself answers, whatever else a primary does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import Connection, func, select

from strongroom.core.clock import Clock, to_ns
from strongroom.core.ids import DomainId
from strongroom.formats import peer_messages as wire
from strongroom.formats.peer_messages import Message, TrustCheck, TrustChecked
from strongroom.pki.ca import IssuerKind
from strongroom.pki.tables import pki_authorities
from strongroom.trust import store
from strongroom.trust.exchange import Handler, Reply
from strongroom.trust.state import TrustState

ANY: Final = frozenset(TrustState)


def trust_handlers(clock: Clock) -> Mapping[str, Handler]:
    """Give the handlers of ``trust.*`` and of the answers that need no handling."""

    def check(connection: Connection, peer: DomainId, message: Message) -> Sequence[Reply]:
        wire.decode(message.body, TrustCheck)
        table = pki_authorities.c
        newest = connection.execute(
            select(func.max(table.crl_number)).where(table.kind == IssuerKind.FOREIGN.value)
        ).scalar_one()
        state = store.get_peer(connection, peer).trust.state
        checked = TrustChecked(time=to_ns(clock.now()), state=state.value, crl=newest or 0)
        return (Reply("trust.checked", checked),)

    return {"trust.check": Handler(ANY, check)}
