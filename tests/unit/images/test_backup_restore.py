"""C1, C2, C3, P1: what is backed up comes back, byte for byte, out of a real pool."""

from __future__ import annotations

import errno
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.client.tar import write_tar
from strongroom.formats import entries, image_stream
from strongroom.formats.entries import Entry
from strongroom.formats.image_stream import Known
from strongroom.images import restore
from strongroom.images.previous_listing import previous_listing
from strongroom.images.restore import restore_stream
from strongroom.images.selection import Selection
from strongroom.images.stored_image import StoredImage
from strongroom.pool.errors import PoolWriteError
from tests.support.trees import make_tree, nanoseconds, rsync_differences
from tests.support.vault import Vault, random_bytes
from tests.unit.images.test_hostile_streams import entry, stream


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "vault")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree").mkdir()
    return make_tree(tmp_path / "tree")


def below(target: Path, root: Path) -> Path:
    """Where a restore puts a root."""
    return target / str(root).lstrip("/")


@pytest.mark.parametrize("encrypted", [True, False])
def test_a_tree_comes_back_as_it_was(vault: Vault, tree: Path, tmp_path: Path, encrypted: bool) -> None:
    image, result, totals = vault.back_up(tree, encrypted=encrypted)
    assert (result.files, result.content, result.problems) == (totals.files, totals.content, 0)
    restored, problems = vault.restore(image, tmp_path / "target")
    assert problems == []
    assert restored.files == totals.files
    assert rsync_differences(tree, below(tmp_path / "target", tree)) == ""
    assert nanoseconds(tree) == nanoseconds(below(tmp_path / "target", tree))
    assert image.copy.payload.encrypted == encrypted
    assert bool(result.tags) == encrypted
    assert bool(vault.issued) == encrypted


def test_gnu_tar_finds_no_difference(vault: Vault, tree: Path, tmp_path: Path) -> None:
    image, _, _ = vault.back_up(tree)
    with vault.reading(image) as stored, (tmp_path / "out.tar").open("wb") as out:
        write_tar(restore_stream(stored), out, lambda _: None)
    with tarfile.open(tmp_path / "out.tar") as tar:
        assert len(tar.getmembers()) == image.image.payload.files
    compared = subprocess.run(
        ["tar", "--compare", "--file", tmp_path / "out.tar", "--directory", "/"], capture_output=True, check=False
    )
    assert (compared.returncode, compared.stdout) == (0, b"")


def test_a_second_image_refers_to_what_did_not_change(vault: Vault, tree: Path, tmp_path: Path) -> None:
    first, _, _ = vault.back_up(tree, name="first")
    (tree / "dir" / "deeper" / "f7").write_bytes(b"other contents")
    (tree / "new").write_bytes(random_bytes("new", 100_000))
    (tree / "empty").unlink()
    os.utime(tree / "plain", ns=(5, 5))
    second, result, totals = vault.back_up(tree, previous=first, name="second")
    assert result.read_bytes == totals.read_bytes
    assert result.same_bytes == totals.same_bytes > (25 << 20)
    assert 100_000 < totals.read_bytes < 110_000
    assert 100_000 < result.added_bytes < 250_000
    assert result.content == result.read_bytes + result.same_bytes
    vault.reopen()
    _, problems = vault.restore(second, tmp_path / "target")
    assert problems == []
    assert rsync_differences(tree, below(tmp_path / "target", tree)) == ""


def test_an_image_of_images_all_the_same_adds_next_to_nothing(vault: Vault, tree: Path) -> None:
    first, one, _ = vault.back_up(tree, name="first")
    _, two, _ = vault.back_up(tree, name="read again")
    _, three, totals = vault.back_up(tree, previous=first, name="referred to")
    assert one.added_bytes > 5 << 20
    assert two.added_bytes == 0
    assert two.roots == one.roots
    assert three.added_bytes < 1 << 17
    assert totals.read_bytes == 0


def test_a_chain_of_images_needs_no_image_before_it(vault: Vault, tree: Path, tmp_path: Path) -> None:
    image, _, _ = vault.back_up(tree, name="0")
    for number in range(1, 4):
        (tree / "plain").write_bytes(b"%d" % number)
        image, _, _ = vault.back_up(tree, previous=image, name=str(number))
    vault.restore(image, tmp_path / "target")
    assert rsync_differences(tree, below(tmp_path / "target", tree)) == ""


def test_selected_files_come_with_the_folders_above_them(vault: Vault, tree: Path, tmp_path: Path) -> None:
    image, _, _ = vault.back_up(tree)
    wanted = bytes(tree) + b"/dir/deeper/f12"
    totals, problems = vault.restore(image, tmp_path / "target", [wanted])
    assert problems == []
    got = below(tmp_path / "target", tree)
    assert (got / "dir/deeper/f12").read_bytes() == b"contents 12"
    assert [path for path in got.rglob("*") if not path.is_dir()] == [got / "dir/deeper/f12"]
    assert (got / "dir/deeper").stat().st_mtime_ns == (tree / "dir/deeper").stat().st_mtime_ns
    assert totals.skipped == 0


def test_the_heir_of_an_unselected_name_gets_the_contents(vault: Vault, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "a").mkdir(parents=True)
    (tree / "b").mkdir()
    (tree / "a" / "first").write_bytes(random_bytes("first", 300_000))
    for name in ("second", "third"):
        os.link(tree / "a" / "first", tree / "b" / name)
    image, _, _ = vault.back_up(tree)
    _, problems = vault.restore(image, tmp_path / "target", [bytes(tree / "b")])
    assert problems == []
    got = below(tmp_path / "target", tree)
    assert (got / "b/second").read_bytes() == (tree / "a/first").read_bytes()
    assert (got / "b/second").stat().st_ino == (got / "b/third").stat().st_ino
    assert not (got / "a").exists()


def test_previous_files_come_without_contents(vault: Vault, tree: Path) -> None:
    image, _, totals = vault.back_up(tree)
    with vault.reading(image) as stored:
        blocks = list(image_stream.read_blocks(previous_listing(stored, vault.pool, vault.usable())))
    found = [known for block in blocks if isinstance(block, image_stream.KnownFiles) for known in block.files]
    assert len(found) == totals.files
    with vault.reading(image) as stored:
        records = [record for record in stored.records() if isinstance(record, Entry)]
    assert found == [Known.of(record) for record in records]
    assert not any(isinstance(block, bytes | memoryview | image_stream.Hole) for block in blocks)


def test_a_backup_that_is_dropped_lets_go_of_everything(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the storage refuses: what stays locked in ``incoming`` is there until the process ends."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    open_files = len(list(Path("/proc/self/fd").iterdir()))
    session = vault.session()
    session._payload.feed(random_bytes("a", 8 << 20))
    session._payload.finish()  # frames and pages lie in containers that are not sealed
    with monkeypatch.context() as refusing:
        refusing.setattr(Path, "unlink", refuse)
        with pytest.raises(PoolWriteError):
            session.abort()
    assert len(list(Path("/proc/self/fd").iterdir())) == open_files
    assert len(list(vault.pool.store.leftovers())) == 2


def test_what_a_restore_holds_at_once_counts_records_too(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record can have 1 MiB, and thousands of them fit into the number of items that are held."""
    blocks = []
    for number in range(24):
        attributes = [(b"user.%d" % place, bytes(60_000)) for place in range(4)]
        record = entries.encode_with_attributes(entry(b"/f%02d" % number), attributes)
        blocks.append(image_stream.head(image_stream.ENTRIES, len(record)) + record)
    image, _ = vault.store(stream(*blocks, files=24, content=0))
    monkeypatch.setattr(restore, "_BATCH_BYTES", 1 << 20)
    held: list[int] = []
    send = restore._send

    def noted(image: StoredImage, batch: restore._Batch, blocks: restore._Blocks) -> Iterator[bytes]:
        held.append(sum(len(item) for item in batch.items if isinstance(item, bytes)))
        return send(image, batch, blocks)

    monkeypatch.setattr(restore, "_send", noted)
    with vault.reading(image) as stored:
        assert sum(map(len, restore_stream(stored))) > 24 * 240_000
    assert max(held) < (1 << 20) + 300_000
    assert sum(held) > 24 * 240_000


def test_only_keys_of_what_is_read_are_opened(vault: Vault, tree: Path) -> None:
    image, _, _ = vault.back_up(tree)
    vault.opened.clear()
    with vault.reading(image) as stored:
        for _ in restore_stream(stored, Selection([bytes(tree) + b"/no-such"])):
            pass
    assert sum(vault.opened) <= 2
