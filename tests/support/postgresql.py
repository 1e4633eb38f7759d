"""One private PostgreSQL for a whole test run, however many processes share in it.

It listens on a socket in a temporary folder only, and forgets durability: it lives as long as the run.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

SUPERUSER = "postgres"
PROGRAMS = ("initdb", "pg_ctl", "postgres")
LONGEST_SOCKET_PATH = 107  # what the kernel's sockaddr_un holds, less the closing NUL

SETTINGS = """
listen_addresses = ''
unix_socket_directories = '{folder}'
max_connections = 200
fsync = off
synchronous_commit = off
full_page_writes = off
"""


class PostgreSQLUnavailableError(Exception):
    """The server that the tests need cannot run here."""


class PostgreSQL:
    """A server in one folder, which any process that knows the folder can start and use.

    Args:
        folder: holds data, log and socket; made by ``make_folder``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._data = folder / "data"
        self._log = folder / "server.log"

    @classmethod
    def make_folder(cls) -> PostgreSQL:
        """Make the folder, and give the server that will live there once it is wanted."""
        server = cls(Path(tempfile.mkdtemp(prefix="strongroom-pg-")))
        user = server_user()
        if user is not None:
            os.chown(server.folder, user.pw_uid, user.pw_gid)
        return server

    def ensure_started(self) -> None:
        """Start the server unless another process of this run has done so."""
        with self._locked():
            if (self._data / "postmaster.pid").exists():
                return
            socket = self.folder / ".s.PGSQL.5432"
            if len(os.fsencode(socket)) > LONGEST_SOCKET_PATH:
                raise PostgreSQLUnavailableError(f"the path of the socket is too long, set TMPDIR: '{socket}'")
            shutil.rmtree(self._data, ignore_errors=True)  # of a process that failed half-way
            self._run("initdb", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C", "-U", SUPERUSER)
            with (self._data / "postgresql.conf").open("a") as settings:
                settings.write(SETTINGS.format(folder=self.folder))
            self._run("pg_ctl", "start", "-w", "-t", "60", "-l", str(self._log))

    def stop(self) -> None:
        """Stop the server if it runs, and remove the folder."""
        if (self._data / "postmaster.pid").exists():
            self._run("pg_ctl", "stop", "-m", "immediate")
        shutil.rmtree(self.folder)

    def create_database(self, name: str) -> str:
        """Create an empty database, and give its URL."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.url(name)

    def url(self, database: str) -> str:
        """Give the URL of a database, in the form that libpq reads."""
        return f"postgresql://{SUPERUSER}@/{database}?host={quote(str(self.folder), safe='')}"

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _run(self, program: str, *arguments: str) -> None:
        user = server_user()
        output = self.folder / f"{program}.log"
        # Into a file: a started server keeps its output open, and a pipe would be waited for until it stops.
        with output.open("wb") as log:
            done = subprocess.run(
                [find_programs() / program, "-D", self._data, *arguments],
                check=False,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                user=None if user is None else user.pw_uid,
                group=None if user is None else user.pw_gid,
                extra_groups=None if user is None else [],
            )
        if done.returncode != 0:
            said = output.read_text() + (self._log.read_text() if self._log.exists() else "")
            raise PostgreSQLUnavailableError(f"'{program}' failed with exit code {done.returncode}:\n{said}")


def find_programs() -> Path:
    """Find the folder of the server's programs: the newest that Debian installed, else the PATH's."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: folder.parent.name.zfill(4))
    in_path = shutil.which("initdb")
    for folder in [*reversed(debian), *([Path(in_path).resolve().parent] if in_path else [])]:
        if all((folder / program).exists() for program in PROGRAMS):
            return folder
    raise PostgreSQLUnavailableError("no PostgreSQL server is installed; scripts/test-deps installs it")


def server_user() -> pwd.struct_passwd | None:
    """Choose who runs the server: None for ourselves; the server refuses root, who lends it another name."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")
