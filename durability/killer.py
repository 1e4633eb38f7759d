"""Kills a running process when it is about to make a certain call, or after a time; the process knows nothing of it.

strace(1) attaches to the process and has the kernel kill it (SIGKILL) as one of its threads enters its Nth call of a
kind. So what came before is done, and the call itself is not.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from durability import steps

_ATTACH_SECONDS: Final = 10.0


@dataclass(frozen=True)
class Aim:
    """Who is killed, and when.

    Attributes:
        domain: whose process.
        role: ``primary`` or ``media``.
        call: name of the call; empty for a time.
        number: which of a thread's calls of this name.
        seconds: after how long, without a call.
    """

    domain: str
    role: str
    call: str = ""
    number: int = 1
    seconds: float = 0.0


class CannotTraceError(Exception):
    """This account may not trace the process."""


class Tracer:
    """Has strace(1) attached to a process while it is entered.

    Args:
        process: whom.
        calls: which calls are told.
        notes: a file of its own, for what is told.
        inject: what the kernel does at some of these calls, in the words of strace's option of that name; empty for
            nothing.
    """

    def __init__(self, process: int, calls: str, notes: Path, inject: str = "") -> None:
        self._process = process
        self._notes = notes
        self._words = [
            "strace", "--follow-forks", "--decode-fds=path", "--string-limit=0", "--quiet=attach",
            f"--attach={process}", f"--trace={calls}", f"--output={notes}",
            *([f"--inject={inject}"] if inject else []),
        ]  # fmt: skip
        self._strace: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._notes.unlink(missing_ok=True)
        self._strace = subprocess.Popen(self._words, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + _ATTACH_SECONDS
        while not _is_traced(self._process):
            if time.monotonic() > deadline or self._strace.poll() is not None:
                self.__exit__(None, None, None)
                raise CannotTraceError(f"strace cannot attach to the process {self._process}")
            time.sleep(0.01)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._strace is not None:
            if is_alive(self._process):
                self._strace.terminate()  # it lets the process go on
            self._strace.wait()

    def lines(self) -> list[str]:
        """Give what was told so far."""
        return self._notes.read_text(errors="replace").splitlines()


class Killer:
    """Kills a process as aimed, while it is entered.

    Args:
        victim: the process.
        aim: when.
        notes: a file of its own.
    """

    def __init__(self, victim: int, aim: Aim, notes: Path) -> None:
        self._victim = victim
        self._aim = aim
        inject = f"{aim.call}:signal=SIGKILL:when={aim.number}"
        self._tracer = Tracer(victim, aim.call, notes, inject) if aim.call else None
        self._due = 0.0

    def __enter__(self) -> Self:
        self._due = time.monotonic() + self._aim.seconds
        if self._tracer is not None:
            self._tracer.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._tracer is not None:
            self._tracer.__exit__(kind, error, trace)

    def is_done(self) -> bool:
        """Kill the process if its time has come; tell whether it is gone."""
        if self._tracer is None and time.monotonic() >= self._due and is_alive(self._victim):
            os.kill(self._victim, signal.SIGKILL)
        return not is_alive(self._victim)

    def step(self) -> str:
        """Name the step at which the process was killed."""
        if self._tracer is None:
            return "at a random moment"
        for line in reversed(self._tracer.lines()):
            if f" {self._aim.call}(" in line and ("= ?" in line or "unfinished" in line):
                return steps.step_in(line)
        return f"{self._aim.call}, unseen"

    def places(self) -> dict[str, list[steps.Place]]:
        """Tell where each step was seen."""
        return {} if self._tracer is None else steps.places_in(self._tracer.lines())


def is_alive(process: int) -> bool:
    """Tell whether a process runs: one that only waits for its parent to take note does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _is_traced(process: int) -> bool:
    """Tell whether all threads of a process are traced."""
    try:
        tasks = list(Path(f"/proc/{process}/task").iterdir())
        return all("\nTracerPid:\t0\n" not in (task / "status").read_text() for task in tasks)
    except (FileNotFoundError, ProcessLookupError):
        return False
