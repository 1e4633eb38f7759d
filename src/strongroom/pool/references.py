"""Segments on their way into a pool, and references: what a manifest says of each segment of a stream."""

from __future__ import annotations

from typing import NamedTuple

from strongroom.core.ids import DataKeyId, FrameId, SegmentName
from strongroom.formats.segment import Buffer


class Named(NamedTuple):
    """A segment, 1 byte to 4 MiB, and its name."""

    name: SegmentName
    data: Buffer


class Reference(NamedTuple):
    """One use of a segment.

    Attributes:
        name: name of the segment.
        frame_id: frame that holds it.
        data_key_id: data key of that frame; zeros when it is not encrypted.
        frame_length: length of the frame's stored form.
        frame_bytes: bytes of all segments in the frame.
        position: place of the segment in the frame, from 0.
        length: bytes of the segment.
    """

    name: SegmentName
    frame_id: FrameId
    data_key_id: DataKeyId
    frame_length: int
    frame_bytes: int
    position: int
    length: int
