"""Two primaries with real TLS on loopback, in one process."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import strongroom.trust.tables as t
from strongroom.core.errors import StrongroomError
from strongroom.database import open_engine, read, transact
from strongroom.trust import call, store
from strongroom.trust.decisions import Dependant, TrustDesk
from strongroom.trust.state import TrustState
from tests.support.databases import copy_tables
from tests.support.trust import ADMIN, Listener, Primary


class Two:
    """Two domains, A and B, and their listeners."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.a, self.b = (self._primary(name, folder, stack) for name in ("Amber", "Basalt"))
        self.at_a = stack.enter_context(Listener(self.a)).address
        self.at_b = stack.enter_context(Listener(self.b)).address

    def _primary(self, name: str, folder: Path, stack: ExitStack) -> Primary:
        copy_tables(folder / f"{name}.db")
        engine = open_engine(f"sqlite:///{folder / name}.db")
        stack.callback(engine.dispose)
        return Primary(name, engine)

    def make(self) -> None:
        self.a.maker.add(self.b.invitation(self.at_b), ADMIN)
        self.b.maker.add(self.a.invitation(self.at_a), ADMIN)

    def a_calls(self) -> None:
        call.exchange(self.a.engine, self.a.exchange, self.b.domain, self.a.keys, self.a.clock)

    def b_calls(self) -> None:
        call.exchange(self.b.engine, self.b.exchange, self.a.domain, self.b.keys, self.b.clock)

    def states(self) -> tuple[TrustState, TrustState]:
        return peer(self.a, self.b).trust.state, peer(self.b, self.a).trust.state


def peer(us: Primary, them: Primary) -> store.Peer:
    with read(us.engine) as connection:
        return store.get_peer(connection, them.domain)


def code_of(function: Callable[[], Any]) -> str:
    with pytest.raises(StrongroomError) as caught:
        function()
    return caught.value.code


def desk(primary: Primary, *needing: Dependant) -> TrustDesk:
    return TrustDesk(primary.engine, primary.clock, lambda _connection, _peer: needing)


def move(primary: Primary, address: str) -> None:
    change = t.trusts.update().values(address=address)
    transact(primary.engine, lambda connection: connection.execute(change))
