"""C3: files of an image found by path, and any range of their contents, without reading the rest."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from strongroom.core.ids import FrameId
from strongroom.formats import entries, image_stream
from strongroom.images import ranges, tree
from strongroom.images.ranges import Ranges
from strongroom.images.tree import ImageTree
from strongroom.pool.index import Location
from strongroom.pool.reader import StoredFrame
from tests.support.trees import make_tree
from tests.support.vault import Vault, random_bytes
from tests.unit.images.test_hostile_streams import data, entry, record, stream


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "vault")


@pytest.mark.parametrize("in_group", [3, 256])
def test_every_file_is_found_and_every_folder_listed(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_group: int
) -> None:
    monkeypatch.setattr(tree, "_FILES_IN_GROUP", in_group)
    root = make_tree(tmp_path / "t")
    image, _, totals = vault.back_up(root)
    with vault.reading(image) as stored:
        found = ImageTree(stored)
        assert (found.files, found.content) == (totals.files, totals.content)
        for folder, folders, files in os.walk(os.fsencode(root)):
            names = sorted(folders + files)
            assert [node.entry.path for node in found.children(folder)] == [folder + b"/" + name for name in names]
            half = names[len(names) // 2] if names else b""
            behind = [node.entry.path for node in found.children(folder, half)]
            assert behind == [folder + b"/" + name for name in names if name > half]
            for name in names:
                node = found.find(folder + b"/" + name)
                assert node is not None
                assert node.entry.path == folder + b"/" + name
                assert found.find(folder + b"/" + name + b"-not") is None
        # What leads to the root of the backup has no record, and is there all the same.
        above = [*reversed(root.parents)]
        for folder_above, below in zip(above, [*above[1:], root], strict=True):
            made_up = found.find(os.fsencode(folder_above))
            assert made_up is not None
            assert made_up.entry.type == entries.FOLDER
            assert [node.entry.path for node in found.children(os.fsencode(folder_above))] == [os.fsencode(below)]


@pytest.mark.parametrize("encrypted", [True, False])
def test_any_range_is_what_the_file_has_there(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encrypted: bool
) -> None:
    """Small files that share segments, holes, and a file with more extents than one record may have."""
    monkeypatch.setattr(entries, "MAX_EXTENTS", 5)
    monkeypatch.setattr(tree, "_FILES_IN_GROUP", 4)
    root = tmp_path / "t"
    root.mkdir()
    draw = random.Random(3)  # noqa: S311 - places to look at
    for number in range(40):
        (root / f"small-{number:02d}").write_bytes(random_bytes(f"s{number}", draw.randrange(40_000)))
    (root / "large").write_bytes(random_bytes("large", 9 << 20))
    with (root / "sparse").open("wb") as file:
        for place in range(0, 12 << 20, 1 << 20):
            file.seek(place)
            file.write(random_bytes(f"p{place}", 300_000))
        file.truncate(13 << 20)
    image, _, _ = vault.back_up(root, encrypted=encrypted)
    with vault.reading(image) as stored:
        found = ImageTree(stored)
        reader = Ranges(stored, found)
        for file_there in sorted(root.iterdir(), key=lambda _: draw.random()):
            whole = file_there.read_bytes()
            node = found.find(os.fsencode(file_there))
            assert node is not None
            assert reader.read(node, 0, len(whole) + 5) == whole
            for _ in range(6):
                at, length = draw.randrange(len(whole) + 2), draw.randrange(1, 700_000)
                assert reader.read(node, at, length) == whole[at : at + length]


def test_a_range_reads_no_more_than_it_needs(vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "large").write_bytes(random_bytes("large", 40 << 20))
    image, _, _ = vault.back_up(tmp_path / "large")
    with vault.reading(image) as stored:
        found = ImageTree(stored)
        reader = Ranges(stored, found)
        node = found.find(os.fsencode(tmp_path / "large"))
        assert node is not None
        read: list[FrameId] = []
        of_storage = stored.frames.stored

        def counted(frame_id: FrameId, known: Sequence[Location]) -> StoredFrame:
            read.append(frame_id)
            return of_storage(frame_id, known)

        monkeypatch.setattr(stored.frames, "stored", counted)
        assert reader.read(node, 20 << 20, 1000) == random_bytes("large", 40 << 20)[20 << 20 :][:1000]
        assert len(read) <= 2


def test_attributes_in_records_of_their_own_are_found(vault: Vault) -> None:
    given = [(b"user.%04d" % number, b"x" * 100) for number in range(1_500)]
    records = entries.encode_with_attributes(entry(b"/file", size=3), given)
    blocks = [data(b"abc"), image_stream.head(image_stream.ENTRIES, len(records)) + records, record(b"/z", 0)]
    image, _ = vault.store(stream(*blocks, files=2, content=3))
    with vault.reading(image) as stored:
        found = ImageTree(stored)
        node = found.find(b"/file")
        assert node is not None
        behind = [pair for more in found.attributes(node) for pair in more.attributes]
        assert node.entry.attributes + behind == given
        assert Ranges(stored, found).read(node, 1, 5) == b"bc"
        last = found.find(b"/z")
        assert last is not None
        assert found.attributes(last) == []


def test_places_of_files_are_remembered_in_bounds(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "_FILES_IN_GROUP", 8)
    monkeypatch.setattr(ranges, "_MAPS", 4)
    blocks = [data(b"%05d" % number) + record(b"/%05d" % number, 5) for number in range(2_000)]
    image, _ = vault.store(stream(*blocks, files=2_000, content=10_000))
    with vault.reading(image) as stored:
        found = ImageTree(stored)
        reader = Ranges(stored, found)
        for number in (0, 1_999, 7, 8, 1_000):
            node = found.find(b"/%05d" % number)
            assert node is not None
            assert reader.read(node, 0, 9) == b"%05d" % number
        assert len(list(found.children(b"/"))) == 2_000
        assert (len(found._nodes), len(reader._maps), len(found._groups)) == (16, 4, 250)
