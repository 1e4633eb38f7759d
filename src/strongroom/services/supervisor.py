"""``strongroom serve``: the roles of a domain on this host, each in a process of its own.

The supervisor starts the roles, waits until all of them serve, starts one again that ended, and ends them all when it
is told to stop. Roles end by themselves when the supervisor is gone, even after kill -9: see
:mod:`strongroom.services.stopping`.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

import msgspec

from strongroom.core.errors import RefusedError, UnavailableError
from strongroom.kms import durable
from strongroom.services.stopping import READY
from strongroom.settings.home import Home

ROLES: Final = {"primary": "strongroom.services.primary", "media": "strongroom.services.media"}
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 20.0
FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 30.0
INSTANCE: Final = "instance"
_WAKE_BYTES: Final = 4_096


class HomeInUseError(RefusedError):
    """Another process serves this home."""

    code = "serve.home-in-use"
    default_hint = "stop the other 'strongroom serve' first"


class HomeMovedError(RefusedError):
    """The home was moved or copied since it was last served: two homes of one domain must never run."""

    code = "serve.home-moved"
    default_hint = "make sure that no other copy of this home is served, then serve it once with --moved"


class RoleFailedError(UnavailableError):
    """A role ended before it served."""

    code = "serve.role-failed"
    retry = "never"
    default_hint = "see what it said above, and the files in HOME/logs"


class _Instance(msgspec.Struct, frozen=True):
    """Which folder on which machine a home was last served from."""

    machine: str
    device: int
    inode: int


@dataclass
class _Role:
    name: str
    process: subprocess.Popen[bytes]
    told: int
    """Where it says that it serves; closed once that was awaited."""


class Supervisor:
    """Runs the roles of one home.

    Args:
        home: whose.
        roles: names of :data:`ROLES`.
        moved: the caller knows that the home was moved, and that no other copy runs.
        announce: told once, when all roles serve.
    """

    def __init__(self, home: Home, roles: Sequence[str], *, moved: bool, announce: Callable[[], None]) -> None:
        self._home = home
        self._names = roles
        self._moved = moved
        self._announce = announce
        self._stopping = False
        self._woken = -1
        self._pause = FIRST_PAUSE_SECONDS

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        Raises:
            HomeInUseError, HomeMovedError: nothing was started.
            RoleFailedError: a role could not begin to serve; the others were ended.
        """
        lock = _lock(self._home)
        try:
            _check_instance(self._home, moved=self._moved)
            with self._signals():
                self._serve()
        finally:
            os.close(lock)

    def _serve(self) -> None:
        # The read end goes to the roles; when this process ends, they read the end of it.
        watched, held = os.pipe()
        roles: list[_Role] = []
        try:
            for name in self._names:
                roles.append(self._start(name, watched))
                self._await(roles[-1])
            self._announce()
            self._watch(roles, watched)
        finally:
            _end(roles)
            os.close(watched)
            os.close(held)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Have signals end :meth:`_rest`: those that stop, and the one that tells that a role ended."""
        self._woken, wake = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(wake, False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGCHLD, _note)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)  # one byte in it is as good as many
        try:
            yield
        finally:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.close(self._woken)
            os.close(wake)

    def _rest(self, seconds: float | None) -> None:
        """Wait for a signal, at most so long; one that came since the last rest counts."""
        if select.select([self._woken], [], [], seconds)[0]:
            os.read(self._woken, _WAKE_BYTES)

    def _start(self, name: str, watched: int) -> _Role:
        told, tell = os.pipe()
        process = subprocess.Popen(  # noqa: S603 - our own modules
            [sys.executable, "-m", ROLES[name], str(self._home.path), str(watched), str(tell)],
            pass_fds=(watched, tell),
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # a terminal's Ctrl-C comes to the supervisor, which ends the roles in order
        )
        os.close(tell)
        return _Role(name, process, told)

    def _await(self, role: _Role) -> None:
        """Wait until a role serves.

        Raises:
            RoleFailedError: it ended, or took too long.
        """
        deadline = time.monotonic() + START_SECONDS
        try:
            while not self._stopping:
                ready, _, _ = select.select([role.told, self._woken], [], [], max(0.0, deadline - time.monotonic()))
                if role.told in ready:
                    if os.read(role.told, len(READY)) != READY:
                        code = role.process.wait()
                        raise RoleFailedError(f"the {role.name} ended with exit code {code} before it served")
                    return
                if not ready:
                    raise RoleFailedError(f"the {role.name} did not serve within {START_SECONDS:.0f} seconds")
                os.read(self._woken, _WAKE_BYTES)
        finally:
            os.close(role.told)

    def _watch(self, roles: list[_Role], watched: int) -> None:
        """Start roles again that end, ever more slowly while they keep ending."""
        while not self._stopping:
            for place, role in enumerate(roles):
                if role.process.poll() is None:
                    continue
                print(  # noqa: T201 - the supervisor's log is its terminal
                    f"strongroom: the {role.name} ended with exit code {role.process.returncode}; it is started again",
                    file=sys.stderr,
                    flush=True,
                )
                self._wait_out_the_pause()
                if self._stopping:
                    return
                roles[place] = self._start(role.name, watched)
                try:
                    self._await(roles[place])
                except RoleFailedError:
                    continue  # it is tried again, later
                self._pause = FIRST_PAUSE_SECONDS
            if all(role.process.poll() is None for role in roles):
                self._rest(None)

    def _wait_out_the_pause(self) -> None:
        until = time.monotonic() + self._pause
        self._pause = min(self._pause * 2, LONGEST_PAUSE_SECONDS)
        while not self._stopping and (left := until - time.monotonic()) > 0:
            self._rest(left)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True


def _note(_number: int, _frame: FrameType | None) -> None:
    """Take SIGCHLD, which is ignored without a handler and would wake nobody."""


def _end(roles: list[_Role]) -> None:
    """End the roles, the last one first."""
    for role in reversed(roles):
        role.process.terminate()
        try:
            role.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            role.process.kill()
            role.process.wait()


def _lock(home: Home) -> int:
    descriptor = os.open(home.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise HomeInUseError(f"'{home.path}' is served already") from error
    return descriptor


def _check_instance(home: Home, *, moved: bool) -> None:
    """Refuse a home that was copied: its copy may be served elsewhere, as the same domain."""
    status = home.path.stat()
    here = _Instance(_machine(), status.st_dev, status.st_ino)
    path = home.path / INSTANCE
    if path.exists() and not moved:
        try:
            before = msgspec.json.decode(path.read_bytes(), type=_Instance)
        except msgspec.DecodeError as error:
            raise HomeMovedError(f"'{path}' cannot be read, so nothing says where the home was last served") from error
        if (before.machine, before.inode) != (here.machine, here.inode):  # a device's number changes with a restart
            raise HomeMovedError(f"'{home.path}' is not where it was when it was last served")
    durable.replace_file(path, msgspec.json.encode(here))


def _machine() -> str:
    for path in (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id")):
        if path.is_file():
            return path.read_text(encoding="ascii", errors="replace").strip()
    return ""
