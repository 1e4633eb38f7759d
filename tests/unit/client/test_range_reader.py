"""C1: a long file is read in ranges, ahead while it comes from a disk, into memory that is used again."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from strongroom.client import range_reader
from strongroom.client.range_reader import READ_BYTES, RangeReader

DATA = random.Random(5).randbytes(3 * READ_BYTES + 1_000)  # noqa: S311 - test data


def read(reader: RangeReader, file: Path, pool: ThreadPoolExecutor | None) -> Iterator[bytes | int]:
    fd = os.open(file, os.O_RDONLY)
    try:
        for piece in reader.read(fd, os.fstat(fd), pool):
            yield piece if isinstance(piece, int) else bytes(piece)
    finally:
        os.close(fd)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(DATA)
    return tmp_path / "file"


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every block comes from a disk; gives the threads that read."""
    fill, found = range_reader._fill, []

    def slow(fd: int, room: memoryview, at: int) -> tuple[int, bool]:
        found.append(threading.current_thread().name)
        return fill(fd, room, at)[0], True

    monkeypatch.setattr(range_reader, "_fill", slow)
    return found


def test_c1_ranges_come_in_order_without_a_second_thread_while_the_file_lies_in_memory(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill = range_reader._fill
    monkeypatch.setattr(range_reader, "_fill", lambda *of: (fill(*of)[0], False))
    with ThreadPoolExecutor(1) as pool:
        pool.shutdown()
        assert b"".join(bytes(piece) for piece in read(RangeReader(), file, pool)) == DATA


def test_c1_what_comes_from_a_disk_is_read_ahead_and_nothing_is_overwritten_before_its_turn(
    file: Path, threads: list[str]
) -> None:
    reader = RangeReader()
    with ThreadPoolExecutor(2, thread_name_prefix="ahead") as pool:
        for _ in range(2):
            assert b"".join(bytes(piece) for piece in read(reader, file, pool)) == DATA
    assert sum(name.startswith("ahead") for name in threads) >= 4


def test_c1_holes_are_told_by_their_length_between_what_was_read_ahead(tmp_path: Path, threads: list[str]) -> None:
    file = tmp_path / "sparse"
    with file.open("wb") as target:
        target.write(DATA[: 5 << 20])
        target.seek(16 << 20)
        target.write(DATA[: 5 << 20])
        target.truncate(32 << 20)
    with ThreadPoolExecutor(2) as pool:
        pieces = list(read(RangeReader(), file, pool))
    whole = b"".join(bytes(piece) for piece in pieces)  # a length stands for so many zeros
    assert whole == file.read_bytes()
    assert any(isinstance(piece, int) for piece in pieces)


def test_c1_the_descriptor_is_not_read_any_more_when_the_caller_gives_up(file: Path, threads: list[str]) -> None:
    with ThreadPoolExecutor(2) as pool:
        pieces = read(RangeReader(), file, pool)
        next(pieces)
        next(pieces)
        pieces.close()  # type: ignore[attr-defined]
        reads = len(threads)
    assert len(threads) == reads
