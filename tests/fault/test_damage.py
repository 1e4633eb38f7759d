"""P1, P2: whatever is damaged in a pool, it is named, the rest comes back, and nothing comes back wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from strongroom.core.errors import IntegrityError, StrongroomError
from strongroom.core.ids import EnvelopeId, ImageId
from strongroom.formats.container import HEADER_BYTES, TAIL_BYTES
from strongroom.formats.fragment import Fragment
from strongroom.images.errors import NoSuchCopyError
from strongroom.pool import names
from tests.support.damaged_pool import NAMES, Layout, Outcome, SmallPool

Damage = Callable[[Layout, str], None]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallPool:
    return SmallPool(tmp_path_factory.mktemp("small"))


# -- frames: some files of one image are lost, and named with the frame


def in_frame(at: int) -> Damage:
    return lambda layout, name: layout.flip_in(layout.frames[name][1], at)


def in_rows(layout: Layout, name: str) -> None:
    layout.flip_in(layout.frames[name][1], layout.head_bytes(layout.frames[name][1]) - 3)


def in_body(layout: Layout, name: str) -> None:
    layout.flip_in(layout.frames[name][1], layout.head_bytes(layout.frames[name][1]) + 100)


def zeroed(layout: Layout, name: str) -> None:
    place = layout.frames[name][1]
    path = layout.file(place.container)
    contents = bytearray(path.read_bytes())
    contents[place.offset : place.offset + place.length] = bytes(place.length)
    path.write_bytes(contents)


FRAMES: dict[str, Damage] = {
    "magic": in_frame(0),
    "version": in_frame(5),
    "length": in_frame(10),
    "data key id": in_frame(22),
    "nonce": in_frame(40),
    "segment row": in_rows,
    "body": in_body,
    "last byte": in_frame(-1),
    "zeros": zeroed,
}


def outcomes(small: SmallPool, tmp_path: Path, name: str, damage: Damage, *, index: bool) -> dict[str, Outcome]:
    """Damage one image in a copy of the pool, and see what became of all."""
    with small.copied(tmp_path / "pool", lambda layout: damage(layout, name), index=index) as pool:
        return {one: small.outcome(pool, one, tmp_path / one) for one in NAMES}


def only(found: dict[str, Outcome], name: str) -> Outcome:
    """Give the outcome of the damaged image; all others are whole, and verifying says so."""
    for other, outcome in found.items():
        if other != name:
            assert outcome.is_whole, other
            assert outcome.problems == [], other
    return found[name]


def says(outcome: Outcome, path: str) -> bool:
    return any(path in problem.message for problem in outcome.problems)


@pytest.mark.parametrize("index", [True, False], ids=["index kept", "index made anew"])
@pytest.mark.parametrize("name", ["first", "clear"], ids=["encrypted", "clear"])
@pytest.mark.parametrize("damage", FRAMES.values(), ids=FRAMES)
def test_a_damaged_frame_costs_its_files_and_no_others(
    small: SmallPool, tmp_path: Path, damage: Damage, name: str, index: bool
) -> None:
    outcome = only(outcomes(small, tmp_path, name, damage, index=index), name)
    assert outcome.refused is None
    assert outcome.lost
    assert outcome.whole
    named = [problem for problem in outcome.problems if problem.frame is not None]
    assert len({problem.frame for problem in named}) == 1
    assert all(says(outcome, path) for path in outcome.lost)
    assert not any(says(outcome, path) for path in outcome.whole)


# -- parts that all of a container needs: nothing is lost while the index has it, and the container is named


def in_container(at: int) -> Damage:
    def deed(layout: Layout, name: str) -> None:
        path = layout.payload_file(name)
        layout.flip(path, at if at >= 0 else path.stat().st_size + at)

    return deed


def in_footer(layout: Layout, name: str) -> None:
    place = max((one for one in layout.frames[name]), key=lambda one: one.offset)
    layout.flip(layout.file(place.container), place.offset + place.length + 20)


ENDS: dict[str, Damage] = {
    "tail": in_container(-1),
    "mark": in_container(-30),
    "digest in the tail": in_container(-60),
    "offset in the tail": in_container(-TAIL_BYTES + 7),
    "last row of the footer": in_container(-TAIL_BYTES - 2),
    "first row of the footer": in_footer,
}
HEADERS: dict[str, Damage] = {
    "magic": in_container(0),
    "id": in_container(10),
    "medium": in_container(30),
    "origin": in_container(50),
    "time": in_container(75),
    "content": in_container(80),
    "check": in_container(HEADER_BYTES - 1),
}


@pytest.mark.parametrize("index", [True, False], ids=["index kept", "index made anew"])
@pytest.mark.parametrize("damage", ENDS.values(), ids=ENDS)
def test_a_damaged_footer_costs_no_file_and_is_named(
    small: SmallPool, tmp_path: Path, damage: Damage, index: bool
) -> None:
    outcome = only(outcomes(small, tmp_path, "first", damage, index=index), "first")
    assert outcome.is_whole
    if index and damage is not ENDS["mark"]:  # only who has the naming key can check the mark
        (problem,) = outcome.problems
        assert problem.container is not None


@pytest.mark.parametrize("damage", HEADERS.values(), ids=HEADERS)
def test_a_damaged_container_header_is_named_and_costs_no_file_that_the_index_finds(
    small: SmallPool, tmp_path: Path, damage: Damage
) -> None:
    outcome = only(outcomes(small, tmp_path, "first", damage, index=True), "first")
    assert outcome.is_whole
    (problem,) = outcome.problems
    assert problem.container is not None


@pytest.mark.parametrize("damage", HEADERS.values(), ids=HEADERS)
def test_a_container_that_no_index_takes_in_costs_its_own_files(
    small: SmallPool, tmp_path: Path, damage: Damage
) -> None:
    outcome = only(outcomes(small, tmp_path, "first", damage, index=False), "first")
    assert outcome.lost
    assert outcome.whole
    assert all(says(outcome, path) for path in outcome.lost)


# -- whole containers


def half(layout: Layout, name: str) -> None:
    path = layout.payload_file(name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(layout: Layout, name: str) -> None:
    layout.payload_file(name).write_bytes(b"")


def removed(layout: Layout, name: str) -> None:
    layout.payload_file(name).unlink()


def a_folder(layout: Layout, name: str) -> None:
    path = layout.payload_file(name)
    path.unlink()
    path.mkdir()


WHOLE: dict[str, Damage] = {"cut": half, "emptied": emptied, "removed": removed, "a folder in its place": a_folder}


@pytest.mark.parametrize("index", [True, False], ids=["index kept", "index made anew"])
@pytest.mark.parametrize("damage", WHOLE.values(), ids=WHOLE)
def test_a_container_that_is_cut_or_gone_costs_its_own_files(
    small: SmallPool, tmp_path: Path, damage: Damage, index: bool
) -> None:
    outcome = only(outcomes(small, tmp_path, "first", damage, index=index), "first")
    assert outcome.refused is None
    assert outcome.lost
    assert outcome.whole
    assert all(says(outcome, path) for path in outcome.lost)


@pytest.mark.parametrize("index", [True, False], ids=["index kept", "index made anew"])
def test_two_containers_that_were_swapped_cost_their_own_files(small: SmallPool, tmp_path: Path, index: bool) -> None:
    def swap(layout: Layout, name: str) -> None:
        mine, other = (layout.payload_file(one) for one in (name, "second"))
        mine.rename(mine.with_name("aside"))
        other.rename(mine)
        mine.with_name("aside").rename(other)

    found = outcomes(small, tmp_path, "first", swap, index=index)
    for name in ("first", "second"):
        assert found[name].refused is None
        assert found[name].lost
        assert found[name].whole
        assert all(says(found[name], path) for path in found[name].lost)
    for name in ("clear", "many pages"):
        assert found[name].is_whole
        assert found[name].problems == []


@pytest.mark.parametrize("index", [True, False], ids=["index kept", "index made anew"])
def test_a_container_under_a_second_name_costs_nothing(small: SmallPool, tmp_path: Path, index: bool) -> None:
    def double(layout: Layout, name: str) -> None:
        path = layout.payload_file(name)
        other = "00" * 16
        (path.parents[1] / "00").mkdir(exist_ok=True)
        shutil.copyfile(path, path.parents[1] / "00" / other)

    for outcome in outcomes(small, tmp_path, "first", double, index=index).values():
        assert outcome.is_whole
        assert outcome.problems == []


# -- pages


@pytest.mark.parametrize("at", [0, 20, 60, -1])
def test_a_damaged_leaf_page_costs_the_files_below_it(small: SmallPool, tmp_path: Path, at: int) -> None:
    def deed(layout: Layout, name: str) -> None:
        assert len(layout.pages[name]["leaves"]) > 1
        layout.flip_in(layout.pages[name]["leaves"][0], at)

    outcome = only(outcomes(small, tmp_path, "many pages", deed, index=True), "many pages")
    assert outcome.refused is None
    assert outcome.lost
    assert outcome.whole
    assert all(says(outcome, path) for path in outcome.lost)
    assert not any(says(outcome, path) for path in outcome.whole)


@pytest.mark.parametrize("kind", ["root", "keys"])
def test_a_damaged_root_or_key_page_is_named(small: SmallPool, tmp_path: Path, kind: str) -> None:
    def deed(layout: Layout, name: str) -> None:
        layout.flip_in(layout.pages[name][kind][0], 20)

    outcome = only(outcomes(small, tmp_path, "first", deed, index=True), "first")
    assert outcome.problems
    assert any("page" in problem.message for problem in outcome.problems)


def test_damaged_entries_cost_the_image_and_are_named(small: SmallPool, tmp_path: Path) -> None:
    def deed(layout: Layout, name: str) -> None:
        layout.flip_in(layout.entries[name][0], -1)

    outcome = only(outcomes(small, tmp_path, "first", deed, index=True), "first")
    assert isinstance(outcome.refused, IntegrityError)
    assert {problem.stream for problem in outcome.problems if problem.frame is not None} == {"entries"}


# -- envelopes and fragments


def envelope_file(layout: Layout, name: str, small: SmallPool) -> Path:
    (envelope,) = layout.envelopes[name]
    return layout.path / names.envelope_key(EnvelopeId(envelope), small.vault.id, 1)


@pytest.mark.parametrize("index", [True, False], ids=["index kept", "index made anew"])
@pytest.mark.parametrize("at", [0, 30, 200, -1, None], ids=["magic", "start", "wrap", "signature", "removed"])
def test_a_damaged_envelope_costs_its_image_and_is_named(
    small: SmallPool, tmp_path: Path, at: int | None, index: bool
) -> None:
    def deed(layout: Layout, name: str) -> None:
        path = envelope_file(layout, name, small)
        if at is None:
            path.unlink()
        else:
            layout.flip(path, at if at >= 0 else path.stat().st_size - 1)

    outcome = only(outcomes(small, tmp_path, "first", deed, index=index), "first")
    assert isinstance(outcome.refused, StrongroomError)
    assert outcome.whole == set()


def parts_of(fragment: Fragment) -> dict[str, int]:
    """Give one offset in each part of a fragment's file."""
    copy = fragment.copy.data
    image = copy.index(fragment.image.data)
    return {
        "magic": 0,
        "copy header": image // 2,
        "image header": image + len(fragment.image.data) // 2,
        "end of the copy header": len(copy) - 1,
        "trailer": len(copy) + 20,
        "last byte": len(copy) + len(fragment.trailer.data) - 1,
    }


@pytest.mark.parametrize(
    "part", ["magic", "copy header", "image header", "end of the copy header", "trailer", "last byte"]
)
def test_a_damaged_fragment_costs_its_image(small: SmallPool, tmp_path: Path, part: str) -> None:
    def deed(layout: Layout, name: str) -> None:
        layout.flip(fragment_file(layout, small.ids[name]), parts_of(layout.fragments[name])[part])

    outcome = only(outcomes(small, tmp_path, "first", deed, index=True), "first")
    assert isinstance(outcome.refused, IntegrityError)
    assert outcome.whole == set()


def fragment_file(layout: Layout, image: ImageId) -> Path:
    return layout.path / names.image_key(image, 1)


def test_fragments_that_are_gone_cut_or_swapped_cost_their_images(small: SmallPool, tmp_path: Path) -> None:
    def deed(layout: Layout) -> None:
        first, second, clear = (fragment_file(layout, small.ids[name]) for name in ("first", "second", "clear"))
        clear.unlink()
        keep = first.read_bytes()
        first.write_bytes(second.read_bytes())
        second.write_bytes(keep[:-1])

    with small.copied(tmp_path / "pool", deed, index=True) as pool:
        found = {name: small.outcome(pool, name, tmp_path / name) for name in NAMES}
    assert found["many pages"].is_whole
    assert isinstance(found["first"].refused, IntegrityError)
    assert isinstance(found["second"].refused, IntegrityError)
    assert isinstance(found["clear"].refused, NoSuchCopyError)


def test_a_damaged_media_header_is_refused(small: SmallPool, tmp_path: Path) -> None:
    def deed(layout: Layout) -> None:
        layout.flip(layout.path / names.MEDIUM, 60)

    with pytest.raises(IntegrityError), small.copied(tmp_path / "pool", deed, index=True):
        pass
