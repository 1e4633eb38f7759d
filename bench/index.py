"""How a pool's index does with tens of millions of segments: ``make bench-index``, or ``python -m bench.index --help``.

Footers of containers are drawn and taken in, as when the index is made anew; at each size the index is closed and
opened again, and asked for segments that are there and for others that are not, in batches.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import random
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast

from rich.console import Console
from rich.table import Table

from bench.generated_store import MEDIUM, ORIGIN, SEGMENTS, GeneratedStore, segment_names
from strongroom import __version__
from strongroom.core.ids import SegmentName
from strongroom.pool.index import Index, open_index
from strongroom.pool.store import Store
from strongroom.settings.system import SystemEntropy

ASKED: Final = 4_096
_BATCHES: Final = 50
_SIZES: Final = ("10M", "30M", "100M")
_STATUS: Final = Path("/proc/self/status")


@dataclass
class Measured:
    """One size.

    Attributes:
        segments: in the index.
        containers: that they are in.
        insert_seconds: CPU to take in what was added since the size before.
        inserts_per_second: of CPU.
        hits_per_second: of CPU, names that are there, in batches of 4,096.
        misses_per_second: of CPU, names that are not.
        start_seconds: from closed to up to date with the listing, and one batch answered.
        peak_bytes: resident memory of the process at its highest since the size before.
        before_bytes: resident memory before there was an index.
        disk_bytes: of its files.
        runs: how many there are.
    """

    segments: int
    containers: int
    insert_seconds: float
    inserts_per_second: float
    hits_per_second: float
    misses_per_second: float
    start_seconds: float
    peak_bytes: int
    before_bytes: int
    disk_bytes: int
    runs: int


def main() -> None:
    """Measure every size, and show it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scratch", type=Path, required=True, help="a folder with room: 60 bytes a segment")
    parser.add_argument("--segments", type=_count, action="append", help="only this size, such as 3M; may be repeated")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--plot", type=Path, help="draw them into this SVG file")
    asked = parser.parse_args()
    sizes = sorted(asked.segments or map(_count, _SIZES))
    folder = asked.scratch / "index"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    document: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "cores": os.cpu_count(),
        "versions": {"strongroom": __version__, "python": platform.python_version()},
        "asked_together": ASKED,
        "sizes": [],
    }
    try:
        for measured in _measure(folder, sizes):
            document["sizes"].append(asdict(measured))
            if asked.json:
                asked.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
            sys.stderr.write(f"index: {measured.segments:,} segments: {measured.peak_bytes / 1e6:.0f} MB\n")
    finally:
        shutil.rmtree(folder)
    if asked.plot:
        from bench import index_plot

        index_plot.draw(document, asked.plot)
    _show(document)


def _measure(folder: Path, sizes: list[int]) -> Iterator[Measured]:
    store = GeneratedStore()
    before_bytes = _memory("VmRSS")
    index = _open(folder, store)
    draw = random.Random(7)
    for size in sizes:
        _forget_peak()
        added = -(-size // SEGMENTS) - store.count
        store.count += added
        drawing = store.drawing_seconds
        with _timed(time.process_time) as inserting:
            problems = index.refresh(cast("Store", store)).problems
        if problems:
            sys.exit(f"index: {problems[0][1]}")
        insert_seconds = inserting[0] - (store.drawing_seconds - drawing)
        index.close()
        del index
        with _timed(time.monotonic) as starting:
            index = _open(folder, store)
            _ask(index, [_there(draw, store.count)], hits=True)
        hits = _ask(index, [_there(draw, store.count) for _ in range(_BATCHES)], hits=True)
        misses = _ask(index, [_elsewhere(draw) for _ in range(_BATCHES)], hits=False)
        yield Measured(
            segments=store.count * SEGMENTS,
            containers=store.count,
            insert_seconds=insert_seconds,
            inserts_per_second=added * SEGMENTS / insert_seconds,
            hits_per_second=_BATCHES * ASKED / hits,
            misses_per_second=_BATCHES * ASKED / misses,
            start_seconds=starting[0],
            peak_bytes=_memory("VmHWM"),
            before_bytes=before_bytes,
            disk_bytes=sum(path.stat().st_size for path in folder.iterdir()),
            runs=len(list(folder.glob("*.run"))),
        )
    index.close()


def _open(folder: Path, store: GeneratedStore) -> Index:
    index, report = open_index(folder, cast("Store", store), SystemEntropy(), medium=MEDIUM)
    if report.added or report.removed or report.problems:
        sys.exit("index: what was closed is not what was opened")
    return index


def _ask(index: Index, batches: list[list[SegmentName]], *, hits: bool) -> float:
    """Look up every batch, and give the seconds of CPU that it took."""
    with _timed(time.process_time) as asking:
        found = sum(len(index.find_segments(batch, ORIGIN)) for batch in batches)
    if found != (ASKED * len(batches) if hits else 0):
        sys.exit(f"index: {found} names were found")
    return asking[0]


def _there(draw: random.Random, containers: int) -> list[SegmentName]:
    """Draw names that the index has: 64 neighbours from each of 64 containers."""
    together = 64
    found: list[SegmentName] = []
    for number in draw.sample(range(1, containers + 1), ASKED // together):
        first = draw.randrange(SEGMENTS - together)
        found += segment_names(number)[first : first + together]
    return found


def _elsewhere(draw: random.Random) -> list[SegmentName]:
    return [SegmentName(draw.randbytes(32)) for _ in range(ASKED)]


@contextmanager
def _timed(clock: Callable[[], float]) -> Iterator[list[float]]:
    taken: list[float] = []
    before = clock()
    yield taken
    taken.append(clock() - before)


def _memory(line: str) -> int:
    """Read a line of the process's status, in bytes."""
    found = re.search(rf"^{line}:\s+(\d+) kB$", _STATUS.read_text(encoding="ascii"), re.MULTILINE)
    if found is None:
        sys.exit(f"index: the kernel tells no {line}")
    return int(found[1]) << 10


def _forget_peak() -> None:
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _count(text: str) -> int:
    found = re.fullmatch(r"(\d+)(|k|M)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"'{text}' is no number: write 300k or 10M")
    return int(found[1]) * {"": 1, "k": 1_000, "M": 1_000_000}[found[2]]


def _show(document: dict[str, Any]) -> None:
    table = Table(title="the index; seconds are of CPU, but for the start")
    for heading in (
        "segments",
        "inserts/s",
        "hits/s",
        "misses/s",
        "start s",
        "peak MB",
        "before MB",
        "disk GB",
        "runs",
    ):
        table.add_column(heading, justify="right")
    for row in document["sizes"]:
        table.add_row(
            f"{row['segments'] / 1e6:,.1f} M",
            *(f"{row[name]:,.0f}" for name in ("inserts_per_second", "hits_per_second", "misses_per_second")),
            f"{row['start_seconds']:.1f}",
            *(f"{row[name] / 1e6:,.0f}" for name in ("peak_bytes", "before_bytes")),
            f"{row['disk_bytes'] / 1e9:.2f}",
            str(row["runs"]),
        )
    Console().print(table)


if __name__ == "__main__":
    main()
