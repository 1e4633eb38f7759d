"""Fuzz every decoder, or some, with atheris; see ``scripts/fuzz``.

What is found is written to the scratch folder, and said; the exit code is 1 then. The corpus of an earlier run in the
same folder is gone on with.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Final, NamedTuple

from tests.fuzz.targets import TARGETS

CORPUS: Final = Path(__file__).resolve().parents[1] / "corpus"
MEMORY_MB: Final = 768
"""Resident, of the whole process; it has some 150 when it begins."""
INPUT_SECONDS: Final = 10
MOST_INPUT_BYTES: Final = 16_384
MOST_KEPT: Final = 16
MOST_KEPT_BYTES: Final = 2_048


class Found(NamedTuple):
    """What became of one target."""

    runs: int
    seconds: float
    failure: str


def main() -> int:
    """Fuzz, print a line for each target, and give the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description="Fuzz the decoders of formats and protocols.")
    parser.add_argument("--runs", type=int, default=1_000_000, help="of each target (1,000,000)")
    parser.add_argument("--seconds", type=int, default=0, help="at most, of each target (no limit)")
    parser.add_argument("--scratch", type=Path, default=Path("fuzz-scratch"), help="corpus and findings")
    parser.add_argument("--keep", action="store_true", help="write some of what was found to tests/corpus")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of: {', '.join(TARGETS)}")
    words = parser.parse_args()
    unknown = [name for name in words.targets if name not in TARGETS]
    if unknown:
        parser.error(f"there is no target '{unknown[0]}'")
    failed = 0
    for name in words.targets or TARGETS:
        found = _fuzz(name, words.scratch, words.runs, words.seconds)
        told = found.failure or "nothing found"
        print(f"{name:26} {found.runs:>10,} runs {found.seconds:8.1f} s  {told}", flush=True)
        failed += bool(found.failure)
        if words.keep and not found.failure:
            _keep(name, words.scratch / name)
    return 1 if failed else 0


def _fuzz(name: str, scratch: Path, runs: int, seconds: int) -> Found:
    corpus, seeds, findings = (scratch / name / part for part in ("corpus", "seeds", "findings"))
    for folder in (corpus, seeds, findings):
        folder.mkdir(parents=True, exist_ok=True)
    for data in [*TARGETS[name].beginnings(), *kept(name)]:
        (seeds / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    began = time.monotonic()
    done = _worker(
        name,
        [str(corpus), str(seeds), f"-runs={runs}", f"-max_total_time={seconds}", f"-artifact_prefix={findings}/"],
    )
    passed = time.monotonic() - began
    counted = re.findall(r"^(?:Done |#)(\d+)", done.stderr, re.MULTILINE)
    failure = ""
    if done.returncode:
        log = scratch / name / "log"
        log.write_text(done.stderr)
        failure = f"failed: see {log} and {findings}"
    return Found(int(counted[-1]) if counted else 0, passed, failure)


def _worker(name: str, options: list[str]) -> subprocess.CompletedProcess[str]:
    limits = [f"-rss_limit_mb={MEMORY_MB}", f"-timeout={INPUT_SECONDS}", f"-max_len={MOST_INPUT_BYTES}"]
    return subprocess.run(
        [sys.executable, "-m", "tests.fuzz.worker", name, *limits, *options],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )


def kept(name: str) -> list[bytes]:
    """Give the inputs in ``tests/corpus`` for a target."""
    path = CORPUS / f"{name}.txt"
    return [bytes.fromhex(line) for line in path.read_text().splitlines()] if path.exists() else []


def _keep(name: str, folder: Path) -> None:
    """Write some of the inputs that went where none had gone before: a bounded number, short ones and long ones."""
    found = {path.read_bytes() for part in ("corpus", "seeds") for path in (folder / part).iterdir()}
    chosen = sorted((data for data in found if 0 < len(data) <= MOST_KEPT_BYTES), key=lambda data: (len(data), data))
    step = max(1, -(-len(chosen) // MOST_KEPT))
    CORPUS.mkdir(exist_ok=True)
    (CORPUS / f"{name}.txt").write_text("".join(f"{data.hex()}\n" for data in chosen[::step]))


if __name__ == "__main__":
    sys.exit(main())
