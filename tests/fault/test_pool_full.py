"""P1: a full disk is told as such, leaves nothing half-made, and writing goes on when there is room."""

from __future__ import annotations

import errno
import os
import random
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.core.errors import ResourceError
from strongroom.formats import frame
from strongroom.formats.algorithms import Compression
from strongroom.formats.container import Content
from strongroom.pool.containers import ContainerWriter
from strongroom.pool.errors import PoolFullError, PoolWriteError
from strongroom.pool.incoming import INCOMING
from strongroom.pool.receiver import FrameReceiver
from strongroom.pool.verify import verify_container
from strongroom.pool.writer import WriterLimits
from tests.support.pool import DOMAIN, MEDIUM, Pool

LIMITS = WriterLimits(frame_bytes=100_000, container_bytes=600_000, in_flight_bytes=1 << 20)
STREAM = [random.Random(n).randbytes(50_000) for n in range(80)]  # noqa: S311 - test data


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a file system of its own needs the right to mount")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def check_nothing_half_made(pool: Pool) -> None:
    assert list((pool.folder.path / INCOMING).iterdir()) == []
    for container, _, _, _ in pool.index.containers():
        assert list(verify_container(pool.store, container, MEDIUM)) == []


def test_a_full_disk_is_told_and_leaves_nothing_half_made(small_disk: Path) -> None:
    pool = Pool.create(small_disk / "pool")
    reserve = small_disk / "reserve"
    reserve.write_bytes(bytes(300_000))
    with pytest.raises(PoolFullError) as caught:
        pool.write(STREAM, LIMITS)
    assert caught.value.code == "pool.full"
    assert str(small_disk) in caught.value.message
    assert isinstance(caught.value, ResourceError)
    check_nothing_half_made(pool)
    pool.index.close()
    reserve.unlink()
    pool = Pool.open(small_disk / "pool", keys=pool.keys)
    assert pool.report.problems == []
    check_nothing_half_made(pool)


def test_writing_goes_on_when_there_is_room(small_disk: Path) -> None:
    pool = Pool.create(small_disk / "pool")
    filler = small_disk / "filler"
    filler.write_bytes(bytes(2 << 20))
    with pytest.raises(PoolFullError):
        pool.write(STREAM[:40], LIMITS)
    check_nothing_half_made(pool)
    filler.unlink()
    references = pool.write(STREAM[:40], LIMITS)
    with pool.reader() as reader:
        assert [bytes(segment) for segment in reader.read(references)] == STREAM[:40]


def test_a_limit_on_the_size_of_files_is_told_alike(tmp_path: Path) -> None:
    pool = Pool.create(tmp_path / "pool")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
    try:
        with pytest.raises(PoolFullError):
            pool.write(STREAM, LIMITS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    check_nothing_half_made(pool)
    assert list(pool.store.list("containers/")) == []
    references = pool.write(STREAM[:40], LIMITS)
    with pool.reader() as reader:
        assert [bytes(segment) for segment in reader.read(references)] == STREAM[:40]


def test_a_container_with_a_failed_append_is_never_sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Room comes back in the middle of a frame: what follows would lie at the wrong offset."""
    pool = Pool.create(tmp_path / "pool")
    container = ContainerWriter(
        pool.store,
        medium=MEDIUM,
        origin=DOMAIN,
        content=Content.FRAMES,
        clock=pool.clock,
        entropy=pool.entropy,
    )
    data = frame.seal([(b"n" * 32, 50_000)], Compression.NONE, STREAM[0])
    container.append_frame(frame.frame_id(data), data)
    write, calls = os.write, 0

    def short_then_full(handle: int, rest: memoryview) -> int:
        nonlocal calls
        calls += 1
        if calls == 1:
            return write(handle, rest[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("os.write", short_then_full)
        with pytest.raises(PoolFullError):
            container.append_frame(frame.frame_id(data), data)
    with pytest.raises(PoolWriteError, match="not written whole"):
        container.append_frame(frame.frame_id(data), data)
    with pytest.raises(PoolWriteError, match="not written whole"):
        container.seal()
    check_nothing_half_made(pool)
    assert list(pool.store.list("containers/")) == []


def test_a_receiver_goes_on_after_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = Pool.create(tmp_path / "source"), Pool.create(tmp_path / "target")
    ids = list(dict.fromkeys(reference.frame_id for reference in source.write(STREAM[:10], LIMITS)))
    receiver = FrameReceiver(
        target.store, target.index, medium=MEDIUM, origin=DOMAIN, clock=target.clock, entropy=target.entropy
    )

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with source.reader() as reader:
        frames = {frame_id: reader.stored(frame_id).data for frame_id in ids}
    receiver.add_frame(ids[0], frames[ids[0]])
    with monkeypatch.context() as patched:
        patched.setattr("os.write", full)
        with pytest.raises(PoolFullError):
            receiver.add_frame(ids[1], frames[ids[1]])
    assert receiver.lacking_frames(ids) == ids, "what was not flushed must come again"
    for frame_id in ids:
        receiver.add_frame(frame_id, frames[frame_id])
    receiver.flush()
    check_nothing_half_made(target)
    assert target.index.lacking(ids, DOMAIN) == []
