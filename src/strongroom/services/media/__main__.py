"""The process of a media server: ``python -m strongroom.services.media HOME [PARENT TOLD]``."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

from strongroom.core.errors import StrongroomError
from strongroom.services import logs
from strongroom.services.loading import loading
from strongroom.services.stopping import from_arguments
from strongroom.settings.home import Home
from strongroom.settings.media_host import MediaHost
from strongroom.settings.system import SystemClock, SystemEntropy

logger = logging.getLogger(__name__)


def main() -> int:
    """Run the process."""
    with loading():
        from strongroom.services.media.server import serve
    home = Home(Path(sys.argv[1]))
    logs.set_up(home.logs / "media.log")
    try:
        settings = MediaHost.load(home)
        asyncio.run(serve(home, settings, SystemClock(), SystemEntropy(), from_arguments()))
    except StrongroomError as error:
        logger.critical("the media server cannot serve", extra={"event": "cannot-serve", "code": error.code})
        print(f"strongroom: error: {error.message} [{error.code}]", file=sys.stderr)  # noqa: T201 - talk to people
        if error.hint:
            print(f"strongroom: hint: {error.hint}", file=sys.stderr)  # noqa: T201 - talk to people
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
