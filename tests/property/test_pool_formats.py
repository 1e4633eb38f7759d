"""P1, P4: frames, containers and pages on hostile bytes: only format errors come out."""

from __future__ import annotations

import os

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.core.errors import IntegrityError
from strongroom.core.ids import ContainerId, DataKeyId, DomainId, FrameId, MediumId, PageId
from strongroom.core.secret import Secret
from strongroom.formats import container, frame, manifest_page
from strongroom.formats.algorithms import Cipher, Compression
from strongroom.formats.errors import DamagedError
from strongroom.formats.segment import SegmentNamer

KEY = Secret(b"k" * 32)
NAMER = SegmentNamer(Secret(b"n" * 32))
DATA_KEY = DataKeyId(b"d" * 16)
HEADER = container.Header(ContainerId(b"c" * 16), MediumId(b"m" * 16), DomainId(b"o" * 32), 1, container.Content.FRAMES)

segment_lists = st.lists(st.binary(min_size=1, max_size=2_000), min_size=1, max_size=20)


def seal(segments: list[bytes], *, is_encrypted: bool = True, padding: bytes = b"") -> bytes:
    compression, packed = frame.compress(segments, zstandard.ZstdCompressor())
    if padding:
        compression, packed = Compression.ZSTANDARD, zstandard.compress(b"".join(segments)) + padding
    rows = [(b"n" * 32, len(segment)) for segment in segments]
    if not is_encrypted:
        return bytes(frame.seal(rows, compression, packed))
    return bytes(frame.seal(rows, compression, packed, data_key=DATA_KEY, frame_key=KEY, counter=1))


def open_unchecked(data: bytes) -> bytes:
    """Open a frame without knowing its id, so that the other rules are what refuses."""
    head = frame.parse_head(data)
    if head.stored_bytes != len(data):
        raise DamagedError("another length than the head says")
    return frame.open_body(data, head, None if head.cipher is Cipher.NONE else KEY)


def seal_container(frames: list[bytes]) -> bytes:
    header = container.encode_header(HEADER)
    built = container.FooterBuilder(header)
    for data in frames:
        head = frame.parse_head(data)
        built.add(frame.frame_id(data), len(data), data[frame.FIXED_BYTES : head.head_bytes], head.data_key)
    return header + b"".join(frames) + built.finish(NAMER.mark).data


def read_container(data: bytes) -> list[bytes]:
    container.decode_header(data)
    tail = container.decode_tail(data[-container.TAIL_BYTES :], len(data))
    raw = data[tail.footer_offset : tail.footer_offset + tail.footer_length]
    footer = container.decode_footer(data[: container.HEADER_BYTES], raw, tail)
    items = []
    for item in footer.items():
        stored = data[item.offset : item.offset + item.length]
        frame.check(stored, FrameId(item.id))
        items.append(stored)
    return items


@given(segment_lists, st.booleans())
def test_a_frame_gives_back_its_segments(segments: list[bytes], is_encrypted: bool) -> None:
    data = seal(segments, is_encrypted=is_encrypted)
    head = frame.check(data, frame.frame_id(data))
    assert [length for _, length in head.segments] == [len(segment) for segment in segments]
    assert open_unchecked(data) == b"".join(segments)


def test_every_flipped_byte_and_every_cut_of_a_frame_is_refused() -> None:
    data = seal([b"a" * 100, b"b" * 50])
    frame_id = frame.frame_id(data)
    for at in range(len(data)):
        for changed in (data[:at] + bytes((data[at] ^ 0x41,)) + data[at + 1 :], data[:at]):
            with pytest.raises(IntegrityError):
                frame.check(changed, frame_id)
            with pytest.raises(IntegrityError):
                open_unchecked(changed)


def test_every_flipped_byte_and_every_cut_of_a_container_is_refused() -> None:
    data = seal_container([seal([b"a" * 30]), seal([b"b" * 30, b"c"])])
    assert len(read_container(data)) == 2
    for at in range(len(data)):
        with pytest.raises(IntegrityError):
            read_container(data[:at])
        changed = data[:at] + bytes((data[at] ^ 0x41,)) + data[at + 1 :]
        if len(data) - 48 <= at < len(data) - 16:
            tail = container.decode_tail(changed[-container.TAIL_BYTES :], len(changed))
            assert tail.mark != NAMER.mark(tail.digest), "only who has the naming key can tell"
        else:
            with pytest.raises(IntegrityError):
                read_container(changed)


@given(st.binary(max_size=300), st.integers(0, 200), st.data())
def test_bytes_changed_anywhere_in_a_clear_frame_give_format_errors_or_a_frame(
    noise: bytes, at: int, data: st.DataObject
) -> None:
    padding = data.draw(st.sampled_from([b"", b"\x50\x2a\x4d\x18\x02\x00\x00\x00.."]))
    right = seal([b"text " * 20, b"x"], is_encrypted=False, padding=padding)
    try:
        assert len(open_unchecked(right[:at] + noise + right[at + len(noise) :])) <= frame.MAX_PLAIN_BYTES
    except IntegrityError:
        pass


@given(st.binary(max_size=500), st.sampled_from([b"SRF1", b"SRP1", b"SRCONT01", b""]))
def test_random_bytes_give_nothing_but_format_errors(noise: bytes, magic: bytes) -> None:
    data = magic + noise
    for read in (
        open_unchecked,
        container.decode_header,
        read_container,
        lambda data: manifest_page.decode(data, manifest_page.page_id(data)),
        lambda data: list(container.scan(lambda offset, length: data[offset : offset + length])),
    ):
        try:
            read(data)
        except IntegrityError:
            pass


@settings(max_examples=30)
@given(st.lists(segment_lists, min_size=1, max_size=5))
def test_a_container_gives_back_its_frames_with_and_without_its_footer(frames: list[list[bytes]]) -> None:
    sealed = [seal(segments) for segments in frames]
    data = seal_container(sealed)
    assert read_container(data) == sealed
    assert [item for _, item in container.scan(lambda at, length: data[at : at + length])] == sealed


@given(
    st.lists(
        st.tuples(st.binary(min_size=32, max_size=32), st.integers(0, 4_095), st.integers(1, 1 << 22)),
        min_size=1,
        max_size=50,
    )
)
def test_a_leaf_gives_back_its_rows(rows: list[tuple[bytes, int, int]]) -> None:
    frames = [(bytes((i,)) * 32, b"k" * 16, 1_000 + i, 1 + i) for i in range(min(3, len(rows)))]
    references = [(name, i % len(frames), position, length) for i, (name, position, length) in enumerate(rows)]
    data = manifest_page.encode_leaf(frames, references)
    leaf = manifest_page.decode(data, manifest_page.page_id(data))
    assert isinstance(leaf, manifest_page.Leaf)
    assert (list(leaf.frames), list(leaf.references)) == (frames, references)


@given(st.integers(0, 400), st.integers(0, 255))
def test_a_changed_page_has_another_id_and_is_read_without_trust(at: int, value: int) -> None:
    references = [(bytes(32), 0, position, 5) for position in range(4)]
    data = manifest_page.encode_leaf([(b"f" * 32, b"k" * 16, 500, 20)], references)
    changed = bytearray(data)
    changed[at % len(data)] = value
    if changed != data:
        with pytest.raises(DamagedError):
            manifest_page.decode(bytes(changed), manifest_page.page_id(data))
    try:
        manifest_page.decode(bytes(changed), manifest_page.page_id(changed))
    except IntegrityError:
        pass


def test_a_small_body_cannot_grow_beyond_what_the_head_says() -> None:
    """A Zstandard bomb: a hundred bytes that claim to be 10 bytes, and whose blocks would be 64 MiB."""
    runs = b"".join(((128 << 10) << 3 | 1 << 1 | (1 if last else 0)).to_bytes(3, "little") + b"z"
                    for last in [False] * 511 + [True])  # fmt: skip
    bomb = bytes.fromhex("28b52ffd20") + bytes((10,)) + runs
    rows = [(b"n" * 32, 10)]
    data = bytes(frame.seal(rows, Compression.ZSTANDARD, bomb))
    with pytest.raises(DamagedError, match="does not decompress"):
        open_unchecked(data)
    bomb = bytes.fromhex("28b52ffda0") + (64 << 20).to_bytes(4, "little") + runs
    data = bytes(frame.seal(rows, Compression.ZSTANDARD, bomb))
    with pytest.raises(DamagedError, match="content size"):
        open_unchecked(data)


def test_a_frame_that_does_not_compress_is_stored_as_it_is() -> None:
    noise = os.urandom(5_000)
    compression, packed = frame.compress([noise], zstandard.ZstdCompressor())
    assert (compression, packed) == (Compression.NONE, noise)


def test_lengths_over_their_bounds_are_refused_before_anything_is_read() -> None:
    fixed = bytearray(seal([b"x"])[: frame.FIXED_BYTES])
    fixed[8:12] = (4_097).to_bytes(4, "big")
    with pytest.raises(DamagedError, match="4097 segments"):
        frame.stored_length_at(bytes(fixed))
    page = bytearray(manifest_page.encode_leaf([], []))
    page[12:16] = (1_025).to_bytes(4, "big")
    with pytest.raises(DamagedError):
        manifest_page.length_at(bytes(page))
    with pytest.raises(DamagedError, match="more than the 262144"):
        manifest_page.decode(bytes(manifest_page.MAX_PAGE_BYTES + 1), PageId(bytes(32)))
