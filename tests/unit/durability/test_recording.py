"""P1: what strace tells is read as it was, and what cannot be read is not believed."""

from __future__ import annotations

from pathlib import Path

import pytest

from durability import steps
from durability.model import Draw
from durability.recording import Recording
from durability.strace import UnreadableRecordError, calls

TOP = "/w"


def x(text: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in text.encode())


def opened(pid: int, number: int, path: str, flags: str = "O_WRONLY|O_CREAT") -> str:
    return f'{pid} openat(AT_FDCWD<{x("/")}>, "{x(path)}", {flags}, 0600) = {number}<{x(path)}>'


def wrote(pid: int, number: int, path: str, data: str) -> str:
    return f'{pid} write({number}<{x(path)}>, "{x(data)}", {len(data)}) = {len(data)}'


def files(*lines: str, draw: str = "all") -> dict[str, bytes]:
    recording = Recording(Path(TOP), Path("/marks"))
    recording.read(f"{line}\n" for line in lines)
    found = recording.disk.after_cut(1 << 60, Draw(draw))
    names = found.names[found.root]
    return {name.decode(): bytes(found.contents[node]) for name, node in names.items()}


def test_calls_that_overlap_are_joined_and_keep_their_beginning() -> None:
    lines = [
        f"7 fsync(3<{x('/w/a')}> <unfinished ...>",
        f"8 close(4<{x('/w/b')}>) = 0",
        "7 <... fsync resumed>) = 0",
        "7 +++ exited with 0 +++",
    ]
    found = {call.name: (call.begun, call.ended) for call in calls(lines)}
    assert found == {"close": (1, 1), "fsync": (0, 2)}


def test_calls_that_failed_or_never_returned_are_left_out() -> None:
    lines = [
        '7 unlink("\\x61") = -1 ENOENT (No such file or directory)',
        "7 fsync(3) = ?",
        "7 write(3, <unfinished ...>",
    ]
    assert list(calls(lines)) == []


@pytest.mark.parametrize("line", ["what is this", "7 nonsense", '7 write(3<\\x2f\\x77\\x2f\\x61>, "\\x61"..., 9) = 9'])
def test_a_record_that_cannot_be_read_is_refused(line: str) -> None:
    with pytest.raises(UnreadableRecordError):
        files(opened(7, 3, "/w/a"), f"{line}")


@pytest.mark.parametrize(
    "line",
    [
        f"7 copy_file_range(3<{x('/w/a')}>, NULL, 3<{x('/w/a')}>, NULL, 9, 0) = 9",
        f"7 mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_SHARED, 3<{x('/w/a')}>, 0) = 0x7f0000000000",
        f"7 fallocate(3<{x('/w/a')}>, FALLOC_FL_PUNCH_HOLE, 0, 9) = 0",
        f'7 rename("{x("/w/a")}", "{x("/elsewhere")}") = 0',
    ],
    ids=["copy_file_range", "mapped", "punched", "renamed away"],
)
def test_what_the_model_does_not_know_is_refused_on_our_files(line: str) -> None:
    with pytest.raises(UnreadableRecordError):
        files(opened(7, 3, "/w/a"), line)


def test_files_of_others_do_not_count() -> None:
    assert files(opened(7, 3, "/elsewhere/a"), wrote(7, 3, "/elsewhere/a", "x")) == {}


def test_descriptors_are_copied_shared_by_threads_and_inherited_with_one_place_in_the_file() -> None:
    clone = "7 clone(child_stack=NULL, flags=CLONE_CHILD_CLEARTID|SIGCHLD) = 9"
    thread = "7 clone3({flags=CLONE_VM|CLONE_FILES|CLONE_THREAD}, 88) = 8"
    lines = [
        opened(7, 3, "/w/a"),
        wrote(9, 3, "/w/a", "child "),  # the child may be told of before its parent's call returns
        clone,
        f"7 dup(3<{x('/w/a')}>) = 5<{x('/w/a')}>",
        thread,
        wrote(8, 5, "/w/a", "thread "),
        wrote(7, 3, "/w/a", "parent"),
    ]
    assert files(*lines) == {"a": b"child thread parent"}


def test_a_file_without_a_name_is_still_written_to() -> None:
    gone = f'7 write(3<{x("/w/a")}>(deleted), "{x("more")}", 4) = 4'
    link = f'7 link("{x("/w/a")}", "{x("/w/b")}") = 0'
    unlink = f'7 unlink("{x("/w/a")}") = 0'
    assert files(opened(7, 3, "/w/a"), wrote(7, 3, "/w/a", "x"), link, unlink, gone) == {"b": b"xmore"}


def test_a_file_that_is_opened_to_append_is_written_to_at_its_end() -> None:
    one = (opened(7, 3, "/w/a"), wrote(7, 3, "/w/a", "one "))
    two = (opened(7, 4, "/w/a", "O_WRONLY|O_CREAT|O_APPEND"), wrote(7, 4, "/w/a", "two"))
    assert files(*one, *two) == {"a": b"one two"}


def test_an_acknowledgement_is_a_step_of_its_own() -> None:
    recording = Recording(Path(TOP), Path("/marks"))
    recording.read([opened(7, 3, "/marks"), wrote(7, 3, "/marks", "done")])
    assert recording.marks == [(1, b"done")]


@pytest.mark.parametrize(
    ("call", "name"),
    [
        ("fsync /h/pools/main/incoming/0a1b", "pool: bytes are made stable"),
        ("link /h/pools/main/containers/ab/abcd", "pool: the object gets its name"),
        ("fsync /h/pools/main/images/ab", "pool: the name of an image, or its absence, is made stable"),
        ("fdatasync /h/catalog.db-wal", "catalog: a transaction is made stable"),
        ("write ", "something for a socket or a pipe"),
    ],
)
def test_steps_have_names(call: str, name: str) -> None:
    assert steps.name_of(call) == name
