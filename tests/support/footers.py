"""Sealed containers of which nothing but header, footer and tail was written: all that an index reads."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from strongroom.core.ids import ContainerId, DataKeyId, DomainId
from strongroom.formats.container import Content, FooterBuilder, Header, encode_header
from strongroom.formats.frame import ROW
from strongroom.pool import names
from tests.support.pool import DOMAIN, MEDIUM

FRAME_BYTES = 5_000
SEGMENT_BYTES = 1_000


def seal(
    pool: Path,
    container: bytes,
    frames: Sequence[tuple[bytes, Sequence[bytes]]],
    *,
    origin: DomainId = DOMAIN,
    created_ns: int = 1,
) -> ContainerId:
    """Write a container, with holes where its frames would be, into a pool's folder.

    Args:
        pool: the folder.
        container: its id.
        frames: the id of each, and the names of its segments.
        origin: whose they are.
        created_ns: when it was begun.
    """
    made = ContainerId(container)
    header = encode_header(Header(made, MEDIUM, origin, created_ns, Content.FRAMES))
    footer = FooterBuilder(header)
    for frame_id, segments in frames:
        rows = b"".join(ROW.pack(name, SEGMENT_BYTES) for name in segments)
        footer.add(frame_id, FRAME_BYTES, rows, DataKeyId(b"data key".ljust(16, b".")))
    path = pool / names.container_key(made)
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        file.write(header)
        file.seek(footer.offset)
        file.write(footer.finish().data)
    return made


def random_frames(draw: random.Random, frames: int, segments: int) -> list[tuple[bytes, list[bytes]]]:
    """Draw frames that nobody has drawn before."""
    return [(draw.randbytes(32), [draw.randbytes(32) for _ in range(segments)]) for _ in range(frames)]
