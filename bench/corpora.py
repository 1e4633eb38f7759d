"""The data that is backed up: made here, the same on every machine that has the same Debian packages.

SRC is the kernel's source tree, BIG two large images, RAND what cannot be compressed. The second generations are made
in place, because a program takes a file for unchanged by its path, inode and times.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_SEED = 0x5712
_MIB = 1 << 20
_PACKAGE = "linux-source-6.1"
_MOVED_FOLDERS = ("drivers/net/wireless", "sound/soc", "arch/mips")
_PAGE_BYTES = 8_192


NAMES = ("SRC", "BIG", "RAND")


def make(folder: Path, name: str, *, big_mib: int = 2_048, rand_mib: int = 1_024) -> Path:
    """Make a corpus anew, in its first generation.

    Args:
        folder: where to; the downloaded package is kept there.
        name: of the corpus, and of its folder.
        big_mib: length of BIG, which takes its text from SRC.
        rand_mib: length of RAND.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if name == "RAND":
        return _make_rand(folder / name, rand_mib)
    package = _download(folder / "package")
    src = folder / "SRC"
    if name == "SRC" or not src.exists():
        _unpack(package, src)
    return src if name == "SRC" else _make_big(folder / name, src, package, big_mib)


def facts(top: Path) -> dict[str, int]:
    """Count files and bytes, and read every byte once, so that the next reader finds them in memory."""
    files = total = 0
    for path in _files(top):
        files += 1
        total += path.stat().st_size
        with path.open("rb", buffering=0) as file:
            while file.read(4 * _MIB):
                pass
    return {"files": files, "bytes": total}


def change_tree(top: Path) -> None:
    """Make the second generation of SRC.

    2 % of the files change (half of them by an insertion), 0.5 % move, 0.3 % go, 0.3 % are new, three folders move.
    """
    draw = random.Random(_SEED + 3)
    files = sorted(_files(top))
    count = len(files)
    chosen = iter(draw.sample(files, count * 28 // 1_000))
    for _ in range(count * 20 // 1_000):
        path = next(chosen)
        _rewrite(path, _edited(path.read_bytes(), draw))
    for _ in range(count * 5 // 1_000):
        path = next(chosen)
        path.rename(draw.choice(files).parent / f"moved-{path.name}")
    for _ in range(count * 3 // 1_000):
        next(chosen).unlink()
    folders = sorted({path.parent for path in files if path.parent.is_dir()})
    for number in range(count * 3 // 1_000):
        text = draw.randbytes(draw.randrange(16, 16_384)).hex()
        (draw.choice(folders) / f"new-{number}.txt").write_text(text, encoding="ascii")
    for name in _MOVED_FOLDERS:
        folder = top / name
        folder.rename(folder.with_name(f"moved-{folder.name}"))


def change_images(top: Path, edits: int = 200) -> None:
    """Make the second generation of BIG: insertions and deletions of up to 64 KiB at random places."""
    draw = random.Random(_SEED + 4)
    files = sorted(_files(top))
    total = sum(path.stat().st_size for path in files)
    places = sorted(draw.randrange(total) for _ in range(edits))
    start = 0
    for path in files:
        length = path.stat().st_size
        own = [place - start for place in places if start <= place < start + length]
        changed = path.with_name(path.name + ".changed")
        with path.open("rb") as old, changed.open("wb") as new:
            for place in own:
                _copy(old, new, max(0, place - old.tell()))
                if draw.random() < 0.5:
                    new.write(draw.randbytes(draw.randrange(1, 64 << 10)))
                else:
                    old.seek(draw.randrange(1, 64 << 10), os.SEEK_CUR)
            shutil.copyfileobj(old, new, 4 * _MIB)
        changed.rename(path)
        start += length


def _download(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if not list(folder.glob("*.deb")):
        subprocess.run(["apt-get", "download", "-qq", _PACKAGE], cwd=folder, check=True)
    (package,) = folder.glob("*.deb")
    return package


def _unpack(package: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        subprocess.run(["dpkg-deb", "-x", str(package), scratch], check=True)
        (archive,) = Path(scratch).glob("usr/src/*.tar.xz")
        subprocess.run(["tar", "-xJf", str(archive), "-C", str(target), "--strip-components=1"], check=True)
    return target


def _make_big(target: Path, src: Path, package: Path, mib: int) -> Path:
    """Two images: one as of a disk (programs, text, packed data, zeros, random, repeats), one as of a database."""
    draw = random.Random(_SEED + 1)
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    total = mib * _MIB
    disk = target / "disk.img"
    with disk.open("wb+") as out:
        _pour(out, _files(Path("/usr/lib")), total * 42 // 100)
        _pour(out, _files(src), total * 8 // 100)
        _pour(out, iter([package]), total * 6 // 100)
        out.write(bytes(total * 5 // 100))
        _pour_random(out, draw, total * 5 // 100)
        filled = out.tell()
        while (left := total * 3 // 4 - out.tell()) > 0:
            _repeat(out, disk, draw, filled, min(left, draw.randrange(256 << 10, 16 * _MIB)))
    with (target / "database.img").open("wb") as out:
        number = 0
        while (left := total // 4 - out.tell()) > 0:
            if draw.random() < 0.25:
                _repeat(out, disk, draw, total * 3 // 4, min(left, draw.randrange(64 << 10, 8 * _MIB)))
                continue
            rows = draw.randbytes(3_072).hex().encode("ascii")
            out.write((b"PAGE%016d" % number + rows).ljust(_PAGE_BYTES, b"\0")[:left])
            number += 1
    return target


def _make_rand(target: Path, mib: int) -> Path:
    target.mkdir(exist_ok=True)
    with (target / "random.bin").open("wb") as out:
        _pour_random(out, random.Random(_SEED + 2), mib * _MIB)
    return target


def _pour(out: BinaryIO, paths: Iterator[Path], quota: int) -> None:
    """Write the contents of files one behind the other, each at a multiple of 512 bytes as in an archive."""
    for path in paths:
        if quota <= 0:
            return
        with path.open("rb") as file:
            data = file.read(quota)
        quota -= out.write(data.ljust(-(-len(data) // 512) * 512, b"\0"))


def _pour_random(out: BinaryIO, draw: random.Random, length: int) -> None:
    while length > 0:
        length -= out.write(draw.randbytes(min(length, 4 * _MIB)))


def _repeat(out: BinaryIO, source: Path, draw: random.Random, within: int, length: int) -> None:
    """Write a stretch that is there already, from a place that is a multiple of nothing."""
    out.flush()
    with source.open("rb") as file:
        file.seek(draw.randrange(max(1, within - length)))
        out.write(file.read(length))


def _edited(data: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(data) + 1)
    text = draw.randbytes(draw.randrange(1, 2_048)).hex().encode("ascii")
    (how,) = draw.choices(("insert", "overwrite", "append", "cut"), (55, 25, 15, 5))
    if how == "insert":
        return data[:place] + text + data[place:]
    if how == "overwrite":
        return data[:place] + text + data[place + len(text) :]
    return data + text if how == "append" else data[:place]


def _rewrite(path: Path, data: bytes) -> None:
    """Write as editors do: a new file takes the old one's name."""
    changed = path.with_name(path.name + ".changed")
    changed.write_bytes(data)
    changed.chmod(stat.S_IMODE(path.stat().st_mode))
    changed.rename(path)


def _copy(source: BinaryIO, out: BinaryIO, length: int) -> None:
    while length > 0 and (data := source.read(min(length, 4 * _MIB))):
        length -= out.write(data)


def _files(top: Path) -> Iterator[Path]:
    """Give the regular files below a folder, in order."""
    for folder, folders, names in os.walk(top):
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            if stat.S_ISREG(path.lstat().st_mode):
                yield path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("name", choices=NAMES)
    asked = parser.parse_args()
    make(asked.folder, asked.name)
