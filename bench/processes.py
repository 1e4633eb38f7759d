"""The processes of domains, and the most memory that each of them had at once.

The peak of a process is ``VmHWM`` of proc(5), all resident pages, also those of libraries that it shares with others.
It is set back to what is resident now before each step, so that each step has a peak of its own.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from strongroom.cli.demonstration.domains import CommandFailedError, DemoDomain
from strongroom.core.errors import from_document

_RESET_PEAK: Final = b"5"
# Between a caller of any size and the command stands a small process: the system counts as a child's peak also what
# its parent had when it was started.
_LAUNCHER: Final = """
import os, sys
_, status, usage = os.wait4(os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ), 0)
with open(sys.argv[1], "w") as file:
    file.write(str(usage.ru_maxrss))
sys.exit(os.waitstatus_to_exitcode(status))
"""
_MODULE: Final = re.compile(rb"strongroom\.services\.(\w+)")


def processes_of(domain: DemoDomain) -> dict[str, int]:
    """Give the supervisor and the roles of a domain that is served, with their process ids."""
    found = {f"{domain.name} supervisor": domain.server_pid}
    for child in Path(f"/proc/{domain.server_pid}/task/{domain.server_pid}/children").read_text().split():
        words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
        for word in words:
            if role := _MODULE.fullmatch(word):
                found[f"{domain.name} {role[1].decode()}"] = int(child)
    return found


def reset_peak(pid: int) -> None:
    """Let a process's peak begin anew with what it has resident now."""
    Path(f"/proc/{pid}/clear_refs").write_bytes(_RESET_PEAK)


def peak_bytes(pid: int) -> int:
    """Give the most that a process had resident since the peak was reset, or since it began."""
    found = re.search(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    if found is None:
        raise LookupError(f"the process {pid} has ended")
    return int(found[1]) << 10


@dataclass(frozen=True)
class Ended:
    """A command that ended well.

    Attributes:
        peak_bytes: the most that its process had resident.
        output: what it printed.
    """

    peak_bytes: int
    output: Path

    def value(self) -> Any:
        """Read what it printed."""
        return json.loads(self.output.read_bytes())

    def lines(self) -> int:
        """Count the items of a long listing, without holding it: they come one a line, between brackets."""
        with self.output.open("rb") as file:
            return sum(1 for line in file if line.startswith(b"{"))


def run(home: Path, words: Sequence[str], output: Path, notes: Path, secret: str | None = None) -> Ended:
    """Run a command of a domain.

    Args:
        home: of the domain.
        words: without ``strongroom``.
        output: takes what it prints.
        notes: begin of the names of two files, for its errors and its peak.
        secret: given on standard input.

    Raises:
        CommandFailedError: it ended with another exit code than 0.
        StrongroomError: the error that it told.
    """
    peak, errors = notes.with_suffix(".peak"), notes.with_suffix(".errors")
    command = [sys.executable, "-m", "strongroom", *words]
    with output.open("wb") as out, errors.open("wb") as err:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(peak), *command],
            input=b"" if secret is None else secret.encode(),
            stdout=out,
            stderr=err,
            env={**os.environ, "STRONGROOM_HOME": str(home)},
            check=False,
        )
    if done.returncode == 0:
        return Ended(int(peak.read_text()) << 10, output)
    said = output.read_bytes()[-65_536:]
    if b'"message_type": "error"' in said:
        raise from_document(json.loads(said[said.rindex(b'{"message_type"') :]))
    raise CommandFailedError(
        f"'strongroom {' '.join(words[:3])}' ended with exit code {done.returncode}:"
        f" {errors.read_text(errors='replace')[-500:].strip()}"
    )
