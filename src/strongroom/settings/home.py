"""The folders of a domain: which file lies where.

HOME holds everything but the keys that open it: those lie beside it in ``HOME.keys``, so that a copy of HOME opens
nothing. A host that is only a media server has only the ``media`` part.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Home:
    """Paths of one domain's home on one host."""

    path: Path

    @property
    def settings_file(self) -> Path:
        """What the administrator set; TOML."""
        return self.path / "strongroom.toml"

    @property
    def lock(self) -> Path:
        """Held by the one ``serve`` of this home."""
        return self.path / "lock"

    @property
    def catalog(self) -> Path:
        """The catalog, when it is SQLite."""
        return self.path / "catalog.db"

    @property
    def file_lists(self) -> Path:
        """One encrypted Parquet file for each image."""
        return self.path / "files"

    @property
    def keystore(self) -> Path:
        """KMS keys, sealed."""
        return self.path / "kms" / "keystore"

    @property
    def keys(self) -> Path:
        """The key folder beside the home, which opens what lies in it."""
        return self.path.with_name(self.path.name + ".keys")

    @property
    def root_key(self) -> Path:
        """Where ``init`` leaves the sealed root key, to be carried away."""
        return self.path.with_name(self.path.name + ".root-key")

    @property
    def service_keys(self) -> Path:
        """Archive key, CA keys and catalog key, sealed."""
        return self.path / "pki" / "service-keys"

    @property
    def primary_identity(self) -> Path:
        """The primary's own certificates and keys, one folder for each domain that issued some."""
        return self.path / "pki" / "primary"

    @property
    def media(self) -> Path:
        """Everything of the media server: certificates and keys; no database credentials."""
        return self.path / "media"

    @property
    def run(self) -> Path:
        """Unix sockets."""
        return self.path / "run"

    @property
    def session_socket(self) -> Path:
        """Where a system account of the primary's host gets a session."""
        return self.run / "session.sock"

    @property
    def media_socket(self) -> Path:
        """Where clients of this host reach the media server."""
        return self.run / "media.sock"

    @property
    def logs(self) -> Path:
        """One file for each process."""
        return self.path / "logs"

    def pool(self, name: str) -> Path:
        """Where a pool lies unless its administrator chose another place."""
        return self.path / "pools" / name
