"""P1, P2, R11: verifying names everything that is wrong, with and without keys."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from strongroom.core.ids import ContainerId, MediumId
from strongroom.core.secret import Secret
from strongroom.formats.container import TAIL_BYTES
from strongroom.pool import names
from strongroom.pool.index import Location
from strongroom.pool.manifest import StreamRoot
from strongroom.pool.reader import FrameReader
from strongroom.pool.references import Reference
from strongroom.pool.verify import ImageVerifier, Problem, verify_container
from strongroom.pool.writer import WriterLimits
from tests.support.pool import DOMAIN, MEDIUM, Pool

SMALL = WriterLimits(frame_bytes=4_000, container_bytes=20_000)
RANDOM = random.Random(5)  # noqa: S311 - test data


class Image:
    """An image of two streams in a pool, to be damaged."""

    def __init__(self, path: Path) -> None:
        self.pool = Pool.create(path / "pool")
        self.references = self.pool.write([RANDOM.randbytes(1_000) for _ in range(400)], SMALL)
        self.entries = self.pool.write([b"entries of the image"], SMALL)
        self.streams = {
            "entries": self.pool.write_manifest(self.entries),
            "payload": self.pool.write_manifest(self.references),
        }

    def place(self, reference: Reference) -> Location:
        return self.pool.index.locate([reference.frame_id], DOMAIN)[reference.frame_id][0]

    def flip(self, container: ContainerId, at: int) -> None:
        path = self.pool.folder.path / names.container_key(container)
        data = bytearray(path.read_bytes())
        data[at] ^= 1
        path.write_bytes(data)

    def problems(self, *, with_keys: bool = False) -> list[Problem]:
        keys = self.pool.keys
        lookup = keys.given.get if with_keys else lambda _: None
        with FrameReader(self.pool.store, self.pool.index, origin=DOMAIN, key_for=lookup) as frames:
            verifier = ImageVerifier(
                self.pool.store,
                pages=self.pool.pages(),
                frames=frames,
                covered=keys.covered,
                medium=MEDIUM,
                with_keys=with_keys,
            )
            return list(verifier.verify(self.streams, is_encrypted=True))


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return Image(tmp_path)


@pytest.mark.parametrize("with_keys", [False, True])
def test_a_whole_image_has_no_problem(image: Image, with_keys: bool) -> None:
    assert image.problems(with_keys=with_keys) == []
    for container, _, _, _ in image.pool.index.containers():
        assert list(verify_container(image.pool.store, container, MEDIUM)) == []


@pytest.mark.parametrize("at", [0, 8, 60, 500, 3_000], ids=["magic", "count", "name", "body", "far in the body"])
def test_a_changed_frame_is_named_with_the_segments_it_spoils(image: Image, at: int) -> None:
    place = image.place(image.references[100])
    image.flip(place.container, place.offset + at)
    problems = image.problems()
    found = [problem for problem in problems if problem.frame is not None]
    (problem,) = found
    assert (problem.code, problem.stream, problem.first_segment, problem.segments) == (
        "format.damaged",
        "payload",
        100,
        4,
    )
    assert (problem.frame, problem.container) == (image.references[100].frame_id, place.container)
    assert place.container.hex() in problem.message


def test_all_damage_is_named_not_only_the_first(image: Image) -> None:
    for number in (8, 200, 396):
        place = image.place(image.references[number])
        image.flip(place.container, place.offset + 700)
    assert [problem.first_segment for problem in image.problems()] == [8, 200, 396]


@pytest.mark.parametrize("at", [10, 95])
def test_a_changed_container_header_is_named(image: Image, at: int) -> None:
    container = image.place(image.references[0]).container
    image.flip(container, at)
    assert [problem.container for problem in image.problems()] == [container]
    assert [problem.container for problem in verify_container(image.pool.store, container, MEDIUM)] == [container]


@pytest.mark.parametrize("back", [1, 10, 81, 90, TAIL_BYTES + 10, TAIL_BYTES + 400])
def test_a_changed_footer_or_tail_is_named(image: Image, back: int) -> None:
    container = image.place(image.references[0]).container
    size = image.pool.store.size(names.container_key(container))
    image.flip(container, size - back)
    assert [problem.container for problem in image.problems()] == [container]
    assert [problem.container for problem in verify_container(image.pool.store, container, MEDIUM)] == [container]


def test_every_changed_item_of_a_container_is_named(image: Image) -> None:
    container = image.place(image.references[0]).container
    frames = {r.frame_id: r for r in image.references if image.place(r).container == container}
    chosen = list(frames.values())[:2]  # threads decide which frames share a container
    for reference in chosen:
        image.flip(container, image.place(reference).offset + 300)
    problems = list(verify_container(image.pool.store, container, MEDIUM))
    assert {problem.frame for problem in problems} == {r.frame_id for r in chosen}


def test_a_lost_container_is_named_for_each_frame_in_it(image: Image) -> None:
    container = image.place(image.references[0]).container
    lost = {r.frame_id for r in image.references if image.place(r).container == container}
    image.pool.store.remove(names.container_key(container))
    problems = image.problems()
    assert {problem.code for problem in problems} == {"pool.frame-missing"}
    assert {problem.frame for problem in problems} == lost


def test_a_lost_page_is_named_with_the_segments_below_it(image: Image) -> None:
    root = image.streams["payload"]
    image.streams["payload"] = StreamRoot(type(root.page)(b"x" * 32), root.segments, root.bytes)
    (problem,) = image.problems()
    assert (problem.code, problem.stream) == ("pool.page-missing", "payload")
    assert (problem.first_segment, problem.segments) == (0, 400)


def test_a_data_key_without_an_envelope_is_named_once(image: Image) -> None:
    uncovered = image.references[0].data_key_id
    del image.pool.keys.given[uncovered]
    (problem,) = image.problems()
    assert problem.code == "pool.data-key-missing"
    assert uncovered.hex() in problem.message


def test_a_manifest_that_does_not_fit_the_frames_is_named(image: Image) -> None:
    references = list(image.references)
    references[5], references[6] = (
        references[5]._replace(name=references[6].name),
        references[6]._replace(name=references[5].name),
    )
    image.streams["payload"] = image.pool.write_manifest(references)
    problems = image.problems()
    assert [problem.first_segment for problem in problems] == [5, 6]
    assert {problem.frame for problem in problems} == {references[5].frame_id}


def test_only_with_keys_is_a_wrong_key_seen(image: Image) -> None:
    wrong = image.entries[0].data_key_id
    image.pool.keys.given[wrong] = Secret(b"w" * 32)
    assert image.problems() == []
    (problem,) = image.problems(with_keys=True)
    assert (problem.stream, problem.frame) == ("entries", image.entries[0].frame_id)
    assert "does not authenticate" in problem.message


def test_a_container_of_another_medium_is_named(image: Image) -> None:
    container = image.place(image.references[0]).container
    (problem,) = verify_container(image.pool.store, container, MediumId(b"x" * 16))
    assert problem.code == "format.foreign"


def test_an_image_that_says_it_is_clear_and_names_encrypted_frames_is_named(image: Image) -> None:
    with image.pool.reader() as frames:
        verifier = ImageVerifier(
            image.pool.store,
            pages=image.pool.pages(),
            frames=frames,
            covered=image.pool.keys.covered,
            medium=MEDIUM,
            with_keys=False,
        )
        problems = list(verifier.verify(image.streams, is_encrypted=False))
    assert {problem.stream for problem in problems} == {"entries", "payload"}
    assert sum(problem.segments for problem in problems) == 401
