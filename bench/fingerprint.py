"""What clear lengths in a pool tell of files that somebody knows, and what would hide it: ``make bench-fingerprint``.

Half of a corpus's folders are backed up, encrypted, by the product's own client and pool. Then somebody without any
key, who has the pool's containers and the whole corpus, guesses from the footers alone which of its files are there.
What he says of the other half are false hits. The same with cut points that depend on a secret, which are made by a
prototype in C, compiled here; and the price of padded frames.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from rich.console import Console
from rich.table import Table

from strongroom.client.sender import OWN_SEGMENTS_BYTES
from strongroom.core.ids import SegmentName
from strongroom.formats.segment import NAME_BYTES, PAYLOAD_CHUNKS
from strongroom.pool.chunker import Chunker
from strongroom.pool.containers import list_containers, read_contents
from tests.support.vault import Vault

Cut: TypeAlias = Callable[[bytes], list[int]]
"""Gives the lengths of the segments of what is cut by itself."""

_NO_NAME: Final = SegmentName(bytes(NAME_BYTES))
_KEYED: Final = """
#include <stddef.h>
#include <stdint.h>
size_t cut(const uint8_t *data, size_t length, const uint64_t *gear, uint32_t *lengths) {
    const size_t least = MINIMUM, usual = AVERAGE, most = MAXIMUM;
    const uint64_t strict = ~0ULL << (64 - BITS - 2), loose = ~0ULL << (64 - BITS + 2);
    size_t count = 0;
    for (size_t begin = 0; begin < length;) {
        size_t left = length - begin, end = left < most ? left : most, at = least;
        uint64_t hash = 0;
        for (; at < end; at++) {
            hash = (hash << 1) + gear[data[begin + at]];
            if (!(hash & (at < usual ? strict : loose))) { at++; break; }
        }
        if (left <= least) at = left;
        lengths[count++] = (uint32_t)at;
        begin += at;
    }
    return count;
}
"""


@dataclass
class Known:
    """A file of 32 KiB or more, or a run of smaller ones: what is cut by itself."""

    data_digest: bytes
    size: int
    lengths: list[int]
    is_run: bool


@dataclass
class Half:
    """A half of the corpus: its folders, what is cut by itself, in the order of the walk, and what cutting took."""

    folders: list[Path] = field(default_factory=list)
    known: list[Known] = field(default_factory=list)
    bytes: int = 0
    cut_cpu: float = 0.0


def public_cut(data: bytes) -> list[int]:
    """Cut as the product does."""
    chunker = Chunker(PAYLOAD_CHUNKS, lambda segments: [_NO_NAME] * len(segments))
    return [len(segment.data) for segment in [*chunker.feed(data), *chunker.end_run()]]


def keyed_cut(folder: Path, key: bytes) -> Cut:
    """Compile a chunker whose table of 256 numbers is drawn from a key."""
    source, library = folder / "keyed.c", folder / "keyed.so"
    text = _KEYED
    for name, value in zip(("MINIMUM", "AVERAGE", "MAXIMUM"), PAYLOAD_CHUNKS, strict=False):
        text = text.replace(name, str(value))
    source.write_text(text.replace("BITS", str(PAYLOAD_CHUNKS.average.bit_length() - 1)))
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    function = ctypes.CDLL(str(library)).cut
    function.restype = ctypes.c_size_t
    table = hashlib.shake_256(key).digest(8 * 256)

    def cut(data: bytes) -> list[int]:
        lengths = (ctypes.c_uint32 * (len(data) // PAYLOAD_CHUNKS.minimum + 2))()
        count = function(ctypes.c_char_p(data), ctypes.c_size_t(len(data)), ctypes.c_char_p(table), lengths)
        return list(lengths[:count])

    return cut


def padme(length: int) -> int:
    """Give the length after padding that lets O(log log) bits of a length be seen (PURBs, section 4)."""
    exponent = length.bit_length() - 1
    low_bits = exponent - (exponent.bit_length())
    mask = (1 << max(0, low_bits)) - 1
    return (length + mask) & ~mask


def read_half(folders: list[Path], cut: Cut) -> Half:
    """Read what the product would cut by itself, each content once."""
    half = Half(folders)
    seen: set[bytes] = set()
    run = bytearray()

    def add(data: bytes, *, is_run: bool) -> None:
        name = hashlib.blake2b(data, digest_size=16).digest()
        if data and name not in seen:
            seen.add(name)
            began = time.thread_time()
            lengths = cut(data)
            half.cut_cpu += time.thread_time() - began
            half.known.append(Known(name, len(data), lengths, is_run))
            half.bytes += len(data)

    for path in (path for folder in folders for path in _walk(folder)):
        data = path.read_bytes()
        if len(data) < OWN_SEGMENTS_BYTES:
            run += data
            continue
        add(bytes(run), is_run=True)
        run.clear()
        add(data, is_run=False)
    add(bytes(run), is_run=True)
    return half


def footers(vault: Vault) -> tuple[list[list[int]], list[int]]:
    """Give the lengths of the segments of each container in order, and the lengths of all frames; needs no key."""
    lengths: list[list[int]] = []
    frames: list[int] = []
    for container in list_containers(vault.pool.store):
        items = [item for item in read_contents(vault.pool.store, container, vault.medium).items if item.segments]
        lengths.append([length for item in items for _, length in item.segments])
        frames += [item.length for item in items]
    return lengths, frames


class Guesser:
    """Says what is in a pool, from lengths of segments alone."""

    def __init__(self, lists: Sequence[Sequence[int]]) -> None:
        self._joined = [0]
        for one in lists:
            self._joined += [*one, 0]
        self._places: dict[int, list[int]] = {}
        for place, length in enumerate(self._joined):
            self._places.setdefault(length, []).append(place)
        self._ends: set[int] = set()
        end = 0
        self._starts: list[int] = []
        for length in self._joined:
            # a gap between containers is as long as nothing that is looked for
            end += length or 1 << 40
            self._ends.add(end)
            self._starts.append(end)

    def has(self, lengths: Sequence[int]) -> bool:
        """Tell whether these lengths stand somewhere one behind the other."""
        wanted = list(lengths)
        return any(self._joined[at : at + len(wanted)] == wanted for at in self._places.get(wanted[0], ()))

    def has_sums(self, sizes: Sequence[int]) -> bool:
        """Tell whether segments stand somewhere that make files of these sizes, one behind the other."""
        for start in self._starts:
            end = start
            for size in sizes:
                end += size
                if end not in self._ends:
                    break
            else:
                return True
        return False


def rates(stored: Half, absent: Half, guess: Guesser, console: Console, title: str) -> None:
    """Print how many are recognised, and how many of those that are not there."""
    there = {one.data_digest for one in stored.known}
    others = [one for one in absent.known if one.data_digest not in there]
    table = Table("what", "there", "recognised", "not there", "false hits", title=title)

    def row(what: str, found: list[bool], false: list[bool]) -> None:
        share = [f"{100 * sum(hits) / len(hits):.1f} %" if hits else "-" for hits in (found, false)]
        table.add_row(what, str(len(found)), share[0], str(len(false)), share[1])

    def group(known: list[Known], least: int, most: int) -> list[bool]:
        return [guess.has(one.lengths) for one in known if not one.is_run and least <= len(one.lengths) <= most]

    for what, least, most in (("files of 1 segment", 1, 1), ("files of 2", 2, 2), ("files of 3 or more", 3, 1 << 30)):
        row(what, group(stored.known, least, most), group(others, least, most))

    def runs(known: list[Known]) -> list[bool]:
        return [guess.has(one.lengths[1:-1]) for one in known if one.is_run and len(one.lengths) >= 4]

    row("runs of small files, inner 2 or more", runs(stored.known), runs(others))
    for count in (1, 2, 3):
        row(f"sizes alone of {count} neighbours", _sums(stored.known, guess, count), _sums(others, guess, count))
    console.print(table)


def main(words: list[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.fingerprint", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--corpus", type=Path, required=True, help="a folder whose subfolders are known to everybody")
    parser.add_argument("--scratch", type=Path, required=True, help="everything is made below it")
    parser.add_argument("--seed", type=int, default=1, help="chooses the half that is backed up")
    arguments = parser.parse_args(words)
    arguments.scratch.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="fingerprint-", dir=arguments.scratch))
    console = Console(width=110)
    try:
        folders = sorted(path for path in arguments.corpus.iterdir() if path.is_dir() and not path.is_symlink())
        random.Random(arguments.seed).shuffle(folders)
        stored_folders, absent_folders = sorted(folders[::2]), sorted(folders[1::2])
        stored = read_half(stored_folders, public_cut)
        absent = read_half(absent_folders, public_cut)
        vault = Vault(scratch / "vault")
        began = _cpu()
        vault.back_up(*stored_folders)
        backup_cpu = _cpu() - began
        lists, frames = footers(vault)
        vault.pool.close()
        rates(stored, absent, Guesser(lists), console, "a real pool, as it is")
        keyed = keyed_cut(scratch, b"a secret of the pool")
        secret = read_half(stored_folders, keyed)
        guess = Guesser([[length for one in secret.known for length in one.lengths]])
        rates(stored, absent, guess, console, "cut points from a secret (simulated lists)")
        total, padded = sum(frames), sum(map(padme, frames))
        console.print(
            f"stored half: {stored.bytes / 1e6:.0f} MB of contents, {len(frames)} frames of {total / 1e6:.1f} MB\n"
            f"frames padded (Padmé): {100 * (padded / total - 1):.2f} % more bytes; no length of a segment is hidden\n"
            f"CPU for the stored half: backup {backup_cpu:.2f} s; cutting {stored.cut_cpu:.2f} s,"
            f" with the keyed prototype {secret.cut_cpu:.2f} s"
        )
    finally:
        shutil.rmtree(scratch)
    return 0


def _sums(known: list[Known], guess: Guesser, count: int) -> list[bool]:
    """Guess every neighbours' sizes; runs of small files between them break a row of neighbours."""
    found: list[bool] = []
    row: list[int] = []
    for one in known:
        row = [] if one.is_run else [*row, one.size][-count:]
        if len(row) == count:
            found.append(guess.has_sums(row))
    return found


def _walk(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_symlink():
            continue
        if path.is_dir():
            yield from _walk(path)
        elif path.is_file():
            yield path


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
