"""What a piece of work takes: wall time, CPU and memory of the command and of every server that works for it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.processes import peak_bytes, reset_peak

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Cost:
    """What something took.

    Attributes:
        wall: seconds.
        cpu: seconds of user and system time, of all processes.
        peak_bytes: resident memory of the largest process at its highest.
        others_cpu: seconds that processes of others had in the same time; a run with much of it is no measurement.
    """

    wall: float = 0.0
    cpu: float = 0.0
    peak_bytes: int = 0
    others_cpu: float = 0.0


def run(
    words: Sequence[str | Path],
    *,
    servers: Iterable[int] = (),
    cwd: Path | None = None,
    environment: dict[str, str] | None = None,
    log: Path,
) -> Cost:
    """Run a command to its end.

    Args:
        words: the command.
        servers: processes that work for it, with all that they started.
        cwd: where it runs.
        environment: added to our own.
        log: what it prints is added to this file.

    Raises:
        SystemExit: it failed; the message shows the end of what it printed.
    """
    with log.open("ab") as out, watched(servers) as cost:
        process = subprocess.Popen(
            [os.fspath(word) for word in words],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            cwd=cwd,
            env={**os.environ, **(environment or {})},
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        cost.cpu = usage.ru_utime + usage.ru_stime
        cost.peak_bytes = usage.ru_maxrss * 1_024
    if process.returncode:
        end = log.read_bytes()[-2_000:].decode(errors="replace")
        raise SystemExit(f"bench: error: '{' '.join(map(str, words))}' ended with {process.returncode}:\n{end}")
    return cost


@contextmanager
def watched(servers: Iterable[int] = ()) -> Iterator[Cost]:
    """Measure what is done within; what the caller knows of its own commands it sets in the cost before the end.

    Args:
        servers: processes that work for it, with all that they started.
    """
    cost = Cost()
    family = [pid for server in servers for pid in _with_children(server)]
    for pid in family:
        reset_peak(pid)
    cpu_before = sum(map(_cpu, family))
    machine_before = _machine_cpu()
    began = time.monotonic()
    yield cost
    cost.wall = time.monotonic() - began
    cost.cpu += sum(map(_cpu, family)) - cpu_before
    cost.others_cpu = max(0.0, _machine_cpu() - machine_before - cost.cpu)
    cost.peak_bytes = max([cost.peak_bytes, *map(peak_bytes, family)])


def put_on_disk(path: Path) -> float:
    """Wait until everything on a file system is on stable storage; give the seconds that took."""
    began = time.monotonic()
    subprocess.run(["sync", "-f", path], check=True)
    return time.monotonic() - began


def quiet(seconds: float = 30.0, share: float = 0.1) -> None:
    """Put everything on the disk, and wait until the machine has little else to do; no longer than so many seconds."""
    os.sync()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        before = _machine_cpu()
        time.sleep(1)
        if _machine_cpu() - before < share:
            return


def stored_bytes(folder: Path, leave_out: Sequence[str] = ()) -> int:
    """Add up the lengths of the files below a folder, but for those below the names in ``leave_out``."""
    return sum(
        Path(parent, name).lstat().st_size
        for parent, folders, names in os.walk(folder)
        for name in names
        if not set(Path(parent).relative_to(folder).parts) & set(leave_out)
    )


def _with_children(pid: int) -> list[int]:
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text(encoding="ascii").split():
            found += _with_children(int(child))
    return found


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / _TICKS


def _machine_cpu() -> float:
    """Tell the seconds that all processors were busy."""
    fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()
    user, nice, system, _idle, _wait, interrupt, soft = map(int, fields[1:8])
    return (user + nice + system + interrupt + soft) / _TICKS
