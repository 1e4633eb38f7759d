"""How much memory each process of two domains needs for extreme inputs: large, sparse, many, all in one folder, deep.

Usage: python -m bench.memory --scratch DIR [--large 5GiB] [--sparse 5TB] [--files 2000000] [--in-one 1000000]
    [--deep 65000] [--json]

Makes two domains as ``strongroom demo`` does, with public commands and nothing else, and takes each input through them:
backup, unchanged backup, sealed replication, import without and with the key, restore, listing, search, verification.
Prints the peak of every process in every step. Ends with 1 when one passed the bound.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Final

from bench.memory_compare import deep_differences, sparse_differences
from bench.memory_input import make_deep, make_large, make_many, make_sparse
from bench.memory_steps import Bench, Compare, Step, remove_tree
from strongroom.cli.demonstration.compare import differences
from strongroom.core.errors import StrongroomError

MB: Final = 1_000_000
BOUND_MB: Final = 300
_UNITS: Final = {"": 1, "MB": MB, "GB": 1_000 * MB, "TB": 1_000_000 * MB, "MiB": 1 << 20, "GiB": 1 << 30}


def size(text: str) -> int:
    """Read a number of bytes, such as ``5GiB``."""
    found = re.fullmatch(r"(\d+)(|MB|GB|TB|MiB|GiB)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"'{text}' is no size: write 300MB or 5GiB")
    return int(found[1]) * _UNITS[found[2]]


def table(steps: list[Step]) -> Iterator[str]:
    """Lay steps and peaks out in lines of text, in MB (10^6 bytes)."""
    columns = list(dict.fromkeys(name for step in steps for name in step.peaks))
    width = max(len(f"{step.subject}: {step.name}") for step in steps)
    yield f"{'peak resident, MB (10^6 bytes)':<{width}}  {'seconds':>8}  " + "  ".join(columns)
    for step in steps:
        cells = (
            f"{step.peaks[name] / MB:.0f}".rjust(len(name)) if name in step.peaks else "-".rjust(len(name))
            for name in columns
        )
        yield f"{f'{step.subject}: {step.name}':<{width}}  {step.seconds:>8.1f}  " + "  ".join(cells)


def main(words: list[str]) -> int:
    """Measure, print, and return the exit code."""
    arguments = _arguments(words)
    inputs: list[tuple[str, Callable[[Path], int], Compare]] = []
    arguments_of_many = arguments.files, arguments.folders, arguments.in_one
    if arguments.large:
        inputs.append(("large", lambda folder: make_large(folder, arguments.large), differences))
    if arguments.sparse:
        inputs.append(("sparse", lambda folder: make_sparse(folder, arguments.sparse), sparse_differences))
    if arguments.files:
        inputs.append(("many", lambda folder: make_many(folder, *arguments_of_many), differences))
    if arguments.deep:
        inputs.append(("deep", lambda folder: make_deep(folder, arguments.deep), deep_differences))
    arguments.scratch.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="memory-", dir=arguments.scratch)).resolve()
    steps: list[Step] = []
    bench = Bench(scratch)
    try:
        _say("two domains")
        bench.begin()
        for subject, make, compare in inputs:
            _say(f"{subject}: input")
            count = make(scratch / subject)
            for step in bench.measure(subject, count, compare):
                steps.append(step)
                _say(f"{step.subject}: {step.name}: {step.seconds:.1f} s, {max(step.peaks.values()) / MB:.0f} MB")
            remove_tree(scratch / subject)
    except StrongroomError as error:
        _say(f"error: {error.message} [{error.code}]")
        return 2
    finally:
        bench.stop()
        if steps:
            _show(steps, as_json=arguments.json)
        if not arguments.keep:
            remove_tree(scratch)
    return int(any(peak > BOUND_MB * MB for step in steps for peak in step.peaks.values()))


def _arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--scratch", type=Path, required=True, metavar="DIR", help="everything is made below it")
    parser.add_argument("--large", type=size, default="5GiB", metavar="SIZE", help="of the large file; 0: leave out")
    parser.add_argument("--sparse", type=size, default="5TB", metavar="SIZE", help="of a file of holes; 0: leave out")
    parser.add_argument("--files", type=int, default=2_000_000, metavar="N", help="of the tree; 0: leave out")
    parser.add_argument("--folders", type=int, default=1_000, metavar="N", help="that they are in")
    parser.add_argument("--in-one", type=int, default=1_000_000, metavar="N", help="of them in the first folder")
    parser.add_argument("--deep", type=int, default=65_000, metavar="BYTES", help="of the longest path; 0: leave out")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--keep", action="store_true", help="leave the homes and logs in the scratch folder")
    return parser.parse_args(words)


def _show(steps: list[Step], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"bound_bytes": BOUND_MB * MB, "steps": [asdict(step) for step in steps]}, indent=2))
        return
    for line in table(steps):
        print(line)
    over = [
        f"{step.subject}: {step.name}: {name} {peak / MB:.0f} MB"
        for step in steps
        for name, peak in step.peaks.items()
        if peak > BOUND_MB * MB
    ]
    print("\n".join([f"over {BOUND_MB} MB:", *over]) if over else f"no peak passed {BOUND_MB} MB")


def _say(text: str) -> None:
    print(f"memory: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
