"""C1, C3: every kind of file comes back as it was, judged by rsync, find, getfattr, getcap and tar."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from strongroom.client.problems import Trouble
from strongroom.client.tar import write_tar
from tests.support.image_loop import Image, back_up
from tests.support.torture import differences, let_others_have, make_torture
from tests.support.trees import IS_ROOT
from tests.unit.client.test_round_trip import fail, inside, restore

as_root = pytest.mark.skipif(not IS_ROOT, reason="only root can make files of every kind")
NOBODY = 65534

# What an ordinary user does in a process of his own: `make` a tree, `restore` a kept stream.
AS_NOBODY = """
import json, os, sys
from collections import Counter
from tests.support.image_loop import back_up
from tests.support.torture import make_torture
from tests.unit.client.test_round_trip import restore
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
work, source, target = (os.fsencode(word) for word in sys.argv[1:])
if work == b"make":
    make_torture(source, as_root=False)
    image = back_up(source)
    assert image.codes() == ["client.unreadable"] * image.totals.problems, image.problems
    unreadable = sorted(problem.path.rpartition(b"/")[2].decode() for problem in image.problems)
    _, troubles = restore(image, target)
    print(json.dumps([unreadable, [str(trouble) for trouble in troubles]]))
else:
    from strongroom.client.restorer import Restorer
    from tests.unit.client.test_restorer import SomeEntropy
    kinds = Counter()
    def count(trouble):
        kinds[trouble.code + " " + trouble.kind] += 1
    totals = Restorer(target, count, SomeEntropy(), flush=False).restore(open(source, "rb"))
    print(json.dumps([totals.files, kinds]))
"""


def as_nobody(*words: str | Path) -> list[object]:
    done = subprocess.run([sys.executable, "-c", AS_NOBODY, *words], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found: list[object] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def torture(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Image]:
    source = tmp_path_factory.mktemp("t") / "s"
    make_torture(os.fsencode(source), as_root=True)
    return source, back_up(os.fsencode(source))


@as_root
def test_c1_every_kind_of_file_comes_back_as_it_was(torture: tuple[Path, Image], tmp_path: Path) -> None:
    source, image = torture
    assert image.problems == []
    _, troubles = restore(image, tmp_path / "r")
    assert troubles == []
    copy = inside(tmp_path / "r", source)
    assert differences(os.fsencode(source), os.fsencode(copy)) == ""
    caps = subprocess.run(["getcap", "-r", copy / "attributes"], check=True, capture_output=True, text=True).stdout
    assert caps.count(" cap_setuid,cap_net_raw=ep\n") == 2
    for file in (source / "holes").iterdir():
        # A small file is sent with its holes as zeros.
        assert (copy / "holes" / file.name).stat().st_blocks <= max(file.stat().st_blocks, 128), file


@as_root
@pytest.mark.parametrize("options", [["--acls", "--xattrs"], ["--xattrs", "--xattrs-include=*"]])
def test_m4_gnu_tar_restores_all_but_sockets(torture: tuple[Path, Image], tmp_path: Path, options: list[str]) -> None:
    source, image = torture
    target = tmp_path / "r"
    target.mkdir()
    troubles: list[Trouble] = []
    with (tmp_path / "tar").open("wb") as out:
        write_tar(image.restore_stream(), out, troubles.append)
    assert {(trouble.code, trouble.kind) for trouble in troubles} == {("client.unsupported", "socket")}
    assert len(troubles) == 5
    subprocess.run(
        ["tar", *options, "--numeric-owner", "-xpf", tmp_path / "tar"], cwd=target, check=True, capture_output=True
    )
    copy = inside(target, source)
    if "--acls" in options:
        # Without --xattrs-include, GNU tar restores of attributes those of users alone, and the access lists.
        for words in (["getfacl", "-Rpn", "."], ["getfattr", "-RPdh", "-m", "^user", "."]):
            there, here = (
                subprocess.run(words, cwd=each, check=True, capture_output=True).stdout.split(b"\n\n")
                for each in (source, copy)
            )
            assert set(there) - set(here) <= {part for part in there if b"socket" in part or b"special/bound" in part}
            assert set(here) <= set(there)
        return
    found = differences(os.fsencode(source), os.fsencode(copy))
    assert [line for line in found.splitlines() if "socket" not in line and "special/bound" not in line] == []


@as_root
def test_c1_an_ordinary_user_keeps_what_is_his(tmp_path: Path) -> None:
    let_others_have(tmp_path, NOBODY)
    source, target = tmp_path / "s", tmp_path / "r"
    unreadable, troubles = as_nobody("make", source, target)
    # What he may not read himself is named; all else is equal.
    assert unreadable == ["file-0000", "file-2070", "file-4000", "folder-0000", "folder-2070", "folder-4000"]
    assert troubles == []
    copy = inside(target, source)
    found = [
        line
        for line in differences(os.fsencode(source), os.fsencode(copy)).splitlines()
        if not any(f"file-{mode}" in line for mode in ("0000", "2070", "4000"))
    ]
    # The temporary folders above and the folder of those files are what is left: their times and link counts.
    assert found == []


@as_root
def test_c3_what_an_ordinary_user_may_not_restore_is_told_once_for_each_kind(
    torture: tuple[Path, Image], tmp_path: Path
) -> None:
    _, image = torture
    stream = tmp_path / "stream"
    stream.write_bytes(b"".join(image.restore_stream()))
    target = tmp_path / "r"
    target.mkdir()
    let_others_have(target, NOBODY)
    files, kinds = as_nobody("restore", stream, target)
    assert isinstance(kinds, dict)
    assert isinstance(files, int)
    assert set(kinds) == {
        "client.not-permitted owner",
        "client.not-permitted attribute trusted.*",
        "client.not-permitted attribute security.capability",
        "client.not-written character device",
        "client.not-written block device",
        "client.link-missing ",
    }
    # Two character devices, a block device, and one with two more names.
    assert files == len(image.files) - kinds["client.link-missing "] - 4


@contextmanager
def loop_mount(image: Path, at: Path, *options: str) -> Iterator[None]:
    with image.open("wb") as file:
        file.truncate(48 << 20)
    made = subprocess.run(["mkfs.ext4", "-q", *options, image], check=False, capture_output=True)
    at.mkdir()
    mounted = subprocess.run(["mount", "-o", "loop", image, at], check=False, capture_output=True)
    if made.returncode or mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", at], check=True)


@as_root
def test_c1_attributes_of_64_kib_are_kept(tmp_path: Path) -> None:
    """On ext4 with ``ea_inode``: a value may have 64 KiB, and a file many of them."""
    with loop_mount(tmp_path / "disk", tmp_path / "m", "-O", "ea_inode"):
        source = tmp_path / "m" / "s"
        source.mkdir()
        (source / "file").write_bytes(b"x")
        for number in range(20):
            os.setxattr(source / "file", f"user.{number:02d}", bytes([number]) * 65_536)
        os.setxattr(source, "trusted.folder", b"\xff" * 65_536)
        image = back_up(os.fsencode(source))
        assert image.problems == []
        _, troubles = restore(image, tmp_path / "m" / "r")
        assert troubles == []
        assert differences(os.fsencode(source), os.fsencode(inside(tmp_path / "m" / "r", source))) == ""


@as_root
def test_c1_flags_that_are_not_kept_are_told_once(tmp_path: Path) -> None:
    source = tmp_path / "s"
    (source / "folder").mkdir(parents=True)
    names = [source / name for name in ("a", "b", "log", "folder")]
    for name in names[:3]:
        name.write_bytes(b"x")
    try:
        for name, flag in zip(names, ("+i", "+i", "+a", "+i"), strict=True):
            if subprocess.run(["chattr", flag, name], check=False, capture_output=True).returncode:
                pytest.skip("the file system has no flags")
        image = back_up(os.fsencode(source))
    finally:
        subprocess.run(["chattr", "-ia", *names], check=False)
    assert sorted((problem.code, problem.message.partition(":")[0]) for problem in image.problems) == [
        ("client.not-kept", "1 file"),
        ("client.not-kept", "3 files"),
    ]
    _, troubles = restore(image, tmp_path / "r")
    assert troubles == []


def test_c1_name_of_an_i_node_that_was_given_to_another_file_is_no_link(tmp_path: Path) -> None:
    """While the backup runs, a file with two names is removed, and its i-node becomes that of another with two."""
    from strongroom.client.sender import Sender
    from strongroom.client.walker import Found, Walker
    from tests.support.image_loop import keep

    source = tmp_path / "s"
    source.mkdir()
    (source / "a").write_bytes(b"first")
    os.link(source / "a", source / "z")

    def walk() -> Iterator[Found]:
        inode = (source / "a").stat().st_ino
        for found in Walker(fail).walk([os.fsencode(source)]):
            if found.name == b"z":
                # As if the i-node were the old one: a file system gives it out again when it likes.
                (source / "z").unlink()
                (source / "z").write_bytes(b"other")
                os.link(source / "z", source / "zz")
                status = (source / "z").stat()
                found = Found(found.folder, found.name, found.path, _with_inode(status, inode))
            yield found

    sender = Sender(readers=0)
    image = keep(sender.blocks(walk()), sender.totals)
    restore(image, tmp_path / "r")
    copy = inside(tmp_path / "r", source)
    assert ((copy / "a").read_bytes(), (copy / "z").read_bytes()) == (b"first", b"other")


def _with_inode(status: os.stat_result, inode: int) -> os.stat_result:
    """Make the same status with another i-node."""
    kept: Any = status.__reduce__()[1]
    plain, extra = kept
    return os.stat_result((plain[0], inode, *plain[2:]), extra)


def test_c1_restored_devices_and_fifos_are_not_opened(tmp_path: Path) -> None:
    """A FIFO that is opened waits for somebody; one that replaces another is made as new."""
    source = tmp_path / "s"
    source.mkdir()
    os.mkfifo(source / "fifo", 0o600)
    image = back_up(os.fsencode(source))
    for _ in range(2):
        _, troubles = restore(image, tmp_path / "r", overwrite=_always())
        assert troubles == []
    assert inside(tmp_path / "r", source).joinpath("fifo").is_fifo()


def _always() -> object:
    from strongroom.client.restorer import Overwrite

    return Overwrite.ALWAYS
