"""A tree with everything that a file can have, made with other people's programs, and compared by them."""

# ruff: noqa: PTH101, PTH102, PTH103, PTH118, PTH123, PTH211, S103 - names are bytes, and modes odd on purpose

from __future__ import annotations

import os
import random
import socket
import stat
import subprocess
from pathlib import Path

BLOCK = 4096
CAPABILITY = "cap_net_raw,cap_setuid=ep"
EARLIEST, LATEST = -(1 << 31), (1 << 34) - (1 << 31) - 1
"""Times in seconds that ext4 holds with i-nodes of 256 bytes: from 1901 to 2446."""


def make_torture(top: bytes, *, as_root: bool) -> None:
    """Make the tree.

    Args:
        top: a folder, which is made.
        as_root: with owners, devices, capabilities and ``trusted`` attributes, which an ordinary user may not make.
    """
    os.makedirs(top)
    _names(top + b"/names")
    _deep(top + b"/deep")
    _holes(top + b"/holes")
    _special(top + b"/special", as_root=as_root)
    _attributes(top + b"/attributes", as_root=as_root)
    _links(top + b"/links", as_root=as_root)
    if as_root:
        _owners(top + b"/owners")
    _modes(top + b"/modes")  # times and modes last: making files changes those of their folders
    _times(top + b"/times")


def differences(one: bytes, other: bytes) -> str:
    """List in which way two trees differ, by rsync, find and getfattr; empty when they are equal."""
    changes = subprocess.run(
        [b"rsync", b"-naHAXcDi", b"--delete", one + b"/", other + b"/"], check=True, capture_output=True
    ).stdout
    found = [line for line in changes.split(b"\n") if line]
    for listing in (_listing, _attribute_dump):
        a, b = listing(one), listing(other)
        found += [b"-" + line for line in sorted(a - b)] + [b"+" + line for line in sorted(b - a)]
    return b"\n".join(found).decode(errors="backslashreplace")


def _listing(root: bytes) -> set[bytes]:
    """Give type, mode, owner, time in ns, link count, target, and size or device numbers of each file."""
    lines = subprocess.run(
        [b"find", b".", b"-printf", rb"%p|%y|%m|%U:%G|%T@|%n|%l|%s\0"], cwd=root, check=True, capture_output=True
    ).stdout.split(b"\0")
    found = {line if b"|d|" not in line else line.rpartition(b"|")[0] for line in lines}
    for folder, _, names in os.walk(root):
        for name in names:
            status = os.lstat(os.path.join(folder, name))
            if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
                found.add(os.path.join(folder, name)[len(root) :] + b"|%x" % status.st_rdev)
    return found


def _attribute_dump(root: bytes) -> set[bytes]:
    """Give all extended attributes of all files, exactly."""
    dump = subprocess.run(
        [b"getfattr", b"-RPdh", b"-m", b"-", b"-e", b"hex", b"."], cwd=root, check=False, capture_output=True
    ).stdout
    return set(dump.split(b"\n\n"))


def _write(path: bytes, data: bytes = b"contents") -> bytes:
    with open(path, "wb") as file:
        file.write(data)
    return path


def _names(top: bytes) -> None:
    os.makedirs(top)
    for value in set(range(1, 256)) - {ord("/")}:
        _write(top + b"/n" + bytes([value]), b"%d" % value)
        if value != ord("."):
            _write(top + b"/" + bytes([value]))
    for name in (
        b"\xff" * 255,
        b"l" * 255,
        b"a\nb\n",
        b" ",
        b"...",
        b"-rf",
        b"\xc3\xa9",
        b"e\xcc\x81",
        b"\xed\xa0\x80",
    ):
        _write(top + b"/" + name, name)


def _deep(top: bytes) -> None:
    """Some 3,600 bytes of path: rsync takes no more than 4,096."""
    os.makedirs(top + b"/" + b"/".join(bytes([ord("a") + level]) * 255 for level in range(14)))
    at = top
    for level in range(14):
        at += b"/" + bytes([ord("a") + level]) * 255
        _write(at + b"/file")


def _holes(top: bytes) -> None:
    os.makedirs(top)
    data = random.Random(7).randbytes(BLOCK)  # noqa: S311 - contents of test files
    for name, size, places in (
        (b"all", 5 << 20, ()),
        (b"first", 1 << 20, (255 * BLOCK,)),
        (b"last", 1 << 20, (0,)),
        (b"middle", 3 << 20, (0, (3 << 20) - BLOCK)),
        (b"every second block", 64 * BLOCK, tuple(range(0, 64 * BLOCK, 2 * BLOCK))),
        (b"odd tail", (2 << 20) + 13, (BLOCK, 70 * BLOCK)),
        (b"small", 9 * BLOCK, (8 * BLOCK,)),
        (b"one byte", (9 << 20) + 1, ()),
    ):
        with open(top + b"/" + name, "wb") as file:
            file.truncate(size)
            for place in places:
                file.seek(place)
                file.write(data)


def _special(top: bytes, *, as_root: bool) -> None:
    os.makedirs(top)
    os.mkfifo(top + b"/fifo", 0o620)
    os.mknod(top + b"/socket", stat.S_IFSOCK | 0o755)
    bound = socket.socket(socket.AF_UNIX)
    folder = os.open(top, os.O_RDONLY)
    bound.bind(b"/proc/self/fd/%d/bound" % folder)
    bound.close()
    os.close(folder)
    if as_root:
        for name, kind, major, minor in (
            (b"null", stat.S_IFCHR, 1, 3),
            (b"loop", stat.S_IFBLK, 7, 99),
            (b"highest", stat.S_IFCHR, 4095, (1 << 20) - 1),
        ):
            os.mknod(top + b"/" + name, kind | 0o640, os.makedev(major, minor))
        os.chown(top + b"/fifo", 7, 8)
        os.chown(top + b"/null", 9, 10)
        os.chmod(top + b"/null", 0o6666)
        os.setxattr(top + b"/fifo", "trusted.of-a-fifo", b"\0\1")
    subprocess.run([b"setfacl", b"-m", b"u:1234:rw-", top + b"/fifo"], check=True)


def _attributes(top: bytes, *, as_root: bool) -> None:
    os.makedirs(top + b"/default")
    for name in (b"plain", b"listed", b"empty value", b"many"):
        _write(top + b"/" + name)
    os.setxattr(top + b"/plain", "user.binary", bytes(range(256)))
    os.setxattr(top + b"/plain", "user.a=b%\n", b"odd name")
    os.setxattr(top + b"/empty value", "user.empty", b"")
    for number in range(40):
        os.setxattr(top + b"/many", f"user.{number:03d}", b"%d" % number)
    subprocess.run([b"setfacl", b"-m", b"u:1234:rwx,g:99:r-x,g::-w-,m::r-x", top + b"/listed"], check=True)
    subprocess.run([b"setfacl", b"-m", b"u:7:---,d:u:1234:rwx,d:g:99:r-x,d:m::rwx", top + b"/default"], check=True)
    if as_root:
        for name in (b"capable", b"capable and setuid"):
            os.chown(_write(top + b"/" + name), 1234, 99)
            os.chmod(top + b"/" + name, 0o6755)
            subprocess.run([b"setcap", CAPABILITY.encode(), top + b"/" + name], check=True)
        os.setxattr(top + b"/plain", "trusted.t", b"for root")
        os.setxattr(top, "trusted.t", b"of a folder")


def _links(top: bytes, *, as_root: bool) -> None:
    os.makedirs(top + b"/a/b")
    os.makedirs(top + b"/z")
    _write(top + b"/a/file", b"linked")
    os.symlink(b"no/such\xff\n", top + b"/a/symlink")
    os.mkfifo(top + b"/a/fifo")
    os.mknod(top + b"/a/socket", stat.S_IFSOCK | 0o600)
    names = [b"file", b"symlink", b"fifo", b"socket"]
    if as_root:
        os.mknod(top + b"/a/device", stat.S_IFBLK | 0o600, os.makedev(7, 77))
        os.chown(top + b"/a/symlink", 1000, 1001, follow_symlinks=False)
        os.setxattr(top + b"/a/symlink", "trusted.link", b"its own", follow_symlinks=False)
        names.append(b"device")
    for name in names:
        for other in (b"/a/b/other-", b"/z/other-"):
            os.link(top + b"/a/" + name, top + other + name, follow_symlinks=False)
    os.symlink(b"x" * 4095, top + b"/longest")


def _owners(top: bytes) -> None:
    os.makedirs(top)
    for uid, gid in ((0, 0), (1, 65534), (65535, 65536), ((1 << 32) - 2, (1 << 32) - 2), (3_000_000, 5)):
        os.chown(_write(top + b"/%d" % uid), uid, gid)


def _modes(top: bytes) -> None:
    os.makedirs(top)
    for mode in (0o4755, 0o2755, 0o1644, 0o6711, 0o7777, 0o0, 0o4000, 0o2070):
        os.chmod(_write(top + b"/file-%04o" % mode), mode)
        os.mkdir(top + b"/folder-%04o" % mode)
        os.chmod(top + b"/folder-%04o" % mode, mode)


def _times(top: bytes) -> None:
    os.makedirs(top)
    for seconds in (EARLIEST, -1, 0, 1, (1 << 31) - 1, 1 << 31, (1 << 32) + 5, LATEST):
        for nanoseconds in (0, 1, 999_999_999):
            moment = seconds * 10**9 + nanoseconds
            path = top + b"/%d.%09d" % (seconds, nanoseconds)
            os.utime(_write(path), ns=(moment, moment))
            os.symlink(b"x", path + b"-link")
            os.utime(path + b"-link", ns=(moment, moment), follow_symlinks=False)
    os.mkfifo(top + b"/fifo")
    os.utime(top + b"/fifo", ns=(-5, -5))
    os.utime(top, ns=(-1_234_567_891, -1_234_567_891))


def let_others_have(folder: Path, uid: int) -> None:
    """Give a folder to another user, and let him reach it."""
    os.chown(folder, uid, uid)
    for each in [folder, *folder.parents]:
        mode = each.stat().st_mode
        if mode & 0o055 != 0o055:
            each.chmod(mode | 0o055)
