"""C1, C2: what the sender says about files that change, vanish, cannot be read, or did not change."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from strongroom.client.previous import Previous, previous_files
from strongroom.client.sender import Sender
from strongroom.client.walker import Found, Walker
from strongroom.formats import entries
from strongroom.formats.image_stream import Hole
from tests.support.image_loop import Image, back_up, keep
from tests.support.trees import IS_ROOT, let_others_in, make_tree


def write(file: Path, data: bytes) -> None:
    file.write_bytes(data)


def back_up_while(root: Path, name: bytes, act: Callable[[], None]) -> Image:
    """Back up, and act between the moment a file is listed and the moment it is opened."""
    sender = Sender(readers=0)

    def walk() -> Iterator[Found]:
        for found in Walker(sender.report).walk([os.fsencode(root)]):
            if found.name == name:
                act()
            yield found

    return keep(sender.blocks(walk()), sender.totals)


def act_when_read(monkeypatch: pytest.MonkeyPatch, file: Path, act: Callable[[], None]) -> None:
    """Act after the file was opened and looked at, before its first byte is read."""
    real_read, real_preadv, lock, done = os.read, os.preadv, threading.Lock(), threading.Event()
    inode = file.stat().st_ino

    def once(fd: int) -> None:
        with lock:
            if not done.is_set() and os.fstat(fd).st_ino == inode:
                act()
                done.set()

    def read(fd: int, length: int) -> bytes:
        once(fd)
        return real_read(fd, length)

    def preadv(fd: int, buffers: list[memoryview], at: int) -> int:
        once(fd)
        return real_preadv(fd, buffers, at)

    monkeypatch.setattr(os, "read", read)
    monkeypatch.setattr(os, "preadv", preadv)


def test_c1_file_that_vanished_is_a_problem_without_record(tmp_path: Path) -> None:
    (tmp_path / "gone").write_bytes(b"x")
    (tmp_path / "stays").write_bytes(b"y")
    image = back_up_while(tmp_path, b"gone", (tmp_path / "gone").unlink)
    assert image.codes() == ["client.vanished"]
    assert image.problems[0].path == os.fsencode(tmp_path / "gone")
    assert [file.entry.path for file in image.files] == [os.fsencode(tmp_path), os.fsencode(tmp_path / "stays")]


def test_c1_file_replaced_by_a_link_is_not_followed(tmp_path: Path) -> None:
    def swap() -> None:
        (tmp_path / "file").unlink()
        (tmp_path / "file").symlink_to("/etc/passwd")

    (tmp_path / "file").write_bytes(b"x")
    assert back_up_while(tmp_path, b"file", swap).codes() == ["client.vanished"]


def test_c1_file_replaced_by_a_fifo_does_not_hang(tmp_path: Path) -> None:
    def swap() -> None:
        (tmp_path / "file").unlink()
        os.mkfifo(tmp_path / "file")

    (tmp_path / "file").write_bytes(b"x")
    assert back_up_while(tmp_path, b"file", swap).codes() == ["client.vanished"]


def test_c1_folder_replaced_by_a_link_is_not_followed(tmp_path: Path) -> None:
    def swap() -> None:
        (tmp_path / "dir" / "file").unlink()
        (tmp_path / "dir").rmdir()
        (tmp_path / "dir").symlink_to("/etc")

    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "file").touch()
    image = back_up_while(tmp_path, b"dir", swap)
    assert "client.vanished" in image.codes()
    assert not [file for file in image.files if b"/dir/" in file.entry.path]


@pytest.mark.parametrize("size", [10_000, 6 << 20])
@pytest.mark.parametrize("readers", [0, 2])
def test_c1_shrinking_file_is_kept_as_far_as_it_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, readers: int
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * size)
    (tmp_path / "next").write_bytes(b"the bytes of the next file stay its own")
    act_when_read(monkeypatch, file, lambda: os.truncate(file, 1_000))
    image = back_up(os.fsencode(tmp_path), readers=readers)
    assert image.codes() == ["client.shrank"]
    kept = image.by_name(b"file")
    assert (kept.entry.size, kept.entry.flags) == (1_000, entries.CHANGED | entries.SHRANK)
    assert image.by_name(b"next").pieces == [b"the bytes of the next file stay its own"]


@pytest.mark.parametrize("size", [10_000, 6 << 20])
def test_c1_growing_file_is_read_up_to_its_size_at_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * size)
    act_when_read(monkeypatch, file, lambda: os.truncate(file, size + 5_000))
    image = back_up(os.fsencode(tmp_path), readers=0)
    assert image.codes() == ["client.changed"]
    kept = image.by_name(b"file")
    assert (kept.entry.size, kept.entry.flags) == (size, entries.CHANGED)


def test_c1_small_file_that_became_large_is_read_in_ranges(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x")
    image = back_up_while(tmp_path, b"file", lambda: write(file, b"y" * (3 << 20)))
    assert image.problems == []
    assert b"".join(bytes(p) for p in image.by_name(b"file").pieces if not isinstance(p, Hole)) == b"y" * (3 << 20)


def test_c1_medium_error_in_the_middle_keeps_what_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * (9 << 20))
    real = os.preadv

    def preadv(fd: int, buffers: list[memoryview], at: int) -> int:
        if at >= 4 << 20:
            raise OSError(5, "Input/output error")
        return real(fd, buffers, at)

    monkeypatch.setattr(os, "preadv", preadv)
    image = back_up(os.fsencode(tmp_path))
    assert image.codes() == ["client.unreadable"]
    kept = image.by_name(b"file").entry
    assert (kept.size, kept.flags) == (4 << 20, entries.CHANGED | entries.SHRANK)


def test_c1_time_that_no_record_can_have_is_told_once(tmp_path: Path) -> None:
    """A file system in memory has them."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        for name in ("a", "b"):
            file = Path(folder, name)
            file.write_bytes(b"x")
            os.utime(file, ns=(0, 1 << 64))
        if file.stat().st_mtime_ns != 1 << 64:
            pytest.skip("the file system has no such time")
        image = back_up(os.fsencode(folder))
    assert [(problem.code, problem.message[:8]) for problem in image.problems] == [("client.not-kept", "2 files:")]
    assert image.by_name(b"a").entry.mtime == (1 << 64) - 1


@pytest.mark.skipif(not IS_ROOT, reason="only root can become another user")
def test_c1_unreadable_files_are_reported(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"x")
    (tmp_path / "secret").chmod(0o600)
    (tmp_path / "closed").mkdir(0o700)
    (tmp_path / "open").write_bytes(b"y")
    script = (
        "import os, sys\n"
        "from tests.support.image_loop import back_up\n"
        "from strongroom.client.walker import Walker\n"
        "os.setgroups([]); os.setresgid(65534, 65534, 65534)\n"
        "os.chdir(sys.argv[1]); os.setresuid(65534, 65534, 65534)\n"
        "image = back_up(os.fsencode(sys.argv[1]))\n"
        "print(sorted((p.code, os.path.basename(p.path).decode()) for p in image.problems))\n"
        "print([os.path.basename(f.entry.path).decode() for f in image.files][1:])\n"
    )
    let_others_in(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path], check=True, capture_output=True, text=True, cwd=Path.cwd()
    )
    assert done.stdout.splitlines() == [
        "[('client.unreadable', 'closed'), ('client.unreadable', 'secret')]",
        "['closed', 'open']",
    ]


def test_c1_second_name_stands_for_a_file_whose_first_is_gone(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"contents")
    os.link(tmp_path / "a", tmp_path / "b")
    os.link(tmp_path / "a", tmp_path / "c")
    image = back_up_while(tmp_path, b"a", (tmp_path / "a").unlink)
    assert image.codes() == ["client.vanished"]
    assert image.by_name(b"b").entry.type == entries.REGULAR
    assert image.by_name(b"b").pieces == [b"contents"]
    assert image.by_name(b"c").entry.target == os.fsencode(tmp_path / "b")


def test_c1_many_attributes_go_into_records_of_their_own() -> None:
    attributes = [(b"user.%04d" % number, bytes(60_000)) for number in range(30)]
    entry = entries.Entry(1, b"/f", 0o644, 0, 0, b"", b"", 0, 0, 1, 1, 0)
    found = list(entries.split(entries.encode_with_attributes(entry, list(attributes))))
    assert isinstance(found[0], entries.Entry)
    assert found[0].flags == entries.ATTRIBUTES_FOLLOW
    rest = [record.attributes for record in found[1:] if isinstance(record, entries.MoreAttributes)]
    assert [tuple(pair) for part in rest for pair in part] == attributes
    assert len(rest) > 2


def test_c2_unchanged_files_are_not_read_again(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    first = back_up(os.fsencode(tree))
    (tree / "dir" / "deeper" / "f7").write_bytes(b"changed!!!")
    (tree / "dir" / "deeper" / "f7a").write_bytes(b"new")
    (tree / "dir" / "deeper" / "f8").unlink()
    second = back_up(os.fsencode(tree), previous=first)
    assert second.problems == []
    assert second.totals.read_bytes == len(b"changed!!!new")
    assert second.totals.content == second.totals.same_bytes + second.totals.read_bytes
    full = back_up(os.fsencode(tree))
    assert [(f.entry, f.more) for f in second.files] == [(f.entry, f.more) for f in full.files]
    assert [contents(f.pieces) for f in second.files] == [contents(f.pieces) for f in full.files]


def contents(pieces: list[bytes | Hole]) -> bytes:
    return b"".join(bytes(piece.length) if isinstance(piece, Hole) else piece for piece in pieces)


def test_c2_file_changed_while_it_was_read_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 1000)
    first = back_up(os.fsencode(tmp_path))
    first.by_name(b"file").entry.flags = entries.CHANGED
    assert back_up(os.fsencode(tmp_path), previous=first).totals.read_bytes == 1000


def test_c2_file_written_in_the_moment_of_the_previous_backup_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 1000)
    first = back_up(os.fsencode(tmp_path))
    ctime = file.stat().st_ctime_ns
    assert back_up(os.fsencode(tmp_path), previous=first, read_again_from_ns=ctime).totals.read_bytes == 1000
    assert back_up(os.fsencode(tmp_path), previous=first, read_again_from_ns=ctime + 1).totals.read_bytes == 0


def test_c2_previous_files_come_from_their_stream(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    first = back_up(os.fsencode(tree))
    stream = b"".join(first.previous_stream())
    pieces = [stream[at : at + 777] for at in range(0, len(stream), 777)]
    sender = Sender(Previous(previous_files(pieces), None))
    image = keep(sender.blocks(Walker(sender.report).walk([os.fsencode(tree)])), sender.totals, first)
    assert image.totals.read_bytes == 0


def test_descriptors_are_closed_also_when_a_backup_is_given_up(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    before = len(list(Path("/proc/self/fd").iterdir()))
    sender = Sender()
    blocks = sender.blocks(Walker(sender.report).walk([os.fsencode(tree)]))
    next(blocks)
    next(blocks)
    blocks.close()  # type: ignore[attr-defined]
    back_up(os.fsencode(tree))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def peak_kib(script: str, *arguments: Path) -> int:
    """Run a script of its own, and give the most memory it had beyond the imports."""
    measured = (
        "import os, sys\n"
        "from strongroom.client.sender import Sender\nfrom strongroom.client.walker import Walker\n"
        "from strongroom.client.tar import tar_pieces\nfrom tests.support.memory import peak_kib\n"
        "start = peak_kib()\n"
        f"{script}\n"
        "print(peak_kib() - start)\n"
    )
    done = subprocess.run([sys.executable, "-c", measured, *arguments], check=True, capture_output=True, text=True)
    return int(done.stdout)


SEND = (
    "s = Sender()\n"
    "total = sum(map(len, s.blocks(Walker(s.report).walk([os.fsencode(sys.argv[1])]))))\n"
    "assert s.totals.problems == 0\n"
)


def test_memory_does_not_grow_with_a_file_of_5_gib(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        for at in range(0, 5 << 30, 512 << 20):
            file.seek(at)
            file.write(b"x" * 4096)
        file.truncate(5 << 30)
    assert peak_kib(SEND + "assert s.totals.content == 5 << 30", tmp_path / "huge") < 40 << 10


def test_memory_of_a_folder_is_that_of_its_names(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    os.close(os.open(b"first", os.O_WRONLY | os.O_CREAT, dir_fd=fd))
    for number in range(50_000):
        os.mknod(b"name-of-20-bytes-%d" % number, 0o600, dir_fd=fd)
    os.close(fd)
    walk = "assert sum(1 for _ in Walker(print).walk([os.fsencode(sys.argv[1])])) == 50_002"
    assert peak_kib(walk, tmp_path) < 6 << 10
