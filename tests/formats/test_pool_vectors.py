"""P4: frames, containers and manifest pages as the pages in ``docs/reference/formats`` describe them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from strongroom.core.ids import MediumId
from strongroom.core.secret import Secret
from strongroom.formats import container, frame, key_page, manifest_page
from strongroom.formats.algorithms import Cipher
from strongroom.formats.errors import DamagedError, NewerFormatError
from strongroom.formats.segment import SegmentNamer, clear_naming_key

FOLDER = Path(__file__).with_name("pool")
FILE = json.loads((FOLDER / "pool.json").read_text())
OUTCOMES = {"damaged": DamagedError, "newer": NewerFormatError}

Vector = dict[str, Any]


def named(kind: str) -> pytest.MarkDecorator:
    vectors = [vector for vector in FILE["vectors"] if vector["kind"] == kind]
    return pytest.mark.parametrize("vector", vectors, ids=[vector["name"] for vector in vectors])


def check(vector: Vector, read: Callable[[], object]) -> object | None:
    """Read what is right; see the right sort of refusal otherwise."""
    if vector["outcome"] == "right":
        return read()
    expected = OUTCOMES[vector["outcome"]]
    with pytest.raises(expected) as caught:
        read()
    assert type(caught.value) is expected
    return None


def test_segment_names() -> None:
    namer = SegmentNamer(Secret(bytes.fromhex(FILE["naming_key"])))
    names = [namer.name(bytes.fromhex(segment)).hex() for segment in FILE["segments"]]
    assert names == FILE["names"]


def test_clear_naming_key() -> None:
    key = clear_naming_key(MediumId(bytes.fromhex(FILE["clear_names"]["medium"])))
    assert key.reveal().hex() == FILE["clear_names"]["key"]


@named("frame")
def test_frame(vector: Vector) -> None:
    data = bytes.fromhex(vector["data"])

    def read() -> bytes:
        head = frame.check(data, frame.frame_id(data))
        key = None if head.cipher is Cipher.NONE else Secret(bytes.fromhex(FILE["frame_key"]))
        return frame.open_body(data, head, key)

    plain = check(vector, read)
    if isinstance(plain, bytes):
        assert plain.hex() == vector["plain"]


@named("frame")
def test_right_frames_are_written_byte_for_byte(vector: Vector) -> None:
    data = bytes.fromhex(vector["data"])
    if vector["outcome"] != "right" or "compressed" in vector["name"]:
        return
    head = frame.parse_head(data)
    packed = bytes.fromhex(vector["plain"])
    if head.cipher is Cipher.NONE:
        assert frame.seal(head.segments, head.compression, packed) == data
    else:
        key = Secret(bytes.fromhex(FILE["frame_key"]))
        assert data == frame.seal(
            head.segments, head.compression, packed, data_key=head.data_key, frame_key=key, counter=7
        )


@named("page")
def test_page(vector: Vector) -> None:
    data = bytes.fromhex(vector["data"])
    page = check(vector, lambda: manifest_page.decode(data, manifest_page.page_id(data)))
    if isinstance(page, manifest_page.Leaf):
        assert manifest_page.encode_leaf(page.frames, page.references) == data
    if isinstance(page, manifest_page.Interior):
        assert manifest_page.encode_interior(page.level, page.children) == data
    if isinstance(page, manifest_page.Leaf | manifest_page.Interior):
        assert (page.reference_count, page.byte_count) == (vector["references"], vector["bytes"])


@named("key page")
def test_key_page(vector: Vector) -> None:
    data = bytes.fromhex(vector["data"])
    envelopes = check(vector, lambda: key_page.decode(data, manifest_page.page_id(data)))
    if isinstance(envelopes, tuple):
        assert [envelope.hex() for envelope in envelopes] == vector["envelopes"]
        assert key_page.encode(envelopes) == data


def tail_of(data: bytes) -> container.Tail:
    return container.decode_tail(data[-container.TAIL_BYTES :], len(data))


@named("container")
def test_container(vector: Vector) -> None:
    data = bytes.fromhex(vector["data"])

    def read() -> container.Footer:
        container.decode_header(data)
        tail = tail_of(data)
        footer = data[tail.footer_offset : tail.footer_offset + tail.footer_length]
        return container.decode_footer(data[: container.HEADER_BYTES], footer, tail)

    footer = check(vector, read)
    if isinstance(footer, container.Footer):
        assert (len(footer), footer.segment_count) == (vector["items"], vector["segments"])
        built = container.FooterBuilder(data[: container.HEADER_BYTES])
        for item in footer.items():
            stored = data[item.offset : item.offset + item.length]
            is_frame = stored.startswith(frame.MAGIC)
            rows = stored[frame.FIXED_BYTES : frame.parse_head(stored).head_bytes] if is_frame else b""
            assert built.add(item.id, item.length, rows, item.data_key) == item.offset
        mark = SegmentNamer(Secret(bytes.fromhex(FILE["naming_key"]))).mark if any(tail_of(data).mark) else None
        assert data[built.offset :] == built.finish(mark).data


@named("container")
def test_container_without_its_footer(vector: Vector) -> None:
    if "scanned" in vector:
        data = bytes.fromhex(vector["data"])
        items = list(container.scan(lambda offset, length: data[offset : offset + length]))
        assert len(items) == vector["scanned"]
        assert all(data[offset:].startswith(item) for offset, item in items)


def test_vectors_are_those_that_the_generator_makes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    generator = __import__("make_pool_vectors")
    monkeypatch.setattr(generator, "__file__", str(tmp_path / "make_pool_vectors.py"))
    generator.main()
    assert json.loads((tmp_path / "pool.json").read_text()) == FILE
