"""A pool whose containers are drawn when they are read: as many as are wanted, and no disk for them."""

from __future__ import annotations

import random
import struct
import time
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from strongroom.core.ids import ContainerId, DataKeyId, DomainId, MediumId, SegmentName
from strongroom.formats import container as format
from strongroom.formats import frame
from strongroom.pool import names
from strongroom.pool.errors import ObjectMissingError
from strongroom.pool.store import StoredObject

MEDIUM: Final = MediumId(b"medium".ljust(16, b"."))
ORIGIN: Final = DomainId(b"origin".ljust(32, b"."))
SEGMENTS: Final = 1_020
"""In a container: 85 frames of 12 segments; a frame of 700 KB."""
_IN_FRAME: Final = 12
_FRAME_BYTES: Final = 700_000
_LENGTH: Final = struct.pack(">I", 128 << 10)
_NAME_BYTES: Final = 32


class GeneratedStore:
    """Holds ``count`` sealed containers, of which nothing but header, footer and tail can be read.

    Attributes:
        count: how many containers there are; may be raised.
        drawing_seconds: seconds of CPU that drawing them took, to be taken off what is measured.
    """

    def __init__(self) -> None:
        self.count = 0
        self.drawing_seconds = 0.0
        self._drawn: OrderedDict[str, tuple[bytes, bytes, int]] = OrderedDict()

    def list(self, prefix: str, after: str = "") -> Iterator[StoredObject]:
        """List the containers."""
        for number in range(1, self.count + 1):
            key = names.container_key(_container(number))
            if key.startswith(prefix) and key > after:
                yield StoredObject(key, 0)

    def size(self, key: str) -> int:
        """Tell a container's length."""
        _, end, offset = self._draw(key)
        return offset + len(end)

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """Read a range of header, footer or tail."""
        header, end, begins = self._draw(key)
        data, start = (header, offset) if offset < begins else (end, offset - begins)
        return data[start : len(data) if length is None else start + length]

    def _draw(self, key: str) -> tuple[bytes, bytes, int]:
        if key in self._drawn:
            return self._drawn[key]
        before = time.thread_time()
        container = names.container_of(key)
        if container is None or not 1 <= int.from_bytes(container) <= self.count:
            raise ObjectMissingError(f"there is no '{key}'")
        header = format.encode_header(format.Header(container, MEDIUM, ORIGIN, 1, format.Content.FRAMES))
        footer = format.FooterBuilder(header)
        segments = segment_names(int.from_bytes(container))
        draw = random.Random(key)
        data_key = DataKeyId(draw.randbytes(16))
        for first in range(0, SEGMENTS, _IN_FRAME):
            rows = b"".join(name + _LENGTH for name in segments[first : first + _IN_FRAME])
            footer.add(draw.randbytes(_NAME_BYTES), _FRAME_BYTES, rows, data_key)
        offset = footer.offset
        drawn = header, footer.finish().data, offset
        self._drawn[key] = drawn
        if len(self._drawn) > 1:
            self._drawn.popitem(last=False)
        self.drawing_seconds += time.thread_time() - before
        return drawn


def segment_names(number: int) -> list[SegmentName]:
    """Give the names of the segments in a container, by its number from 1."""
    data = random.Random(number).randbytes(SEGMENTS * _NAME_BYTES)
    return [SegmentName(data[at : at + _NAME_BYTES]) for at in range(0, len(data), _NAME_BYTES)]


def _container(number: int) -> ContainerId:
    return ContainerId(number.to_bytes(16))


assert frame.ROW.size == _NAME_BYTES + len(_LENGTH)  # noqa: S101 - rows are put together by hand
