"""Trees of files for tests, and comparing them by other people's programs."""

# ruff: noqa: PTH101, PTH103, PTH123, PTH211, S103 - names are bytes, and modes odd on purpose

from __future__ import annotations

import os
import random
import subprocess
import time
from pathlib import Path

from strongroom.cli.backing_up import CLOCK_TICK_NS
from strongroom.core.clock import to_ns
from strongroom.settings.system import SystemClock

IS_ROOT = os.geteuid() == 0


def rsync_differences(one: bytes | Path, other: bytes | Path) -> str:
    """List what rsync would change: contents, owners, modes, times, links, access lists, attributes."""
    return subprocess.run(
        [b"rsync", b"-naHAXc", b"--delete", b"--itemize-changes", os.fsencode(one) + b"/", os.fsencode(other) + b"/"],
        check=True,
        capture_output=True,
    ).stdout.decode(errors="backslashreplace")


def nanoseconds(root: bytes | Path) -> bytes:
    """List type, mode, owner, time in ns, size and link count of each file, by find, sorted."""
    listing = subprocess.run(
        [b"find", b".", b"-printf", rb"%p|%y|%m|%U:%G|%T@|%s|%n|%l\0"],
        cwd=os.fsencode(root),
        check=True,
        capture_output=True,
    ).stdout
    lines = listing.split(b"\0")
    # The size of a folder depends on what was in it before.
    plain = [line if b"|d|" not in line else b"|".join(line.split(b"|")[:5]) for line in lines]
    return b"\n".join(sorted(plain))


def let_age(root: Path) -> None:
    """Wait until nothing in a tree is so new that the backup after the next one reads it again."""
    newest = max(path.lstat().st_ctime_ns for path in (root, *root.rglob("*")))
    time.sleep(max(0, newest + CLOCK_TICK_NS - to_ns(SystemClock().now())) / 1e9 + 0.1)


def let_others_in(folder: Path) -> None:
    """Open a temporary folder, and those above it, to other users."""
    for each in [folder, *folder.parents]:
        mode = each.stat().st_mode
        if mode & 0o055 != 0o055:
            each.chmod(mode | 0o055)


def make_tree(root: Path) -> Path:
    """Make a tree with about everything that a file can have."""
    top = os.fsencode(root)
    rng = random.Random(20)  # noqa: S311 - contents of test files
    names = [
        b"plain",
        b"with\nnewline",
        b"invalid-\xff\xfe",
        b"bad-\xfe" * 40,
        b"\xc3\xa4\xe2\x82\xac",
        b"n" * 255,
        b"-dash",
        b"a b",
        b"*?[",
    ]
    os.makedirs(top + b"/dir/deeper/deepest", exist_ok=True)
    os.makedirs(top + b"/dir-sorts-before-its-contents")
    os.makedirs(top + b"/empty-folder")
    for name in names:
        _write(top + b"/" + name, rng.randbytes(rng.randrange(1, 5000)))
    _write(top + b"/empty", b"")
    _write(top + b"/dir/large", rng.randbytes((5 << 20) + 7))
    for number in range(300):
        _write(top + b"/dir/deeper/f%d" % number, b"contents %d" % number)
    os.link(top + b"/plain", top + b"/dir/deeper/deepest/linked")
    os.link(top + b"/dir/large", top + b"/dir-sorts-before-its-contents/linked")
    os.symlink(b"no/such\xff\ntarget", top + b"/dangling")
    os.symlink(b"x" * 300, top + b"/dir/long-link")
    os.symlink(b"dir", top + b"/to-dir")
    os.setxattr(top + b"/plain", "user.note", b"\0binary\n=\xff")
    os.setxattr(top + b"/dir", "user.a=b%", b"odd name")
    with open(top + b"/sparse", "wb") as sparse:
        sparse.seek(3 << 20)
        sparse.write(b"end of data")
        sparse.truncate(20 << 20)
    if IS_ROOT:
        os.chown(top + b"/empty", 12345, 54321)
        os.chown(top + b"/dangling", 1000, 1000, follow_symlinks=False)
        os.chown(top + b"/dir", 7, 8)
        os.setxattr(top + b"/a b", "trusted.t", b"for root")
        os.setxattr(top + b"/dangling", "trusted.link", b"of the link", follow_symlinks=False)
        os.setxattr(top + b"/a b", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
    subprocess.run([b"setfacl", b"-m", b"u:1234:r--", top + b"/*?["], check=True)
    subprocess.run([b"setfacl", b"-d", b"-m", b"u:1234:rwx", top + b"/empty-folder"], check=True)
    os.chmod(top + b"/-dash", 0o4755)
    os.chmod(top + b"/dir/deeper", 0o3771)
    os.chmod(top + b"/dir/deeper/deepest", 0o500)
    os.chmod(top + b"/empty", 0)
    os.utime(top + b"/plain", ns=(1, -1))
    os.utime(top + b"/empty", ns=(1, -12_345_678_987_654_321))
    os.utime(top + b"/-dash", ns=(1, -5_000_000_000))
    os.utime(top + b"/dangling", ns=(1, 1_234_567_890_123_456_789), follow_symlinks=False)
    os.utime(top + b"/dir/deeper", ns=(1, 999_999_999_999_999_999))
    os.utime(top + b"/dir", ns=(1, 1_000_000_001))
    os.utime(top, ns=(1, 1_111_111_111_111_111_111))
    return root


def _write(path: bytes, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
