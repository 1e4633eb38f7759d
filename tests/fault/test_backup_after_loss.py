"""P1, P2: the pool lost a part of an image, and the next backup reads that part anew by itself, and nothing else."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from strongroom.client.problems import READ_ANEW, Trouble
from strongroom.core.ids import FrameId
from strongroom.formats.fragment import Fragment
from strongroom.images.errors import NotSameError
from strongroom.images.verify import verify_image
from strongroom.pool import names
from strongroom.pool.errors import FrameMissingError
from strongroom.pool.index import Location
from strongroom.pool.manifest import leaves
from strongroom.pool.writer import WriterLimits
from tests.support.trees import rsync_differences
from tests.support.vault import Vault
from tests.unit.images.test_hostile_streams import same, stream

LIMITS = WriterLimits(frame_bytes=50_000, container_bytes=200_000, in_flight_bytes=1 << 20)
FILES, FILE_BYTES, SMALL = 24, 90_000, 30
ALL_BYTES = FILES * FILE_BYTES + SMALL * 5_000 + 3 * 40_960 + 40_000  # pieces of the sparse file end with blocks


def contents(name: str, length: int) -> bytes:
    return hashlib.shake_128(name.encode()).digest(length)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("tree") / "data"
    (tree / "small").mkdir(parents=True)
    for number in range(FILES):
        (tree / f"file {number:02}").write_bytes(contents(f"{number}", FILE_BYTES))
    for number in range(SMALL):
        (tree / "small" / f"{number:02}").write_bytes(contents(f"small {number}", 5_000))
    (tree / "other name").hardlink_to(tree / "file 03")
    with (tree / "sparse").open("wb") as file:
        for place in range(0, 4 << 20, 1 << 20):
            file.seek(place)
            file.write(contents(f"piece {place}", 40_000))
    (tree / "link").symlink_to("file 00")
    return tree


@dataclass
class Stored:
    """An image of the tree in a pool whose containers are small."""

    vault: Vault
    tree: Path
    image: Fragment

    def places(self, stream: str) -> list[Location]:
        """Give where the frames of a stream lie, in order."""
        with self.vault.reading(self.image) as image:
            root = getattr(image.roots, stream)
            rows = [row for _, leaf in leaves(root, image.pages.page, is_encrypted=True) for row in leaf.frames]
        ids = list(dict.fromkeys(FrameId(row.frame) for row in rows))
        found = self.vault.pool.index.locate(ids, self.vault.id)
        return [found[one][0] for one in ids]

    def lose(self, *places: Location) -> None:
        """Take the containers away; the pool learns of it, as from a repair."""
        for container in {place.container for place in places}:
            (self.vault.path / names.container_key(container)).unlink()
        self.vault.reopen()

    def again(self) -> tuple[Fragment, int, list[Trouble]]:
        """Back up with the image as the previous one; give image, bytes that were read, and what was told."""
        told: list[Trouble] = []
        image, _, totals = self.vault.back_up(
            self.tree, previous=self.image, name="again", limits=LIMITS, anew=told.append
        )
        return image, totals.read_bytes, told

    def check(self, image: Fragment, target: Path) -> None:
        """Verify and restore an image: all of it must be there."""
        assert list(verify_image(self.vault.pool, image, self.vault)) == []
        _, problems = self.vault.restore(image, target)
        assert problems == []
        assert rsync_differences(self.tree, target / str(self.tree).lstrip("/")) == ""


@pytest.fixture
def stored(tree: Path, tmp_path: Path) -> Iterator[Stored]:
    vault = Vault(tmp_path / "vault")
    image, _, _ = vault.back_up(tree, name="first", limits=LIMITS)
    yield Stored(vault, tree, image)
    vault.pool.close()


def test_only_files_in_a_lost_container_are_read_anew_p1(stored: Stored, tmp_path: Path) -> None:
    stored.lose(stored.places("payload")[4])
    image, read, told = stored.again()
    assert {(one.code, one.kind) for one in told} == {(READ_ANEW, "lost")}
    files = sum((stored.tree / one.path.decode().removeprefix(f"{stored.tree}/")).stat().st_size for one in told)
    assert read == files
    assert 0 < read < FILES * FILE_BYTES / 2
    stored.check(image, tmp_path / "target")


def test_a_hard_link_to_a_lost_file_stays_one_p1(stored: Stored, tmp_path: Path) -> None:
    stored.lose(*stored.places("payload"))
    image, read, _ = stored.again()
    assert read == ALL_BYTES
    stored.check(image, tmp_path / "target")


def test_without_loss_nothing_is_read_and_nothing_told_p1(stored: Stored) -> None:
    _, read, told = stored.again()
    assert (read, told) == (0, [])


@pytest.mark.parametrize("at", [0, -1])
def test_lost_entries_end_what_is_known_and_the_rest_is_read_p1(stored: Stored, tmp_path: Path, at: int) -> None:
    """A client that is told nothing reads everything; the media server does not stumble over what nobody asks for."""
    place = stored.places("entries")[at]
    path = stored.vault.path / names.container_key(place.container)
    raw = bytearray(path.read_bytes())
    raw[place.offset + place.length - 1] ^= 1
    path.write_bytes(raw)
    image, read, told = stored.again()
    assert [(one.code, one.kind) for one in told] == [(READ_ANEW, "")]
    assert read == ALL_BYTES
    stored.check(image, tmp_path / "target")


def test_lost_pages_cost_the_files_below_them_p1(stored: Stored, tmp_path: Path) -> None:
    with stored.vault.reading(stored.image) as opened:
        root = opened.roots.payload.page
    stored.lose(*stored.vault.pool.index.locate([root], stored.vault.id)[root])
    image, read, told = stored.again()
    assert read > 0
    assert told
    stored.check(image, tmp_path / "target")


def test_frames_under_a_key_out_of_use_are_read_anew_p1(stored: Stored) -> None:
    first = stored.vault.key.tag
    stored.vault.rotate("second")
    stored.vault.kms.keys.deprecate(first)
    told: list[Trouble] = []
    _, _, totals = stored.vault.back_up(stored.tree, previous=stored.image, limits=LIMITS, anew=told.append)
    assert totals.read_bytes == ALL_BYTES


@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_lost_the_new_image_is_whole_p1(
    stored: Stored, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small batches: a file may have more frames than are looked for at once."""
    monkeypatch.setattr("strongroom.images.previous_listing._FRAMES_AT_ONCE", 1 + seed)
    monkeypatch.setattr("strongroom.images.previous_listing._FILES_AT_ONCE", 7)
    rng = random.Random(seed)  # noqa: S311 - chooses what is lost
    everything = stored.places("payload")
    stored.lose(*rng.sample(everything, 1 + rng.randrange(len(everything) // 2)))
    image, read, told = stored.again()
    assert told
    assert 0 < read <= ALL_BYTES
    stored.check(image, tmp_path / "target")


def test_what_is_lost_in_between_is_never_referred_to_p1(stored: Stored) -> None:
    """The client compared its files, and only then the pool lost them: no image refers to what is not there."""
    with stored.vault.reading(stored.image) as opened, stored.vault.session(previous=opened) as session:
        for container in {place.container for place in stored.places("payload")}:
            stored.vault.pool.index.remove(container)
        files = stored.image.image.payload.files
        content = stored.image.image.payload.content

        def store() -> None:
            for chunk in stream(same(0, files), files=files, content=content):
                session.feed(chunk)
            session.finish()

        with pytest.raises((NotSameError, FrameMissingError)):
            store()
