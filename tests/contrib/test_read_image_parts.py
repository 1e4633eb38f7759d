"""The parts of the reader: records, signatures, pages, frames, envelopes."""

import tracemalloc
from pathlib import Path

import pytest
import zstandard

from contrib import read_image
from contrib.read_image import Value
from tests.contrib.handmade_pool import (
    PoolBuilder,
    hkdf,
    label,
    make_frame,
    make_leaf,
    pack,
    u,
)


@pytest.fixture
def pool(tmp_path: Path) -> PoolBuilder:
    return PoolBuilder(tmp_path / "pool")


@pytest.mark.parametrize(
    "data",
    [
        "cb3ff0000000000000",  # a float
        "d40000",  # an extension type
        "c1",
        "cc7f",  # not the shortest
        "d0e0",
        "d10001",
        "cfffffffffffffffff",
        "d90161",
        "c5000161",
        "dc0000",
        "8101c0",  # a key that is no text
        "82a161c0a161c0",  # a key twice
        "a100",
        "a3eda080",  # a surrogate
        "9f",
        "ddffffffff",
        "c0c0",
        "91" * 17 + "c0",
        "",
    ],
)
def test_records_have_one_encoding_only(data: str) -> None:
    with pytest.raises(read_image.Damaged):
        read_image.decode(bytes.fromhex(data))


@pytest.mark.parametrize(
    "value",
    [0, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**63 - 1, -1, -32, -33, -128, -129, -(2**31), -(2**63)],
)
def test_numbers_come_back(value: int) -> None:
    assert read_image.decode(pack(value)) == value
    nested: Value = {"a": [value, None, True, "x" * 300, b"y" * 70_000], "b" * 40: {}}
    assert read_image.decode(pack(nested)) == nested


def test_crc_is_the_castagnoli_one() -> None:
    assert read_image.crc32c(b"123456789") == 0xE3069283


def test_public_keys_of_small_order_are_refused() -> None:
    orders = (
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",  # not canonical
    )
    for public in map(bytes.fromhex, orders):
        # With S = 0 and R = A or the neutral element such a key would accept many messages.
        for r in (bytes([1]) + bytes(31), public):
            assert not any(read_image.signature_is_valid(public, r + bytes(32), bytes([m])) for m in range(16))


def test_pages_that_break_a_rule_are_refused() -> None:
    frames = [(make_frame([s], 1, None, compress=False), [s]) for s in (b"one", b"two")]
    assert len(read_image.parse_page(make_leaf(frames, [(0, 0), (1, 0), (0, 0)])).references) == 3
    for reason, page in (
        ("order of the first reference", make_leaf(frames, [(1, 0), (0, 0)])),
        ("not used", make_leaf(frames, [(0, 0)])),
        ("listed twice", make_leaf([frames[0], frames[0]], [(0, 0), (1, 0)])),
        ("length", make_leaf(frames, [(0, 0), (1, 0)]) + b"\0"),
        ("wrong level", b"SRP1\x09\x01\0\0" + u(4, 1, 0) + bytes(48)),
        ("length", b"SRP1\x01\x01\0\0" + u(4, 0, 0)),
        ("empty", b"SRP1\x01\x01\0\0" + u(4, 1, 0) + bytes(48)),
        ("another digest", b"SRP1\x00\x02\0\0" + u(4, 0, 0)),
    ):
        with pytest.raises(read_image.ReadError, match=reason):
            read_image.parse_page(page)


def test_frames_that_break_a_rule_are_refused() -> None:
    good = make_frame([b"one", b"two"], 1, b"D" * 32, compress=True)
    frame_key = hkdf(b"D" * 32, label("data-key/frame"))
    assert read_image.open_frame(read_image.parse_frame(good), frame_key) == b"onetwo"
    for at in (0, 4, 5, 6, 7, 11, 15, 19, 36, 83, 119):
        bad = bytearray(good)
        bad[at] ^= 0x40
        with pytest.raises(read_image.ReadError):
            read_image.parse_frame(bytes(bad))
    for at in (20, 47, 50, len(good) - 1):
        bad = bytearray(good)
        bad[at] ^= 0x40
        with pytest.raises(read_image.Damaged, match="authenticate"):
            read_image.open_frame(read_image.parse_frame(bytes(bad)), frame_key)


def test_compressed_bodies_that_break_a_rule_are_refused() -> None:
    data = b"abc" * 1_000
    good = zstandard.compress(data)
    skip = b"\x50\x2a\x4d\x18\x01\0\0\0x"
    assert read_image.decompress(good + skip + skip, len(data)) == data
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(data)
    for body in (skip + good, good + b"x", good + skip[:-1], good + good, good[:-1], unsized, b""):
        with pytest.raises(read_image.Damaged):
            read_image.decompress(body, len(data))
    with pytest.raises(read_image.Damaged):
        read_image.decompress(good, len(data) + 1)


def test_a_compressed_body_gives_no_more_than_its_stated_size() -> None:
    """Runs of 128 KiB in 4 bytes each; the library alone gives 256 MiB before it sees that they are too many."""
    runs = [((128 << 10) << 3 | 1 << 1 | (n == 1_999)).to_bytes(3, "little") + b"A" for n in range(2_000)]
    body = b"\x28\xb5\x2f\xfd\x80\x38" + (1 << 20).to_bytes(4, "little") + b"".join(runs)
    tracemalloc.start()
    with pytest.raises(read_image.Damaged):
        read_image.decompress(body, 1 << 20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20


def test_generations_that_disagree_are_rejected(pool: PoolBuilder) -> None:
    envelopes = []
    for generation, group in ((1, b"G" * 16), (2, b"X" * 16), (3, b"G" * 16)):
        pool.group = group
        name, raw = pool.envelope(pool.origin, generation, pool.kms_key, pool.tag)
        envelopes.append(read_image.parse_envelope(read_image.Trust(frozenset(), False), raw, name.rpartition("/")[2]))
    held = read_image.agreeing(list(reversed(envelopes)), pool.origin.id)
    assert [envelope.fields["generation"] for envelope in held] == [1, 3]
