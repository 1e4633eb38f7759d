"""Measure strongroom beside restic, borg and tar: ``make bench``, or ``python -m bench.compare --help``."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from bench import corpora, measure, peers, table
from bench.measure import Cost
from bench.over_tls import StrongroomOverTLS
from bench.programs import Borg, Checking, Copying, Floor, Program, Restic, Strongroom
from bench.table import Results
from strongroom import __version__

P = TypeVar("P", bound=Program)

CHANGES = {"SRC": corpora.change_tree, "BIG": corpora.change_images}


def main() -> None:
    """Measure what was asked, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scratch", type=Path, required=True, help="a folder with 20 GB of room")
    parser.add_argument("--corpus", action="append", choices=corpora.NAMES, help="only this one; may be repeated")
    parser.add_argument("--program", action="append", help="only this one; may be repeated")
    parser.add_argument("--repeat", type=int, default=1, help="measure everything so often; the table shows medians")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--plot", type=Path, help="draw the table into this SVG file")
    asked = parser.parse_args()
    asked.scratch.mkdir(parents=True, exist_ok=True)
    found = peers.install(asked.scratch / "peers")
    results: Results = {}
    for _ in range(asked.repeat):
        for name in asked.corpus or corpora.NAMES:
            corpus = _make(asked.scratch / "corpora", name)
            _measure(name, corpus, asked.scratch, found, asked.program, results)
    document: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": _machine(),
        "versions": {"strongroom": __version__, "python": platform.python_version(), **found.versions},
        "results": results,
        "goals": [asdict(row) for row in table.judged(results)],
    }
    if asked.json:
        asked.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    if asked.plot:
        from bench import plot

        plot.draw(document, asked.plot)
    table.show(document)
    sys.exit(0 if all(row["met"] for row in document["goals"]) else 1)


def _make(folder: Path, name: str) -> Path:
    """Make a corpus in a process of its own: a command takes over the peak of memory of the one that starts it."""
    subprocess.run([sys.executable, "-m", "bench.corpora", folder, name], check=True)
    return folder / name


def _measure(
    name: str, corpus: Path, scratch: Path, found: peers.Peers, only: list[str] | None, results: Results
) -> None:
    """Do every work on one corpus, one program after the other."""
    stores = scratch / "stores"
    shutil.rmtree(stores, ignore_errors=True)
    stores.mkdir()
    log = scratch / "commands.log"
    floor = Floor(stores / "floor", log)
    restic = Restic(stores / "restic", found, log)
    borg = Borg(stores / "borg", found, log)
    own = Strongroom(stores / "strongroom", log)
    far = StrongroomOverTLS(own.domain, stores / "client", log)
    everyone: tuple[Program, ...] = (floor, restic, borg, far, own)
    checking: tuple[Checking, ...] = (restic, borg, own)
    copying: tuple[Copying, ...] = (restic, own)

    def asked(programs: Sequence[P]) -> Iterator[P]:
        return (program for program in programs if only is None or program.name in only)

    for program in asked(everyone):
        _backup(f"{name} first", program, corpus, results)
        if name in CHANGES:
            _backup(f"{name} unchanged", program, corpus, results)
    if name in CHANGES:
        for program in asked(everyone):
            _restore(name, program, corpus, scratch / "restored", results)
        for checker in asked(checking):
            measure.quiet()
            _note(results, f"{name} verify", checker.name, checker.verify())
        for copier in asked(copying):
            measure.quiet()
            _note(results, f"{name} replication", copier.name, copier.copy(corpus))
        CHANGES[name](corpus)
        for checker in asked(checking):
            _backup(f"{name} second generation", checker, corpus, results)
    for program in everyone:
        program.end()


def _backup(work: str, program: Program, corpus: Path, results: Results) -> None:
    corpora.facts(corpus)
    measure.quiet()
    before = program.stored_bytes()
    cost = program.backup(corpus)
    _note(results, work, program.name, cost, program.stored_bytes() - before)


def _restore(name: str, program: Program, corpus: Path, target: Path, results: Results) -> None:
    measure.quiet()
    cost = program.restore(target)
    cost.wall += measure.put_on_disk(target)  # some programs end before, some after that
    _note(results, f"{name} restore", program.name, cost)
    (restored,) = (path for path in (target / corpus.name, target / str(corpus).lstrip("/")) if path.is_dir())
    subprocess.run(["diff", "-r", "--no-dereference", corpus, restored], check=True)
    shutil.rmtree(target)


def _note(results: Results, work: str, program: str, cost: Cost, stored: int | None = None) -> None:
    figures = {"wall": cost.wall, "cpu": cost.cpu, "peak": float(cost.peak_bytes), "others": cost.others_cpu}
    if stored is not None:
        figures["stored"] = float(stored)
    results.setdefault(work, {}).setdefault(program, []).append(figures)
    shown = ", ".join(f"{name} {value:,.2f}" for name, value in figures.items())
    sys.stderr.write(f"{work}, {program}: {shown}\n")


def _machine() -> dict[str, str | int]:
    """Tell the class of the machine, not its name."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"cores": os.cpu_count() or 0, "memory_gib": round(memory / (1 << 30)), "processor": model}


if __name__ == "__main__":
    main()
