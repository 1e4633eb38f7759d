"""What the lengths of segments and frames, and the level of compression, cost and gain: ``make bench-sizes``.

Each line is the product's own client and pool in this process, with one size changed: a first backup, and one of the
second generation, which refers to the first.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

from rich.console import Console
from rich.table import Table

from bench import corpora
from strongroom.client import sender
from strongroom.client.exclude import Exclude
from strongroom.client.previous import Previous, previous_files
from strongroom.client.walker import Walker
from strongroom.formats.fragment import Fragment
from strongroom.formats.segment import ENTRIES_CHUNKS, PAYLOAD_CHUNKS, ChunkSizes
from strongroom.images import backup
from strongroom.images.previous_listing import previous_listing
from strongroom.pool.writer import WriterLimits
from tests.support.vault import Vault

_CHANGES = {"SRC": corpora.change_tree, "BIG": corpora.change_images}


@dataclass(frozen=True)
class Sizes:
    """One choice of sizes, in bytes; averages of segments, whose shortest and longest are in proportion."""

    name: str = "as it is"
    payload: int = PAYLOAD_CHUNKS.average
    entries: int = ENTRIES_CHUNKS.average
    apart: int = sender.OWN_SEGMENTS_BYTES
    frame: int = WriterLimits().frame_bytes
    level: int = WriterLimits().compression_level


AS_IT_IS = Sizes()
CHOICES = (
    AS_IT_IS,
    *(replace(AS_IT_IS, name=f"payload {size >> 10} KiB", payload=size) for size in (64 << 10, 256 << 10, 512 << 10)),
    *(replace(AS_IT_IS, name=f"apart from {size >> 10} KiB", apart=size) for size in (16 << 10, 64 << 10, 1 << 20)),
    *(replace(AS_IT_IS, name=f"entries {size >> 10} KiB", entries=size) for size in (2 << 10, 16 << 10, 128 << 10)),
    *(replace(AS_IT_IS, name=f"frames {size >> 10} KiB", frame=size) for size in (256 << 10, 512 << 10, 2 << 20)),
    *(replace(AS_IT_IS, name=f"level {level}", level=level) for level in (1, 6)),
)


@dataclass
class Result:
    """What one backup took and stored."""

    wall: float
    cpu: float
    stored: int
    segments: int


def _back_up(vault: Vault, corpus: Path, sizes: Sizes, previous: Fragment | None) -> tuple[Fragment, Result]:
    limits = WriterLimits(frame_bytes=sizes.frame, compression_level=sizes.level)
    with (
        mock.patch.object(backup, "PAYLOAD_CHUNKS", _scaled(PAYLOAD_CHUNKS, sizes.payload)),
        mock.patch.object(backup, "ENTRIES_CHUNKS", _scaled(ENTRIES_CHUNKS, sizes.entries)),
        mock.patch.object(sender, "OWN_SEGMENTS_BYTES", sizes.apart),
    ):
        known = Previous((), None)
        if previous is not None:
            with vault.reading(previous) as image:
                listing = previous_listing(image, vault.pool, vault.usable())
                known = Previous(list(previous_files(listing)), None)
        client = sender.Sender(known)
        walk = Walker(client.report, exclude=Exclude(())).walk([bytes(corpus)])
        began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
        fragment, done = vault.store(client.blocks(walk), name=f"{previous is None}", previous=previous, limits=limits)
        after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return fragment, Result(time.monotonic() - began, cpu, done.added_bytes, done.roots.payload.segments)


def _scaled(sizes: ChunkSizes, average: int) -> ChunkSizes:
    return ChunkSizes(*(size * average // sizes.average for size in sizes))


def main() -> None:
    """Measure every choice on one corpus."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scratch", type=Path, required=True, help="a folder with 15 GB of room")
    parser.add_argument("--corpus", choices=sorted(_CHANGES), default="SRC")
    asked = parser.parse_args()
    pools = asked.scratch / "sizes"
    shutil.rmtree(pools, ignore_errors=True)
    corpus = corpora.make(asked.scratch / "corpora", asked.corpus)
    corpora.facts(corpus)
    firsts: list[tuple[Sizes, Vault, Fragment, Result]] = []
    for number, sizes in enumerate(CHOICES):
        folder = pools / str(number)
        folder.mkdir(parents=True)
        vault = Vault(folder)
        firsts.append((sizes, vault, *_back_up(vault, corpus, sizes, None)))
        sys.stderr.write(f"{sizes.name}\n")
    _CHANGES[asked.corpus](corpus)
    table = Table(title=f"{asked.corpus}: seconds of CPU, MB stored, segments; then the second generation")
    for heading in ("choice", "CPU s", "stored MB", "segments", "2nd CPU s", "2nd adds MB"):
        table.add_column(heading, justify="left" if heading == "choice" else "right")
    for sizes, vault, fragment, first in firsts:
        second = _back_up(vault, corpus, sizes, fragment)[1]
        figures = (first.cpu, first.stored / 1e6, second.cpu, second.stored / 1e6)
        cells = [f"{figure:,.2f}" for figure in figures]
        table.add_row(sizes.name, *cells[:2], f"{first.segments:,}", *cells[2:])
    Console().print(table)
    shutil.rmtree(pools)


if __name__ == "__main__":
    main()
