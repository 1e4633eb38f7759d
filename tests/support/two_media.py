"""A domain whose pool is in a bucket, with a second media server in a home of its own, and a domain to send to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from strongroom.cli.demonstration.domains import free_ports
from strongroom.pool.place import BucketPlace
from strongroom.settings.home import Home
from tests.support.live_domain import LiveDomain, Role
from tests.support.trusting import Pair, rows, token, until

OTHER = "127.0.0.2"
"""A name of this machine that the first media server has not got."""


class SecondMedia:
    """A media server that joined a domain.

    Args:
        domain: which; its primary runs.
        folder: where its home is made.
    """

    def __init__(self, domain: LiveDomain, folder: Path) -> None:
        self.home = Home(folder / "second")
        self._domain = domain
        given = token(domain, folder, "second", "--purpose", "enrol-host", "--role", "media")
        where = ("--host", OTHER, "--listen", f"{OTHER}:{free_ports()}")
        pin = ("--fingerprint", domain.fingerprint(), "--token-file", str(given))
        self.id = str(domain.cli("join", str(self.home.path), "--to", f"localhost:{domain.port}", *pin, *where)["host"])
        with self.home.settings_file.open("a") as file:
            file.write("\n[times]\nbeat_seconds = 1.0\n")
        self.role: Role | None = None
        self._last_beat = 0

    def start(self) -> None:
        """Serve."""
        self._last_beat = max([at for at, _ in self._beats()], default=0)
        self.role = Role("media", self.home)

    def wait_for_pool(self, medium: str) -> None:
        """Wait until it says that it has a pool open since it was started."""

        def is_open() -> bool:
            return any(at > self._last_beat and medium.replace("-", "") in pools for at, pools in self._beats())

        until(is_open, "the second media server does not open the pool")

    def _beats(self) -> list[tuple[int, str]]:
        key = bytes.fromhex(self.id.replace("-", ""))
        found = rows(self._domain, "SELECT at, pools FROM media_beats WHERE host = ?", key)
        return [(int(at), str(pools)) for at, pools in found]

    def kill(self) -> None:
        """End it as a power cut would."""
        if self.role is not None:
            self.role.kill()
            self.role = None

    def stop(self) -> None:
        """End it as an administrator would."""
        if self.role is not None:
            self.role.stop()
            self.role = None


class TwoMedia:
    """A pair of domains; the source has two media servers for its pool *main*.

    Args:
        folder: where the homes are made.
        place: the bucket of the source's pool.
        key_file: its access key.
    """

    def __init__(self, folder: Path, place: BucketPlace, key_file: Path) -> None:
        bucket = ["--bucket", f"s3://{place.bucket}/{place.prefix}", "--endpoint", place.endpoint]
        bucket += ["--credentials-file", str(key_file)]
        self.pair = Pair(folder, lambda domain: bucket if domain == "alpha" else [])
        self.source, self.target = self.pair.source, self.pair.target
        self.second = SecondMedia(self.source, folder)
        self.second.start()
        shown: dict[str, Any] = self.source.cli("pool", "attach", "main", "--host", OTHER)
        self.medium = str(shown["medium"])
        self.second.wait_for_pool(self.medium)

    def stop(self) -> None:
        """End all."""
        self.second.stop()
        self.pair.stop()
