"""The process of a primary: ``python -m strongroom.services.primary HOME [PARENT TOLD]``."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import sys
from pathlib import Path

from strongroom.core.errors import StrongroomError
from strongroom.services import logs
from strongroom.services.primary.opening import open_primary
from strongroom.services.primary.running import Running
from strongroom.services.stopping import Stopping, from_arguments
from strongroom.settings.domain import DomainSettings
from strongroom.settings.home import Home
from strongroom.settings.system import SystemClock, SystemEntropy

logger = logging.getLogger(__name__)


async def serve(home: Home, stopping: Stopping) -> None:
    """Serve until told to stop."""
    stopping.install()
    primary = open_primary(home, DomainSettings.load(home), SystemClock(), SystemEntropy())
    try:
        await Running(primary).run(stopping)
    finally:
        primary.engine.dispose()


def main() -> int:
    """Run the process."""
    faulthandler.enable()  # a crash of a library leaves its stack on stderr
    home = Home(Path(sys.argv[1]))
    logs.set_up(home.logs / "primary.log")
    try:
        asyncio.run(serve(home, from_arguments()))
    except StrongroomError as error:
        logger.critical("the primary cannot serve", extra={"event": "cannot-serve", "code": error.code})
        print(f"strongroom: error: {error.message} [{error.code}]", file=sys.stderr)  # noqa: T201 - talk to people
        if error.hint:
            print(f"strongroom: hint: {error.hint}", file=sys.stderr)  # noqa: T201 - talk to people
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
