"""P1, L5: a writer killed at any step loses nothing that was acknowledged and leaves nothing half-made."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from strongroom.core.ids import DataKeyId, PageId
from strongroom.core.secret import Secret
from strongroom.formats import container, frame
from strongroom.pool import names
from strongroom.pool.incoming import INCOMING
from strongroom.pool.manifest import StreamRoot
from strongroom.pool.reader import FrameReader
from strongroom.pool.verify import ImageVerifier, verify_container
from tests.fault.pool_child import IMAGES, LIMITS, image
from tests.support.index_facts import facts
from tests.support.pool import DOMAIN, MEDIUM, Keys, Pool

ROOT = Path(__file__).parents[2]
STEPS = {
    "a container is begun": ("strongroom.pool.incoming:FolderUpload.append", "after", 1),
    "a frame is encrypted": ("strongroom.formats.frame:seal", "after", 17),
    "a frame is half appended": ("strongroom.pool.incoming:FolderUpload.append", "before", 17),
    "the footer is written": ("strongroom.pool.incoming:FolderUpload.finish", "before", 4),
    "the container is stable": ("os:fsync", "after", 5),
    "the container has its name": ("os:link", "after", 3),
    "the container is out of incoming": ("strongroom.pool.incoming:Path.unlink", "after", 3),
    "the folder is stable": ("strongroom.pool.incoming:sync_folder", "after", 6),
    "the index is told": ("strongroom.pool.index:Index.add", "before", 4),
    "the index knows": ("strongroom.pool.index:Index.add", "after", 4),
    "the frames are durable, the pages not": ("strongroom.pool.writer:WriteSession.finish", "after", 3),
    "the pages are durable": ("strongroom.pool.series:PageSink.finish", "after", 3),
}


def crash(folder: Path, step: tuple[str, str, int]) -> tuple[Keys, dict[int, StreamRoot]]:
    """Let a process write until it kills itself; give the keys it used and the images it acknowledged."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/fault/pool_child.py"), str(folder), *map(str, step)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    keys = Pool.create(folder.with_name("unused")).keys
    acknowledged = {}
    for line in done.stdout.splitlines():
        kind, *words = line.split()
        if kind == "key":
            keys.given[DataKeyId(bytes.fromhex(words[0]))] = Secret(bytes.fromhex(words[1]))
        else:
            number, page, segments, size = words
            acknowledged[int(number)] = StreamRoot(PageId(bytes.fromhex(page)), int(segments), int(size))
    return keys, acknowledged


def read_range(data: bytes, at: int, length: int) -> bytes:
    return data[at : at + length]


def nonces(pool: Pool) -> list[tuple[bytes, bytes]]:
    used = []
    for stored in pool.store.list(names.CONTAINERS):
        data = pool.store.read(stored.key)
        if container.decode_header(data).content is container.Content.FRAMES:
            for _, item in container.scan(partial(read_range, data)):
                head = frame.parse_head(item)
                used.append((bytes(head.data_key), head.nonce))
    return used


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_after_a_crash_what_was_acknowledged_is_whole_and_writing_goes_on(
    tmp_path: Path, step: tuple[str, str, int]
) -> None:
    folder = tmp_path / "pool"
    Pool.create(folder).index.close()
    keys, acknowledged = crash(folder, step)
    assert len(acknowledged) < IMAGES

    pool = Pool.open(folder, keys=keys)
    assert pool.report.problems == []
    assert list((folder / INCOMING).iterdir()) == []
    for container_id, _, _, _ in pool.index.containers():
        assert list(verify_container(pool.store, container_id, MEDIUM)) == []

    kept = facts(pool.folder.index_path)
    pool.index.rebuild(pool.store)
    assert facts(pool.folder.index_path) == kept

    with FrameReader(pool.store, pool.index, origin=DOMAIN, key_for=keys.given.get) as frames:
        verifier = ImageVerifier(
            pool.store, pages=pool.pages(), frames=frames, covered=keys.covered, medium=MEDIUM, with_keys=True
        )
        for number, root in acknowledged.items():
            assert list(verifier.verify({"payload": root}, is_encrypted=True)) == []
            references = pool.references(root)
            assert [bytes(segment) for segment in frames.read(references)] == image(number)

    for number in range(IMAGES):
        root = pool.write_manifest(pool.write(image(number), LIMITS))
        assert acknowledged.get(number, root) == root, "what was durable is found again"
        with pool.reader() as reader:
            references = pool.references(root)
            assert [bytes(segment) for segment in reader.read(references)] == image(number)

    used = nonces(pool)
    assert len(used) == len(set(used)), "a nonce was used twice under one key"
