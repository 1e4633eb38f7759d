"""R10, R11: the target keeps frames and pages it cannot read, and says what it lacks."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from strongroom.core.errors import IntegrityError
from strongroom.core.ids import EnvelopeId
from strongroom.formats import frame, key_page, manifest_page
from strongroom.formats.errors import DamagedError
from strongroom.pool.manifest import read_manifest
from strongroom.pool.reader import FrameReader, PageReader
from strongroom.pool.receiver import FrameReceiver
from strongroom.pool.references import Reference
from strongroom.pool.verify import verify_container
from strongroom.pool.writer import WriterLimits
from tests.support.pool import DOMAIN, MEDIUM, OTHER_DOMAIN, Pool

SMALL = WriterLimits(frame_bytes=4_000, container_bytes=20_000)
STREAM = [random.Random(n).randbytes(1_000) for n in range(40)]  # noqa: S311 - test data


class Sender:
    """A pool that holds an image."""

    def __init__(self, path: Path) -> None:
        self.pool = Pool.create(path / "source", seed="source")
        self.references = self.pool.write(STREAM, SMALL)
        self.root = self.pool.write_manifest(self.references)
        self.frames = {reference.frame_id: reference for reference in self.references}

    def frame(self, reference: Reference) -> bytes:
        with self.pool.reader() as reader:
            return reader.stored(reference.frame_id).data


@pytest.fixture
def sender(tmp_path: Path) -> Sender:
    return Sender(tmp_path)


@pytest.fixture
def target(tmp_path: Path) -> Pool:
    return Pool.create(tmp_path / "target", seed="target")


def receiver(target: Pool, container_bytes: int = 64 << 20) -> FrameReceiver:
    return FrameReceiver(
        target.store,
        target.index,
        medium=MEDIUM,
        origin=DOMAIN,
        clock=target.clock,
        entropy=target.entropy,
        container_bytes=container_bytes,
    )


def send(sender: Sender, to: FrameReceiver) -> None:
    for frame_id in to.lacking_frames(list(sender.frames)):
        assert to.add_frame(frame_id, sender.frame(sender.frames[frame_id])) == sender.frames[frame_id].data_key_id
    page = sender.pool.pages().page(sender.root.page)
    assert to.add_page(sender.root.page, page).reference_count == 40


@pytest.mark.parametrize("container_bytes", [10_000, 64 << 20])
def test_an_image_arrives_whole_without_a_key(sender: Sender, target: Pool, container_bytes: int) -> None:
    to = receiver(target, container_bytes)
    send(sender, to)
    to.flush()
    pages = PageReader(target.store, target.index, origin=DOMAIN)
    assert list(read_manifest(sender.root, pages.page, is_encrypted=True)) == sender.references
    keys = sender.pool.keys.given
    with FrameReader(target.store, target.index, origin=DOMAIN, key_for=keys.get) as reader:
        assert [bytes(segment) for segment in reader.read(sender.references)] == STREAM


def test_only_what_is_lacking_is_asked_for(sender: Sender, target: Pool) -> None:
    to = receiver(target)
    ids = list(sender.frames)
    assert to.lacking_frames(ids) == ids
    to.add_frame(ids[3], sender.frame(sender.frames[ids[3]]))
    assert to.lacking_frames(ids) == ids[:3] + ids[4:]
    send(sender, to)
    assert to.lacking_frames(ids) == []
    assert to.lacking_pages([sender.root.page]) == []


def test_what_was_flushed_is_found_again_and_what_was_not_is_asked_for(sender: Sender, target: Pool) -> None:
    ids = list(sender.frames)
    to = receiver(target)
    for frame_id in ids[:4]:
        to.add_frame(frame_id, sender.frame(sender.frames[frame_id]))
    to.flush()
    to.add_frame(ids[4], sender.frame(sender.frames[ids[4]]))
    to.abort()
    target.index.close()
    again = Pool.open(target.folder.path)
    to = receiver(again)
    assert to.lacking_frames(ids) == ids[4:]
    send(sender, to)
    to.flush()
    assert again.index.lacking(ids, DOMAIN) == []


def test_presence_is_not_told_across_origins(sender: Sender, target: Pool) -> None:
    to = receiver(target)
    send(sender, to)
    to.flush()
    other = FrameReceiver(
        target.store,
        target.index,
        medium=MEDIUM,
        origin=OTHER_DOMAIN,
        clock=target.clock,
        entropy=target.entropy,
    )
    assert other.lacking_frames(list(sender.frames)) == list(sender.frames)
    assert {origin for _, origin, _, _ in target.index.containers()} == {DOMAIN}


def test_what_is_not_what_it_says_is_refused_and_not_kept(sender: Sender, target: Pool) -> None:
    to = receiver(target)
    first, second = list(sender.frames)[:2]
    data = sender.frame(sender.frames[first])
    for wrong in (
        data[:-1],
        data + b"x",
        data[:-1] + bytes((data[-1] ^ 1,)),
        b"",
        sender.frame(sender.frames[second]),
    ):
        with pytest.raises(DamagedError):
            to.add_frame(first, wrong)
    nonsense = b"SRF1 that has the right digest".ljust(100)
    with pytest.raises(IntegrityError):
        to.add_frame(frame.frame_id(nonsense), nonsense)
    page = b"SRP1 no page".ljust(100)
    with pytest.raises(IntegrityError):
        to.add_page(manifest_page.page_id(page), page)
    to.flush()
    assert list(target.store.list("containers/")) == []


def test_the_same_frame_twice_is_stored_once(sender: Sender, target: Pool) -> None:
    to = receiver(target)
    frame_id = next(iter(sender.frames))
    for _ in range(3):
        to.add_frame(frame_id, sender.frame(sender.frames[frame_id]))
        to.flush()
    assert len(list(target.store.list("containers/"))) == 1


def test_a_key_page_is_kept_like_other_pages(target: Pool) -> None:
    envelopes = [EnvelopeId(bytes((number,)) * 16) for number in range(1, 4)]
    page = key_page.encode(envelopes)
    page_id = manifest_page.page_id(page)
    to = receiver(target)
    assert to.add_key_page(page_id, page) == tuple(envelopes)
    to.flush()
    assert to.lacking_pages([page_id]) == []
    ((container, _, _, _),) = target.index.containers()
    assert list(verify_container(target.store, container, MEDIUM)) == []
    with pytest.raises(DamagedError):
        to.add_key_page(page_id, page[:-1])


def test_a_backup_finds_nothing_again_in_what_came_from_outside(sender: Sender, target: Pool) -> None:
    """R11: a name in a frame head is a claim; only containers of one's own mark answer."""
    to = receiver(target)
    send(sender, to)
    to.flush()
    assert len(target.index.find_segments([r.name for r in sender.references], DOMAIN)) == 40
    target.keys.given.update(sender.pool.keys.given)
    own = target.write(STREAM, SMALL)
    assert {r.frame_id for r in own}.isdisjoint(sender.frames)
    target.index.rebuild(target.store)
    assert target.write(STREAM, SMALL) == own
