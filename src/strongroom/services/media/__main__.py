"""``python -m strongroom.services.media HOME [--watch-stdin]``: run the media server of a home."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from strongroom.core.errors import StrongroomError
from strongroom.services.media.log_lines import LineFormatter
from strongroom.services.media.server import run
from strongroom.settings.domain import DomainSettings
from strongroom.settings.home import Home
from strongroom.settings.system import SystemClock, SystemEntropy


def main() -> int:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(prog="python -m strongroom.services.media")
    parser.add_argument("home", type=Path)
    parser.add_argument("--watch-stdin", action="store_true", help="stop when standard input ends")
    arguments = parser.parse_args()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    home = Home(arguments.home)
    try:
        run(home, DomainSettings.load(home), SystemClock(), SystemEntropy(), watch_stdin=arguments.watch_stdin)
    except StrongroomError as error:
        print(f"strongroom: error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"strongroom: hint: {error.hint}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
