"""Lines between hosts that break without a word: a host that lost its power, a cable, a firewall that forgets.

The kernel asks the other side when nothing came for a while, and gives up what it does not confirm; then whoever reads
or writes learns it. Who is idle and there is left alone.
"""

from __future__ import annotations

import socket
from typing import Final, Protocol

IDLE_SECONDS: Final = 15
ASK_SECONDS: Final = 5
ASK_TIMES: Final = 3
UNCONFIRMED_MILLISECONDS: Final = 30_000
"""As long as the asking takes: what was sent and is not confirmed by then will not be."""


class Line(Protocol):
    """A socket, or asyncio's wrapper of one."""

    def setsockopt(self, level: int, name: int, value: int, /) -> None:
        """Set an option."""


def watch_line(line: Line) -> None:
    """Have the kernel notice within half a minute that the other host is not there any more.

    Args:
        line: a TCP connection.
    """
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, IDLE_SECONDS)
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, ASK_SECONDS)
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, ASK_TIMES)
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNCONFIRMED_MILLISECONDS)
