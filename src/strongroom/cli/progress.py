"""How far long work is: a bar with rate and time left on a terminal, plain lines elsewhere. Always on stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from strongroom.cli.terminal import size

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

LINE_SECONDS: Final = 10.0
BAR_SECONDS: Final = 0.1


class Progress:
    """Shows one piece of work.

    Args:
        what: what is done, in a few words.
        shown: False shows nothing, for ``--json``.
        total_bytes: how much there is to do, if it is known.
    """

    def __init__(self, what: str, *, shown: bool, total_bytes: int | None = None) -> None:
        self._what = what
        self._shown = shown
        self._total = total_bytes
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._started = self._last = time.monotonic()

    def __enter__(self) -> Self:
        if self._shown and sys.stderr.isatty():
            # Half of what a light command takes to start: only who sees a bar pays for it.
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                DownloadColumn,
                TextColumn,
                TimeRemainingColumn,
                TransferSpeedColumn,
            )
            from rich.progress import Progress as RichProgress

            self._bar = RichProgress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                DownloadColumn(binary_units=True),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[files]} files"),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task(self._what, total=self._total, files=0)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done_bytes: int, files: int, *, total: int | None = None) -> None:
        """Tell how far it is; cheap enough to be told often."""
        if not self._shown:
            return
        now = time.monotonic()
        if now - self._last < (BAR_SECONDS if self._bar is not None else LINE_SECONDS):
            return
        self._last = now
        if total is not None:
            self._total = total
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done_bytes, total=self._total, files=files)
            return
        rate = done_bytes / (now - self._started)
        of = f" of {size(self._total)}" if self._total else ""
        print(f"{self._what}: {size(done_bytes)}{of}, {files} files, {size(int(rate))}/s", file=sys.stderr)  # noqa: T201
