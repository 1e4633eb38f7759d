"""Frame keys as the pool sees them: handed in, never made, never stored.

A frame key is derived from a data key (``docs/reference/formats/key-envelope.md``); the pool never holds data
keys.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from strongroom.core.ids import DataKeyId
from strongroom.core.secret import Secret

KeyLookup: TypeAlias = Callable[[DataKeyId], Secret | None]
"""Gives the frame key of a data key, or ``None`` when it is not at hand."""

KeysUsable: TypeAlias = Callable[[Collection[DataKeyId]], Collection[DataKeyId]]
"""Gives those of the data keys that have a wrap under an active or inactive key of the KMS."""


@dataclass(frozen=True, slots=True)
class FrameKey:
    """A data key's id, and the frame key derived from it."""

    data_key: DataKeyId
    key: Secret


class DataKeySource(Protocol):
    """Gives fresh data keys to one writer."""

    def next_key(self) -> FrameKey:
        """Give a key that nobody else gets. Its envelope is on stable storage already.

        Raises:
            KeyUnavailableError: the KMS gives none; there will be no backup rather than a clear one.
        """


class NonceCounter:
    """Counts the frames encrypted under one key: from 1, never twice, never in a forked child.

    A fork copies the count, and two processes that count on would use a nonce twice, which breaks AES-GCM.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._last = 0

    def draw(self) -> int:
        """Give the next number; it is used up even if nothing is written with it.

        Raises:
            RuntimeError: this is another process than the one that began to count.
        """
        with self._lock:
            if os.getpid() != self._process:
                raise RuntimeError("a key's nonces are not drawn in a forked process")
            self._last += 1
            return self._last
