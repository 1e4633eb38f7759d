"""Looks for secrets in everything that a run leaves behind or shows, in whatever form text gives them."""

from __future__ import annotations

import base64
import json
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from tests.support.live_domain import LiveDomain
from tests.support.trusting import files_of, rows

LOOK_SECONDS = 0.05
"""Several times while a command lives: none ends sooner than a fifth of a second after it began."""
LEAST_BYTES = 12
"""Shorter ones would be found by chance."""


def forms(secret: bytes) -> set[bytes]:
    """Give what a secret may look like where it should not be."""
    shapes = {secret, secret.hex().encode(), secret.hex().upper().encode(), repr(secret)[2:-1].encode()}
    shapes |= {base64.b64encode(secret).rstrip(b"="), base64.urlsafe_b64encode(secret).rstrip(b"=")}
    shapes |= {str(list(secret))[1:-1].encode()}
    try:
        text = secret.decode()
    except UnicodeDecodeError:
        return shapes
    quoted = {json.dumps(text)[1:-1], urllib.parse.quote(text), urllib.parse.quote_plus(text)}
    return shapes | {shape.encode() for shape in quoted} | {text.encode("utf-16-le")}


@dataclass
class Run:
    """What two domains did, and the secrets that they did it with.

    Attributes:
        domains: whose files and databases are looked through.
        secrets: by name; those that must not show.
        heard: what commands and calls said that had no reason to say a secret, by where it was said.
        shown: words and environments of processes, as they were seen.
    """

    domains: tuple[LiveDomain, ...]
    secrets: dict[str, bytes] = field(default_factory=dict)
    heard: list[tuple[str, str]] = field(default_factory=list)
    shown: dict[str, set[bytes]] = field(default_factory=dict)

    def keep(self, name: str, secret: bytes | str) -> None:
        """Note a secret."""
        data = secret.encode() if isinstance(secret, str) else secret
        assert len(data) >= LEAST_BYTES, name
        self.secrets[name] = data

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look at the words and the environments of processes, as every account of the host could."""
        done = threading.Event()

        def look() -> None:
            while not done.wait(LOOK_SECONDS):
                self._look()

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def places(self, secret: bytes, *, but: frozenset[Path] = frozenset()) -> set[str]:
        """Tell where a secret shows.

        Args:
            secret: to be looked for in all its forms.
            but: files whose purpose is to hold it.
        """
        shapes = forms(secret)
        return {
            where
            for where, path, data in self._everything
            if path not in but and any(shape in data for shape in shapes)
        }

    @cached_property
    def _everything(self) -> list[tuple[str, Path | None, bytes]]:
        """All that there is when the first secret is looked for: read once for all of them."""
        return list(self._read())

    def _read(self) -> Iterator[tuple[str, Path | None, bytes]]:
        yield from ((where, None, text.encode()) for where, text in self.heard)
        for where, seen in self.shown.items():
            yield from ((where, None, data) for data in seen)
        for domain in self.domains:
            for path, data in files_of(domain):
                yield f"file {path.relative_to(domain.home.path.parent)}", path, data
            for (table,) in rows(domain, "SELECT name FROM sqlite_master WHERE type = 'table'"):
                where = f"table {table} of {domain.name}"
                # value by value: in the file a long one is spread over pages
                for row in rows(domain, f'SELECT * FROM "{table}"'):  # noqa: S608 - names from the schema
                    yield where, None, b"\n".join(_bytes(value) for value in row)

    def _look(self) -> None:
        for process in Path("/proc").glob("[0-9]*"):
            for name in ("cmdline", "environ"):
                try:
                    data = (process / name).read_bytes()
                except OSError:
                    continue  # it has ended, or is another account's
                self.shown.setdefault(name, set()).add(data)


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()
