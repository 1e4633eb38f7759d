"""C3: a restore on a target, a stream or a system that is against it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.client import file_systems, restorer
from strongroom.client.file_systems import FileSystems
from strongroom.client.problems import StreamLostError, TargetChangedError, TargetFullError, Trouble
from strongroom.client.restorer import Overwrite, Restorer
from strongroom.client.selection import Selection
from strongroom.client.sender import Totals
from strongroom.client.tar import ContentsLostError, tar_pieces
from strongroom.core.errors import IntegrityError
from strongroom.formats import entries, image_stream
from strongroom.formats.entries import Entry
from strongroom.formats.image_stream import Hole
from tests.formats.make_stream_vectors import block, record
from tests.support.image_loop import File, Image, Piece, back_up
from tests.support.trees import IS_ROOT, let_others_in


class SomeEntropy:
    def bytes(self, count: int) -> bytes:
        return b"\7" * count


def entry(
    path: bytes, kind: int = entries.REGULAR, size: int = 0, target: bytes | None = None, mode: int = 0o755
) -> Entry:
    return Entry(kind, path, mode, os.getuid(), os.getgid(), b"", b"", 5, 5, 1, 1, size, target)


def image(*files: Entry, data: bytes = b"") -> Image:
    kept = [File(found, pieces=[data[: found.size]] if found.size else []) for found in files]
    return Image(kept, [], Totals())


def restore(stream: Iterator[bytes], target: Path, *, overwrite: bool = False) -> list[Trouble]:
    troubles: list[Trouble] = []
    rule = Overwrite.ALWAYS if overwrite else Overwrite.NEVER
    Restorer(os.fsencode(target), troubles.append, SomeEntropy(), overwrite=rule, flush=False).restore(stream)
    return troubles


def all_names(target: Path) -> list[str]:
    return sorted(str(path.relative_to(target)) for path in target.rglob("*"))


@pytest.mark.parametrize("path", [b"/../evil", b"/a/../../evil", b"/./evil", b"//evil", b"evil", b"/evil\0"])
def test_c3_paths_that_lead_out_are_refused(tmp_path: Path, path: bytes) -> None:
    fields = [1, path, 0o644, 0, 0, b"", b"", 0, 0, 1, 1, 0, None, 0, [], []]
    stream = image_stream.MAGIC + block(2, record(*fields)) + image_stream.end(1, 0, 0)
    with pytest.raises(IntegrityError):
        restore(iter([stream]), tmp_path / "target")
    assert all_names(tmp_path) == ["target"]


def test_c3_link_in_the_stream_is_not_followed(tmp_path: Path) -> None:
    """A hostile stream makes a link, and then a file below it."""
    (tmp_path / "outside").mkdir()
    hostile = image(
        entry(b"/link", entries.SYMLINK, target=os.fsencode(tmp_path / "outside")),
        entry(b"/link/file", size=4),
        entry(b"/link/sub", entries.FOLDER),
        data=b"evil",
    )
    troubles = restore(hostile.restore_stream(), tmp_path / "target")
    assert [trouble.code for trouble in troubles] == ["client.unsafe-path"] * 2
    assert all_names(tmp_path / "outside") == []


def test_c3_hard_link_does_not_reach_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("mine")
    hostile = image(
        entry(b"/a", entries.SYMLINK, target=os.fsencode(tmp_path / "outside")),
        entry(b"/b", entries.HARD_LINK, target=b"/a/file"),
        entry(b"/c", entries.HARD_LINK, target=b"/a"),
    )
    troubles = restore(hostile.restore_stream(), tmp_path / "target")
    assert [trouble.code for trouble in troubles] == ["client.link-missing"]
    assert (tmp_path / "outside" / "file").stat().st_nlink == 1
    # A name more for the link itself: what it leads to is not touched.
    assert (tmp_path / "target" / "c").is_symlink()


def test_c3_stream_that_breaks_off_leaves_whole_files_only(tmp_path: Path) -> None:
    stream = b"".join(image(entry(b"/a", size=4), entry(b"/b", size=4), data=b"data").restore_stream())
    cut = stream[: stream.rindex(b"data") + 2]
    with pytest.raises(IntegrityError):
        restore(iter([cut]), tmp_path)
    assert all_names(tmp_path) == ["a"]


def test_c3_lost_connection_is_not_taken_for_a_bad_file(tmp_path: Path) -> None:
    def stream() -> Iterator[bytes]:
        yield b"".join(image(entry(b"/a", size=4), data=b"data").restore_stream())[:-30]
        raise ConnectionResetError(errno.ECONNRESET, "connection reset by peer")

    with pytest.raises(StreamLostError):
        restore(stream(), tmp_path)


def test_c3_full_target_ends_the_restore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "no space left on device")

    stream = image(entry(b"/a", size=4), data=b"data").restore_stream()
    monkeypatch.setattr(os, "write", write)
    with pytest.raises(TargetFullError):
        restore(stream, tmp_path)
    assert all_names(tmp_path) == []


def test_c3_records_before_the_contents_of_others_are_refused(tmp_path: Path) -> None:
    first, second = entries.encode(entry(b"/a", size=4)), entries.encode(entry(b"/b"))
    stream = image_stream.MAGIC + block(2, first) + block(2, second) + block(1, b"data") + image_stream.end(2, 4, 0)
    with pytest.raises(IntegrityError):
        restore(iter([stream]), tmp_path)


def test_c3_name_that_the_system_refuses_is_a_problem(tmp_path: Path) -> None:
    troubles = restore(image(entry(b"/" + b"x" * 300), entry(b"/y")).restore_stream(), tmp_path)
    assert [trouble.code for trouble in troubles] == ["client.not-written"]
    assert all_names(tmp_path) == ["y"]


def test_c3_existing_folder_keeps_its_mode_unless_overwritten(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir(0o700)
    restore(image(entry(b"/d", entries.FOLDER)).restore_stream(), tmp_path)
    assert (tmp_path / "d").stat().st_mode & 0o7777 == 0o700
    restore(image(entry(b"/d", entries.FOLDER)).restore_stream(), tmp_path, overwrite=True)
    assert (tmp_path / "d").stat().st_mode & 0o7777 == 0o755


@pytest.mark.parametrize(
    ("rule", "written", "codes"),
    [
        (Overwrite.NEVER, "", ["client.exists"] * 3),
        (Overwrite.OLDER, "older link", ["client.exists"]),
        (Overwrite.ALWAYS, "older newer link", []),
    ],
)
def test_c3_each_rule_replaces_what_it_says(tmp_path: Path, rule: Overwrite, written: str, codes: list[str]) -> None:
    moment = 10**18
    names = ("link", "newer", "older")
    files = [entry(b"/" + name.encode(), size=4) for name in names]
    for file in files:
        file.mtime = moment
    for name, age in (("newer", 1), ("older", -1)):
        (tmp_path / name).write_text("mine")
        os.utime(tmp_path / name, ns=(0, moment + age))
    (tmp_path / "link").symlink_to("newer")
    os.utime(tmp_path / "link", ns=(0, moment - 1), follow_symlinks=False)
    troubles: list[Trouble] = []
    restorer = Restorer(bytes(tmp_path), troubles.append, SomeEntropy(), overwrite=rule, flush=False)
    restorer.restore(image(*files, data=b"data").restore_stream())
    assert [trouble.code for trouble in troubles] == codes
    assert [name for name in ("older", "newer", "link") if (tmp_path / name).read_text() == "data"] == written.split()
    assert (tmp_path / "link").is_symlink() == ("link" not in written)


@pytest.mark.parametrize("rule", list(Overwrite))
def test_c3_folder_that_exists_is_set_by_the_same_rule(tmp_path: Path, rule: Overwrite) -> None:
    for name, age in (("newer", 10), ("older", 0)):
        (tmp_path / name).mkdir(0o700)
        os.utime(tmp_path / name, ns=(0, age))
    restorer = Restorer(bytes(tmp_path), lambda _: None, SomeEntropy(), overwrite=rule, flush=False)
    # Records of the time 5.
    folders = image(entry(b"/newer", entries.FOLDER), entry(b"/older", entries.FOLDER))
    restorer.restore(folders.restore_stream())
    modes = [(tmp_path / name).stat().st_mode & 0o7777 for name in ("older", "newer")]
    assert modes == {"never": [0o700, 0o700], "older": [0o755, 0o700], "always": [0o755, 0o755]}[rule]


def test_a_restore_ends_when_what_it_wrote_is_stable_and_waits_for_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    sync = FileSystems.sync

    def noted(self: FileSystems) -> None:
        synced.extend(self._folders)
        sync(self)

    monkeypatch.setattr(FileSystems, "sync", noted)
    monkeypatch.setattr(os, "sync", lambda: pytest.fail("other file systems are waited for"))
    one = image(entry(b"/a", size=4), data=b"data")
    Restorer(bytes(tmp_path / "t"), lambda _: None, SomeEntropy()).restore(one.restore_stream())
    assert synced == [tmp_path.stat().st_dev]


def test_c3_file_does_not_keep_an_access_list_that_its_folder_gave_it(tmp_path: Path) -> None:
    subprocess.run(["setfacl", "-d", "-m", "u:1234:rwx", tmp_path], check=True)
    restore(image(entry(b"/a")).restore_stream(), tmp_path)
    assert "system.posix_acl_access" not in os.listxattr(tmp_path / "a")
    assert (tmp_path / "a").stat().st_mode & 0o7777 == 0o755


def test_c3_new_folder_and_what_is_in_it_keep_no_access_list_that_the_target_gave_them(tmp_path: Path) -> None:
    subprocess.run(["setfacl", "-d", "-m", "u:1234:rwx", tmp_path], check=True)
    tree = (entry(b"/d", entries.FOLDER, mode=0o750), entry(b"/d/a", mode=0o640), entry(b"/d/b", mode=0o4755))
    restore(image(*tree).restore_stream(), tmp_path)
    for name, mode in (("d", 0o750), ("d/a", 0o640), ("d/b", 0o4755)):
        assert os.listxattr(tmp_path / name) == []
        assert (tmp_path / name).stat().st_mode & 0o7777 == mode


@pytest.mark.parametrize("masked", [0, 0o077])
def test_c3_modes_of_files_do_not_depend_on_the_umask(tmp_path: Path, masked: int) -> None:
    modes = (0o666, 0o4711, 0o400, 0o1777)
    tree = [entry(b"/d", entries.FOLDER), *(entry(b"/d/%d" % mode, mode=mode) for mode in sorted(modes, key=str))]
    before = os.umask(masked)
    try:
        restore(image(*tree, entry(b"/e/f", mode=0o644)).restore_stream(), tmp_path / "t")
        assert os.umask(masked) == masked
    finally:
        os.umask(before)
    assert all((tmp_path / "t/d" / str(mode)).stat().st_mode & 0o7777 == mode for mode in modes)
    assert (tmp_path / "t/e").stat().st_mode & 0o777 == 0o777 & ~masked


@pytest.mark.skipif(not IS_ROOT, reason="only root can give a folder to a group that it is not in")
def test_c3_file_in_a_folder_that_passes_on_its_group_gets_its_own(tmp_path: Path) -> None:
    os.chown(tmp_path, -1, 1234)
    tmp_path.chmod(0o2755)
    restore(image(entry(b"/d", entries.FOLDER), entry(b"/d/a"), entry(b"/d/b")).restore_stream(), tmp_path)
    assert {(tmp_path / "d" / name).stat().st_gid for name in "ab"} == {0}


@pytest.mark.skipif(not IS_ROOT, reason="only root can make files of others, and become another user")
def test_c3_restore_without_rights_drops_owners_and_set_id_bits(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "tool").write_bytes(b"x")
    (source / "tool").chmod(0o4755)
    stream = tmp_path / "stream"
    stream.write_bytes(b"".join(back_up(os.fsencode(source)).restore_stream()))
    target = tmp_path / "target"
    target.mkdir()
    os.chown(target, 65534, 65534)
    let_others_in(tmp_path)
    script = (
        "import os, sys\n"
        "from strongroom.client.restorer import Restorer\n"
        "from tests.unit.client.test_restorer import SomeEntropy\n"
        "os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)\n"
        "r = Restorer(os.fsencode(sys.argv[2]), lambda t: None, SomeEntropy(), flush=False)\n"
        "totals = r.restore(open(sys.argv[1], 'rb'))\n"
        "print(dict(totals.problems), totals.files)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, stream, target], check=True, capture_output=True, text=True)
    assert done.stdout == "{'client.not-permitted': 2} 2\n"
    tool = target / str(source / "tool")[1:]
    assert tool.stat().st_mode & 0o7777 == 0o755
    assert tool.stat().st_uid == 65534


def test_c3_hard_link_to_a_file_that_was_kept_is_not_made(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    pair = image(entry(b"/a", size=4), entry(b"/b", entries.HARD_LINK, target=b"/a"), data=b"data")
    troubles = restore(pair.restore_stream(), tmp_path)
    assert [trouble.code for trouble in troubles] == ["client.exists", "client.link-missing"]
    assert all_names(tmp_path) == ["a"]


def test_c3_folder_moved_away_during_the_restore_ends_it(tmp_path: Path) -> None:
    deep = b"/a" * 80
    target = tmp_path / "target"

    def stream() -> Iterator[bytes]:
        yield image_stream.MAGIC + block(2, entries.encode(entry(deep + b"/file")))
        target.joinpath(*["a"] * 11).rename(tmp_path / "moved")
        yield block(2, entries.encode(entry(b"/b"))) + image_stream.end(2, 0, 0)

    with pytest.raises(TargetChangedError):
        restore(stream(), target)
    assert not (tmp_path / "b").exists()


def test_c3_hard_link_to_a_file_that_was_not_selected_is_not_made(tmp_path: Path) -> None:
    pair = image(entry(b"/a", size=4), entry(b"/b", entries.HARD_LINK, target=b"/a"), data=b"data")
    (tmp_path / "a").write_text("from before")
    troubles: list[Trouble] = []
    selection = Selection([b"/b"])
    restorer = Restorer(bytes(tmp_path), troubles.append, SomeEntropy(), selection=selection, flush=False)
    restorer.restore(pair.restore_stream())
    assert [trouble.code for trouble in troubles] == ["client.link-missing"]
    assert all_names(tmp_path) == ["a"]


LOST = (
    image_stream.MAGIC
    + block(2, entries.encode(entry(b"/a", size=4)) + entries.encode(entry(b"/b", entries.HARD_LINK, target=b"/a")))
    + block(1, b"da")
    + image_stream.lost(2, "pool.frame-missing", "no container holds frame 'x'")
    + block(2, entries.encode(entry(b"/c", size=4)))
    + block(1, b"data")
    + image_stream.end(3, 8, 0)
)


def test_p1_file_with_lost_contents_is_named_and_not_made_and_the_next_comes(tmp_path: Path) -> None:
    troubles = restore(iter([LOST]), tmp_path)
    assert [(trouble.path, trouble.code) for trouble in troubles] == [
        (b"/a", "pool.frame-missing"),
        (b"/b", "client.link-missing"),
    ]
    assert "no container holds frame 'x'" in troubles[0].message
    assert all_names(tmp_path) == ["c"]


def test_p1_tar_never_holds_a_file_whose_contents_are_lost() -> None:
    with pytest.raises(ContentsLostError, match="/a"):
        list(tar_pieces(iter([LOST]), print))


def test_a_long_file_is_on_its_way_to_the_disk_while_the_rest_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[int, int]] = []

    def begin(fd: int, at: int, length: int) -> None:
        file_systems.begin_writing(fd, at, length)
        begun.append((at, length))

    monkeypatch.setattr(restorer, "BEGIN_BYTES", 1 << 20)
    monkeypatch.setattr(restorer, "begin_writing", begin)
    pieces: list[Piece] = [os.urandom(700_000), os.urandom(700_000), Hole(4 << 20), os.urandom(900_000), b"end"]
    size = sum(piece.length if isinstance(piece, Hole) else len(piece) for piece in pieces)
    long = Image([File(entry(b"/long", size=size), pieces=pieces)], [], Totals())
    restore(long.restore_stream(), tmp_path)
    whole = b"".join(bytes(piece.length) if isinstance(piece, Hole) else piece for piece in pieces)
    assert (tmp_path / "long").read_bytes() == whole
    assert begun == [(0, 1_400_000 + (4 << 20))]
