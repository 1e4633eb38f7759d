"""How a role's process is told to stop, and tells that it is ready.

It stops on SIGTERM and SIGINT, and when the process that started it is gone: that one holds the other end of a pipe,
which the kernel closes even after kill -9. So no role outlives its domain unseen.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any, Final

READY: Final = b"ready\n"


class Stopping:
    """The end of one process.

    Args:
        parent: descriptor of a pipe whose other end the starter holds; None when nobody watches.
        told: descriptor to which readiness is told; None when nobody waits.
    """

    def __init__(self, parent: int | None = None, told: int | None = None) -> None:
        self._parent = parent
        self._told = told
        self._asked = asyncio.Event()

    def install(self) -> None:
        """Listen to signals and to the pipe; called in the running loop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked.set)
        if self._parent is not None:
            os.set_blocking(self._parent, False)
            loop.add_reader(self._parent, self._parent_gone)

    def ready(self) -> None:
        """Tell the starter that this process serves."""
        if self._told is not None:
            os.write(self._told, READY)
            os.close(self._told)
            self._told = None

    async def wait(self, *others: asyncio.Future[Any]) -> None:
        """Wait until stopping is asked for, or one of the others has ended."""
        asked = asyncio.ensure_future(self._asked.wait())
        await asyncio.wait({asked, *others}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()

    def _parent_gone(self) -> None:
        loop = asyncio.get_running_loop()
        if self._parent is not None and not os.read(self._parent, 1):
            loop.remove_reader(self._parent)
            self._asked.set()


def from_arguments() -> Stopping:
    """Take the descriptors from the process's arguments: ``HOME PARENT TOLD``."""
    return Stopping(int(sys.argv[2]), int(sys.argv[3])) if len(sys.argv) > 3 else Stopping()
