"""P1: a tar holds what is data of a sparse file, and neither the holes nor a zero in their place."""

from __future__ import annotations

import random
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.memory_compare import sparse_differences
from bench.memory_input import make_sparse
from strongroom.client.tar import write_tar
from strongroom.formats.errors import DamagedError
from strongroom.images.holes import Holes
from strongroom.images.restore import restore_stream
from strongroom.images.selection import Selection
from tests.support.vault import Vault

BLOCK = 4_096


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault]:
    vault = Vault(tmp_path_factory.mktemp("vault"))
    yield vault
    vault.pool.close()


def tar_of(vault: Vault, tree: Path, out: Path, selection: tuple[bytes, ...] = ()) -> int:
    """Back up a folder, and write it as a tar; give its length."""
    image, _, _ = vault.back_up(tree, name=str(tree))
    with (
        vault.reading(image) as stored,
        Holes(stored, vault.pool.store.index_path) as holes,
        out.open("wb") as file,
    ):
        write_tar(restore_stream(stored, Selection(selection), holes), file, lambda _: None)
    return out.stat().st_size


def unpack(out: Path, target: Path) -> None:
    target.mkdir()
    subprocess.run(["tar", "--extract", "--file", out, "--directory", target], check=True)


def test_five_terabytes_of_holes_are_backed_up_and_unpacked_by_gnu_tar_p1(vault: Vault, tmp_path: Path) -> None:
    make_sparse(tmp_path / "tree", 5_000_000_000_000)
    length = tar_of(vault, tmp_path / "tree", tmp_path / "out.tar")
    assert length < 30_000_000
    unpack(tmp_path / "out.tar", tmp_path / "target")
    unpacked = tmp_path / "target" / str(tmp_path / "tree").lstrip("/")
    assert list(sparse_differences(tmp_path / "tree", unpacked)) == []


def test_five_terabytes_of_holes_are_restored_as_holes_p1(vault: Vault, tmp_path: Path) -> None:
    make_sparse(tmp_path / "tree", 5_000_000_000_000, seed=8)
    image, result, totals = vault.back_up(tmp_path / "tree")
    assert result.content == 5_000_000_000_000
    assert totals.read_bytes < 30_000_000
    vault.restore(image, tmp_path / "target")
    restored = tmp_path / "target" / str(tmp_path / "tree").lstrip("/")
    assert list(sparse_differences(tmp_path / "tree", restored)) == []


def holes_of_every_kind(tree: Path) -> None:
    tree.mkdir()
    rng = random.Random(5)  # noqa: S311 - contents of test files
    data = rng.randbytes(BLOCK)
    for name, size, places in (
        ("all", 1 << 20, ()),
        ("odd length, all hole", (1 << 20) + 7, ()),
        ("first", 1 << 20, (255 * BLOCK,)),
        ("last", 1 << 20, (0,)),
        ("both ends", 1 << 20, (50 * BLOCK,)),
        ("every second block", 512 * BLOCK, tuple(range(0, 512 * BLOCK, 2 * BLOCK))),
        ("odd tail", (2 << 20) + 13, (BLOCK, (2 << 20) - BLOCK)),
        ("n" * 255, 1 << 20, (9 * BLOCK,)),
        ("\udcff\udcfe", 1 << 20, (9 * BLOCK,)),
        ("no hole", 3 * BLOCK, (0, BLOCK, 2 * BLOCK)),
    ):
        with (tree / name).open("wb") as file:
            file.truncate(size)
            for place in places:
                file.seek(place)
                file.write(data)
    (tree / "other name").hardlink_to(tree / "last")


def test_holes_of_every_kind_come_back_from_a_tar_p1(vault: Vault, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    holes_of_every_kind(tree)
    tar_of(vault, tree, tmp_path / "out.tar")
    unpack(tmp_path / "out.tar", tmp_path / "target")
    unpacked = tmp_path / "target" / str(tree).lstrip("/")
    assert list(sparse_differences(tree, unpacked)) == []
    assert (unpacked / "other name").stat().st_ino == (unpacked / "last").stat().st_ino
    with tarfile.open(tmp_path / "out.tar", errors="surrogateescape") as tar:
        sizes = {Path(member.name).name: member.size for member in tar if member.isreg()}
        assert sizes["odd length, all hole"] == (1 << 20) + 7
        member = tar.getmember(str(tree / "every second block").lstrip("/"))
        found = tar.extractfile(member)
        assert found is not None
        assert found.read() == (tree / "every second block").read_bytes()


def test_only_the_longest_holes_are_told_and_the_rest_is_zeros_p1(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("strongroom.images.holes.MAX_HOLES", 3)
    tree = tmp_path / "tree"
    tree.mkdir()
    with (tree / "file").open("wb") as file:
        for place in (0, 5, 7, 30, 32, 90, 92, 200):
            file.seek(place * BLOCK)
            file.write(b"\1" * BLOCK)
        file.truncate(202 * BLOCK)
    image, _, _ = vault.back_up(tree, name="longest")
    with vault.reading(image) as stored, Holes(stored, tmp_path) as holes:
        told = holes.of(1)
    assert told == [(8 * BLOCK, 22 * BLOCK), (33 * BLOCK, 57 * BLOCK), (93 * BLOCK, 107 * BLOCK)]
    assert tar_of(vault, tree, tmp_path / "out.tar") < 30 * BLOCK
    unpack(tmp_path / "out.tar", tmp_path / "target")
    assert (tmp_path / "target" / str(tree).lstrip("/") / "file").read_bytes() == (tree / "file").read_bytes()


def test_an_heir_of_a_name_that_is_not_selected_has_its_holes_p1(vault: Vault, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "a").mkdir(parents=True)
    (tree / "b").mkdir()
    with (tree / "a" / "first").open("wb") as file:
        file.truncate(1 << 30)
        file.write(b"begin")
    (tree / "b" / "second").hardlink_to(tree / "a" / "first")
    with (tree / "a" / "later").open("wb") as file:
        file.truncate(1 << 30)
    assert tar_of(vault, tree, tmp_path / "out.tar", (bytes(tree / "b"),)) < 1_000_000
    unpack(tmp_path / "out.tar", tmp_path / "target")
    assert (tmp_path / "target" / str(tree).lstrip("/") / "b" / "second").stat().st_size == 1 << 30


def test_holes_that_lie_about_contents_end_the_tar_p1(vault: Vault, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_bytes(b"x" * 100_000)
    image, _, _ = vault.back_up(tmp_path / "tree", name="lying")

    class Lying(Holes):
        def of(self, number: int) -> list[tuple[int, int]]:
            return [(10, 50_000)] if number == 1 else []

    with (
        vault.reading(image) as stored,
        Lying(stored, tmp_path) as holes,
        (tmp_path / "out.tar").open("wb") as out,
        pytest.raises(DamagedError, match="where a hole was told"),
    ):
        write_tar(restore_stream(stored, None, holes), out, lambda _: None)
