"""P1: a run gives back every entry that was written, and nothing that is damaged."""

from __future__ import annotations

import os
import random
import struct
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.pool import runs
from strongroom.pool.errors import IndexDamagedError, PoolReadError
from strongroom.pool.runs import BLOCK_BYTES, FILTER_BYTES, Keys, Run

ENTRY = struct.Struct("<16sQ")
PER_BLOCK = BLOCK_BYTES // ENTRY.size
ALIVE = np.array([False, True, True])
Rows = list[tuple[bytes, int]]


def rows(seed: int, count: int, *, alike: int = 0, container: int = 1) -> Rows:
    """Entries of random names, and ``alike`` more that all have one name."""
    draw = random.Random(seed)  # noqa: S311 - test data
    same = draw.randbytes(16)
    names = [draw.randbytes(16) for _ in range(count)] + [same] * alike
    return [(name, container << 32 | number) for number, name in enumerate(names)]


def write(path: Path, entries: Rows) -> Run:
    packed = runs.in_order([ENTRY.pack(*row) for row in entries])
    assert runs.write(path, [packed], len(entries)) == len(entries)
    return Run(path)


def found(run: Run, names: set[bytes]) -> Rows:
    return sorted(run.find(Keys(sorted(names)))) if names else []


def contents(run: Run) -> Rows:
    return [row for chunk in run.chunks() for row in ENTRY.iter_unpack(chunk.tobytes())]


@given(seed=st.integers(0, 1 << 32), count=st.integers(0, 700), alike=st.integers(1, 400), filtered=st.booleans())
def test_every_entry_is_found_and_no_other(
    tmp_path_factory: pytest.TempPathFactory, seed: int, count: int, alike: int, filtered: bool
) -> None:
    entries = rows(seed, count, alike=alike)
    with closing(write(tmp_path_factory.mktemp("run") / "one.run", entries)) as run:
        run.use_filters(filtered)
        assert run.entries == len(entries)
        assert found(run, {name for name, _ in entries}) == sorted(entries)
        assert found(run, {name for name, _ in rows(seed + 1, 300)}) == []
        assert sorted(contents(run)) == sorted(entries)
        names = [name[:8] for name, _ in contents(run)]
        assert names == sorted(names)


def test_filters_spare_the_reading_of_most_names_that_are_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(write(tmp_path / "one.run", rows(1, 20_000))) as run:
        run.use_filters(True)
        reads: list[int] = []
        pread = os.pread

        def counted(handle: int, length: int, offset: int) -> bytes:
            reads.append(offset)
            return pread(handle, length, offset)

        monkeypatch.setattr("os.pread", counted)
        assert found(run, {name for name, _ in rows(2, 4_000)}) == []
        assert 0 < len(reads) < 200
        run.use_filters(False)
        assert found(run, {name for name, _ in rows(2, 4_000)}) == []
        assert len(reads) > 4_000


@pytest.mark.parametrize("counts", [(1,), (3, 40_000), (90_000, 1, 50_000, 43_520)])
def test_runs_are_merged_in_order_without_what_is_gone(tmp_path: Path, counts: tuple[int, ...]) -> None:
    parts = [rows(number, count, alike=5, container=1 + number % 3) for number, count in enumerate(counts)]
    sources = [write(tmp_path / f"{number}.run", part) for number, part in enumerate(parts)]
    alive = [row for part in parts for row in part if row[1] >> 32 in (1, 2)]
    most = sum(map(len, parts))
    assert runs.write(tmp_path / "all.run", runs.merge(sources, ALIVE), most) == len(alive)
    for source in sources:
        source.close()
    with closing(Run(tmp_path / "all.run")) as run:
        run.use_filters(True)
        names = [name[:8] for name, _ in contents(run)]
        assert names == sorted(names)
        assert sorted(contents(run)) == sorted(alive)
        some = {name for name, _ in alive[:: max(1, len(alive) // 3_000)]}
        assert {name for name, _ in found(run, some)} == some


def test_a_file_that_a_dead_process_left_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "one.run").write_bytes(os.urandom(500_000))
    entries = rows(1, 10)
    with closing(write(tmp_path / "one.run", entries)) as run:
        assert sorted(contents(run)) == sorted(entries)


@pytest.mark.parametrize("at", ["filters", "block", "check sum", "fences", "trailer"])
def test_a_changed_byte_is_noticed_and_the_file_removed(tmp_path: Path, at: str) -> None:
    path = tmp_path / "one.run"
    entries = rows(1, 3 * PER_BLOCK)
    write(path, entries).close()
    blocks = path.stat().st_size - 3 * 8 - 44 - 3 * BLOCK_BYTES
    place = {
        "filters": FILTER_BYTES + 3,
        "block": blocks + BLOCK_BYTES + 17,
        "check sum": blocks + PER_BLOCK * ENTRY.size + 2,
        "fences": blocks + 3 * BLOCK_BYTES + 9,
        "trailer": path.stat().st_size - 30,
    }[at]
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    path.write_bytes(data)
    with pytest.raises(IndexDamagedError, match="is damaged"):  # noqa: PT012 - it may be noticed at either
        run = Run(path)
        try:
            run.use_filters(True)
            found(run, {name for name, _ in entries})
        finally:
            run.close()
    assert not path.exists()


@pytest.mark.parametrize("keep", [0, 10, 44, 4_096, -1])
def test_a_file_that_was_cut_is_noticed(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "one.run"
    write(path, rows(1, 1_000)).close()
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(IndexDamagedError):
        Run(path)


def test_merging_does_not_take_over_what_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "one.run"
    write(path, rows(1, 1_000)).close()
    data = bytearray(path.read_bytes())
    data[3 * BLOCK_BYTES + 5] ^= 1
    path.write_bytes(data)
    with closing(Run(path)) as run, pytest.raises(IndexDamagedError):
        runs.write(tmp_path / "all.run", runs.merge([run], ALIVE), 1_000)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_refuses_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "one.run"

    def refuse(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    with closing(write(path, rows(1, 10))) as run:
        monkeypatch.setattr("os.pread", refuse)
        with pytest.raises(PoolReadError, match="Input/output error"):
            found(run, {b"n" * 16, *(name for name, _ in rows(1, 10))})
    assert path.exists()
