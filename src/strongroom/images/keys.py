"""Data keys for one job: issued in batches for writing, unwrapped in batches for reading."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final, Protocol

from strongroom.core.ids import DataKeyId, DomainId, EnvelopeId
from strongroom.core.secret import Secret
from strongroom.images.envelopes import Envelopes
from strongroom.images.errors import EnvelopeMissingError
from strongroom.pool.keys import FrameKey

_FIRST_BATCH: Final = 4
_MOST_IN_BATCH: Final = 256
_MOST_BYTES: Final = 2 << 20
_MOST_KEYS: Final = 2_048


class KeyIssuer(Protocol):
    """Makes data keys; the primary's KMS."""

    def issue(self, count: int) -> tuple[bytes, list[FrameKey]]:
        """Give a new signed envelope, and the frame keys of the data keys in it.

        Raises:
            KeyUnavailableError: the key group has no active key, or the KMS is locked.
        """


class KeyOpener(Protocol):
    """Unwraps data keys; the primary's KMS."""

    def open(self, envelopes: Sequence[bytes], wanted: Collection[DataKeyId]) -> Mapping[DataKeyId, Secret]:
        """Give the frame keys of data keys that lie in these envelopes (all generations at hand).

        Raises:
            KeyUnavailableError: no generation opens; the error names the tags.
        """


class IssuedKeys:
    """A :class:`~strongroom.pool.keys.DataKeySource`: a fresh key for each container.

    Batches grow, so that a small backup leaves a small envelope. An envelope is on stable storage before the first of
    its keys is given out.
    """

    def __init__(self, issuer: KeyIssuer, envelopes: Envelopes) -> None:
        self._issuer = issuer
        self._envelopes = envelopes
        self._lock = threading.Lock()
        self._ready: deque[FrameKey] = deque()
        self._batch = _FIRST_BATCH

    def next_key(self) -> FrameKey:
        """Give a key that nobody else gets."""
        with self._lock:
            if not self._ready:
                envelope, keys = self._issuer.issue(self._batch)
                self._envelopes.put(envelope)
                self._ready.extend(keys)
                self._batch = min(self._batch * 4, _MOST_IN_BATCH)
            return self._ready.popleft()


class OpenedKeys:
    """Frame keys for reading, unwrapped for as many frames at once as a page of the manifest names."""

    def __init__(self, opener: KeyOpener | None, envelopes: Envelopes, origin: DomainId) -> None:
        self._opener = opener
        self._envelopes = envelopes
        self._origin = origin
        self._keys: dict[DataKeyId, Secret] = {}
        self._lock = threading.Lock()

    def need(self, keys: Collection[DataKeyId]) -> None:
        """Have these keys unwrapped, those that are not at hand yet.

        Raises:
            EnvelopeMissingError: the pool has no envelope with one of them; the others are unwrapped.
            KeyUnavailableError: the KMS cannot open an envelope.
        """
        missing = {key for key in keys if key not in self._keys}
        if not missing or self._opener is None:
            return
        holders = self._envelopes.holding(missing, self._origin)
        for data, some in self._batches(missing.intersection(holders), holders):
            self._keys.update(self._opener.open(data, some))
        without = missing - holders.keys()
        if without:
            raise EnvelopeMissingError(f"no key envelope in the pool holds the data key '{min(without).hex()}'")

    def _batches(
        self, missing: set[DataKeyId], holders: Mapping[DataKeyId, EnvelopeId]
    ) -> Iterator[tuple[list[bytes], list[DataKeyId]]]:
        """Gather keys and the envelopes that hold them, for questions of bounded length."""
        held: dict[EnvelopeId, list[DataKeyId]] = {}
        for key in missing:
            held.setdefault(holders[key], []).append(key)
        data: list[bytes] = []
        keys: list[DataKeyId] = []
        for holder, some in held.items():
            generations = self._envelopes.read(holder, self._origin)
            length = sum(map(len, data)) + sum(map(len, generations))
            if data and (length > _MOST_BYTES or len(keys) + len(some) > _MOST_KEYS):
                yield data, keys
                data, keys = [], []
            data += generations
            keys += some
        if data:
            yield data, keys

    def __call__(self, key: DataKeyId) -> Secret | None:
        """Give a frame key; a :data:`~strongroom.pool.keys.KeyLookup`."""
        if key not in self._keys:
            with self._lock:
                self.need([key])
        return self._keys.get(key)
