"""Serves a home as its primary, until told to stop."""

from __future__ import annotations

from strongroom.services.primary.opening import open_primary
from strongroom.services.primary.running import Running
from strongroom.services.stopping import Stopping
from strongroom.settings.domain import DomainSettings
from strongroom.settings.home import Home
from strongroom.settings.system import SystemClock, SystemEntropy


async def serve(home: Home, stopping: Stopping) -> None:
    """Serve until told to stop.

    Raises:
        StrongroomError: it cannot serve; the message says why.
    """
    stopping.install()
    primary = open_primary(home, DomainSettings.load(home), SystemClock(), SystemEntropy())
    try:
        await Running(primary).run(stopping)
    finally:
        primary.engine.dispose()
