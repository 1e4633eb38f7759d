"""What processes do to files, as strace(1) tells it: which calls are recorded, and how a record is read.

All strings are in hexadecimal (``-xx``), so that whatever a name or a file holds, a line can be taken apart by its
punctuation. Calls that overlap are told in two lines; here they are one, with the line where each began and ended.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

LONGEST_STRING: Final = 64 << 20
CREATING: Final = ("open", "openat", "openat2", "creat")
WRITING: Final = ("write", "pwrite64", "writev", "pwritev", "pwritev2")
SIZING: Final = ("ftruncate", "truncate", "fallocate")
NAMING: Final = (
    "rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat", "unlink", "unlinkat", "mkdir",
    "mkdirat", "rmdir", "mknod", "mknodat", "bind",
)  # fmt: skip
SYNCING: Final = ("fsync", "fdatasync", "sync_file_range", "syncfs", "sync", "msync")
MODES: Final = ("chmod", "fchmod", "fchmodat", "fchmodat2")
DESCRIPTORS: Final = (
    "dup", "dup2", "dup3", "fcntl", "lseek", "clone", "clone3", "fork", "vfork",
)  # fmt: skip
UNMODELLED: Final = (
    "copy_file_range", "sendfile", "splice", "vmsplice", "io_uring_setup", "setxattr", "fsetxattr", "lsetxattr",
)  # fmt: skip
"""Recorded so that a program that begins to use them is noticed, and not believed."""
MAPPING: Final = ("mmap",)

_LINE: Final = re.compile(r"(\d+)\s+(.*)", re.DOTALL)
_UNFINISHED: Final = " <unfinished ...>"
_RESUMED: Final = re.compile(r"<\.\.\. (\w+) resumed>")
_CALL: Final = re.compile(r"(\w+)\((.*)\)\s+= (-?\d+|0x[0-9a-f]+|\?)(.*)", re.DOTALL)
_ARGUMENT: Final = re.compile(r'(?:"[^"]*"|\[[^\]]*\]|\{[^}]*\}|<[^>]*>|[^,"\[{<])+')
_STRING: Final = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')
_DESCRIPTOR: Final = re.compile(r"(-?\d+|AT_FDCWD)(?:<((?:\\x[0-9a-f]{2})*)>)?(\(deleted\))?")


class Call(NamedTuple):
    """One call that succeeded.

    Attributes:
        process: the thread that made it.
        name: of the call.
        arguments: as strace writes them.
        result: what it returned.
        path: of the descriptor that it returned, if it did.
        begun: number of the line where it began.
        ended: number of the line where it ended.
    """

    process: int
    name: str
    arguments: list[str]
    result: int
    path: bytes | None
    begun: int
    ended: int


class UnreadableRecordError(Exception):
    """The record holds a line that this module does not understand, so nothing may be concluded from it."""


def command(record: Path, *program: str) -> list[str]:
    """Give the command that runs a program and records it and all that it starts."""
    recorded = (*CREATING, *WRITING, *SIZING, *NAMING, *SYNCING, *MODES, *DESCRIPTORS, *UNMODELLED, *MAPPING)
    return [
        "strace", "--follow-forks", "--seccomp-bpf", "--decode-fds=path", "--strings-in-hex=all",
        f"--string-limit={LONGEST_STRING}", f"--trace={','.join(f'?{name}' for name in recorded)}", "--signal=none",
        f"--output={record}", "--", *program,
    ]  # fmt: skip


def calls(lines: Iterable[str]) -> Iterator[Call]:
    """Read a record; give the calls that succeeded, in the order in which they ended.

    Raises:
        UnreadableRecordError: a line cannot be read, or was cut short.
    """
    waiting: dict[int, tuple[int, str]] = {}
    for number, line in enumerate(lines):
        match = _LINE.fullmatch(line.rstrip("\n"))
        if match is None:
            raise UnreadableRecordError(f"line {number + 1} has no process: {line[:200]!r}")
        process, said = int(match[1]), match[2]
        if said.startswith(("+++", "---")):
            waiting.pop(process, None)
            continue
        if said.endswith(_UNFINISHED):
            waiting[process] = (number, said.removesuffix(_UNFINISHED))
            continue
        begun = number
        if resumed := _RESUMED.match(said):
            if process not in waiting:
                continue  # it began before the recording did
            begun, first = waiting.pop(process)
            said = first + said[resumed.end() :]
        found = _CALL.fullmatch(said)
        if found is None:
            raise UnreadableRecordError(f"line {number + 1} is no call: {said[:200]!r}")
        if found[3] == "?" or found[3].startswith("-"):
            continue
        returned = _DESCRIPTOR.match(found[3] + found[4])
        path = unhex(returned[2]) if returned and returned[2] is not None else None
        arguments = [item.strip() for item in _ARGUMENT.findall(found[2])]
        yield Call(process, found[1], arguments, int(found[3], 0), path, begun, number)


def unhex(text: str) -> bytes:
    r"""Read ``\x61\x62``."""
    return bytes.fromhex(text.replace("\\x", ""))


def string(argument: str) -> bytes:
    """Read a string argument.

    Raises:
        UnreadableRecordError: it is none, or strace left its end out.
    """
    match = _STRING.fullmatch(argument)
    if match is None or match[2]:
        raise UnreadableRecordError(f"no whole string: {argument[:100]!r}")
    return unhex(match[1])


def strings(argument: str) -> list[bytes]:
    """Read all strings in an array or a structure."""
    return [string(match[0]) for match in _STRING.finditer(argument)]


def descriptor(argument: str) -> tuple[int | None, bytes | None, bool]:
    """Read a descriptor: its number (None for the current folder), its path, whether that name is gone.

    Raises:
        UnreadableRecordError: it is none.
    """
    match = _DESCRIPTOR.fullmatch(argument)
    if match is None:
        raise UnreadableRecordError(f"no descriptor: {argument[:100]!r}")
    number = None if match[1] == "AT_FDCWD" else int(match[1])
    return number, None if match[2] is None else unhex(match[2]), match[3] is not None
