"""C1, C3: what is backed up and restored is what was there, judged by rsync, find and tar."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest

from strongroom.client.problems import Trouble
from strongroom.client.restorer import Overwrite, Restorer
from strongroom.client.selection import Selection
from strongroom.client.tar import write_tar
from tests.support.image_loop import Image, back_up
from tests.support.trees import IS_ROOT, make_tree, nanoseconds, rsync_differences


class SomeEntropy:
    def bytes(self, count: int) -> bytes:
        return random.Random(4).randbytes(count)  # noqa: S311 - names of temporary files


def fail(trouble: Trouble) -> None:
    pytest.fail(str(trouble))


def restore(image: Image, target: Path | bytes, **options: object) -> tuple[Restorer, list[Trouble]]:
    troubles: list[Trouble] = []
    restorer = Restorer(os.fsencode(target), troubles.append, SomeEntropy(), flush=False, **options)  # type: ignore[arg-type]
    restorer.restore(image.restore_stream())
    return restorer, troubles


def inside(target: Path, source: Path) -> Path:
    return target / str(source).lstrip("/")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "tree")


@pytest.mark.parametrize("readers", [0, 2])
def test_c1_restored_tree_equals_the_source(tree: Path, tmp_path: Path, readers: int) -> None:
    image = back_up(os.fsencode(tree), readers=readers)
    assert image.problems == []
    restorer, troubles = restore(image, tmp_path / "target")
    assert troubles == []
    copy = inside(tmp_path / "target", tree)
    assert rsync_differences(tree, copy) == ""
    assert nanoseconds(tree) == nanoseconds(copy)
    assert restorer.totals.files == image.totals.files
    assert restorer.totals.content == image.totals.content


def test_c1_holes_stay_holes(tree: Path, tmp_path: Path) -> None:
    image = back_up(os.fsencode(tree))
    restore(image, tmp_path / "target")
    copy = inside(tmp_path / "target", tree) / "sparse"
    assert copy.stat().st_size == 20 << 20
    assert copy.stat().st_blocks == (tree / "sparse").stat().st_blocks
    assert image.totals.read_bytes < image.totals.content - (19 << 20)


@pytest.mark.skipif(not IS_ROOT, reason="tar sets owners as root only")
@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_m4_gnu_tar_restores_the_same_tree(tree: Path, tmp_path: Path, locale: str) -> None:
    target = tmp_path / "target"
    target.mkdir()
    with (tmp_path / "tar").open("wb") as out:
        write_tar(back_up(os.fsencode(tree)).restore_stream(), out, fail)
    assert (tmp_path / "tar").stat().st_size % 10_240 == 0
    subprocess.run(
        ["tar", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf", tmp_path / "tar"],
        cwd=target,
        check=True,
        env={"LC_ALL": locale, "PATH": os.environ["PATH"]},
        capture_output=True,
    )
    copy = inside(target, tree)
    assert rsync_differences(tree, copy) == ""
    assert nanoseconds(tree) == nanoseconds(copy)


def test_m4_tar_has_sizes_above_8_gib(tmp_path: Path) -> None:
    size = (9 << 30) + 1
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(size)

    class Sparse:
        """Writes zeros by moving on, so that the test takes no room."""

        def __init__(self, path: Path) -> None:
            self.file = path.open("wb")

        def write(self, data: bytes) -> int:
            if len(data) == 1 << 20:
                return self.file.seek(len(data), os.SEEK_CUR)
            return self.file.write(data)

    out = Sparse(tmp_path / "tar")
    write_tar(back_up(os.fsencode(tmp_path / "huge")).restore_stream(), out, fail)  # type: ignore[arg-type]
    out.file.close()
    listing = subprocess.run(["tar", "-tvf", tmp_path / "tar"], check=True, capture_output=True, text=True)
    assert f" {size} " in listing.stdout
    assert listing.stderr == ""


def test_c1_path_longer_than_the_system_takes_at_once(tmp_path: Path) -> None:
    base = tmp_path / "deep"
    base.mkdir()
    fd = os.open(base, os.O_RDONLY)
    for level in range(200):
        name = b"%03d-" % level + b"x" * 50
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open(b"file", os.O_WRONLY | os.O_CREAT, dir_fd=fd))
    os.close(os.open(b"zzz", os.O_WRONLY | os.O_CREAT, dir_fd=fd))
    os.link(b"file", b"linked", src_dir_fd=fd, dst_dir_fd=fd)
    os.close(fd)
    (base / "z-after").write_bytes(b"after the deep path")
    image = back_up(os.fsencode(base))
    assert image.problems == []
    assert len(image.by_name(b"linked").entry.path) > 10_000
    assert image.files[-1].entry.path.endswith(b"/z-after")
    _, troubles = restore(image, tmp_path / "target")
    assert troubles == []
    assert nanoseconds(base) == nanoseconds(inside(tmp_path / "target", base))
    subprocess.run(["rm", "-rf", base, tmp_path / "target"], check=True)


def test_c3_selected_paths_alone_are_restored(tree: Path, tmp_path: Path) -> None:
    image = back_up(os.fsencode(tree))
    wanted = Selection([os.fsencode(tree / "dir" / "deeper")])
    restorer, troubles = restore(image, tmp_path / "target", selection=wanted)
    copy = inside(tmp_path / "target", tree)
    assert [file.name for file in copy.iterdir()] == ["dir"]
    assert [file.name for file in (copy / "dir").iterdir()] == ["deeper"]
    assert [trouble.code for trouble in troubles] == []
    assert (copy / "dir" / "deeper" / "deepest" / "linked").stat().st_nlink == 1
    assert restorer.totals.skipped > 10


def test_c3_existing_files_are_refused_and_kept(tree: Path, tmp_path: Path) -> None:
    image = back_up(os.fsencode(tree))
    copy = inside(tmp_path / "target", tree)
    copy.mkdir(parents=True)
    (copy / "plain").write_bytes(b"mine")
    (copy / "dir").symlink_to("/")
    _, troubles = restore(image, tmp_path / "target")
    assert (copy / "plain").read_bytes() == b"mine"
    codes = {trouble.code for trouble in troubles}
    assert codes == {"client.exists", "client.unsafe-path", "client.link-missing"}
    assert not Path("/deeper").exists()


def test_c3_overwrite_replaces_files_links_and_empty_folders(tree: Path, tmp_path: Path) -> None:
    image = back_up(os.fsencode(tree))
    copy = inside(tmp_path / "target", tree)
    (copy / "plain").mkdir(parents=True)
    (copy / "dir").symlink_to("/")
    (copy / "empty").write_bytes(b"old")
    _, troubles = restore(image, tmp_path / "target", overwrite=Overwrite.ALWAYS)
    assert troubles == []
    assert rsync_differences(tree, copy) == ""
    assert nanoseconds(tree) == nanoseconds(copy)
    _, troubles = restore(image, tmp_path / "target", overwrite=Overwrite.ALWAYS)
    assert troubles == []
    assert rsync_differences(tree, copy) == ""
    assert nanoseconds(tree) == nanoseconds(copy)
