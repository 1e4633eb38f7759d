"""How much was asked of an object storage for one pool: its owner's bill, and the first question when it is slow.

Counted where requests leave, so what is asked again counts again. The figures outlive the process; the last seconds
before a crash may be missing.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from strongroom.pool.incoming import writing

logger = logging.getLogger(__name__)

KINDS: Final = ("put", "get", "head", "list", "delete", "multipart", "lock")
SENT: Final = "sent_bytes"
RECEIVED: Final = "received_bytes"
_MOST_FILE_BYTES: Final = 4_096
_FIGURES: Final = msgspec.json.Decoder(dict[str, int])


class RequestCounts:
    """Counts; may be shared by threads.

    Args:
        path: the file that keeps the figures.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._figures = Counter(dict.fromkeys((*KINDS, SENT, RECEIVED), 0))
        self._saved: Mapping[str, int] = {}
        try:
            with path.open("rb") as file:
                kept = _FIGURES.decode(file.read(_MOST_FILE_BYTES))
        except FileNotFoundError:
            return
        except (OSError, msgspec.DecodeError) as error:
            logger.warning("the counts of requests begin anew: %s", error, extra={"event": "counts-lost"})
            return
        self._figures.update({name: count for name, count in kept.items() if name in self._figures and count >= 0})

    def add(self, name: str, count: int = 1) -> None:
        """Count requests of a kind, or bytes."""
        with self._lock:
            self._figures[name] += count

    def figures(self) -> Mapping[str, int]:
        """Give the figures by name."""
        with self._lock:
            return dict(self._figures)

    def save(self) -> None:
        """Keep the figures, if there are new ones.

        Raises:
            PoolFullError, PoolWriteError: the file system refused.
        """
        figures = self.figures()
        if figures == self._saved:
            return
        new = self._path.with_suffix(".new")
        with writing(self._path):
            new.write_bytes(msgspec.json.encode(figures))
            new.replace(self._path)  # not synced: figures of another minute are no loss
        self._saved = figures
