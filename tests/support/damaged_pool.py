"""A small pool with four images, copied for each damage, and what may be left of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from strongroom.core.errors import StrongroomError
from strongroom.core.ids import ContainerId, FrameId, ImageId, PageId
from strongroom.formats import frame
from strongroom.formats.fragment import Fragment
from strongroom.formats.manifest_page import Leaf
from strongroom.images.open_pool import OpenPool
from strongroom.images.stored_image import envelopes_of
from strongroom.images.verify import verify_image
from strongroom.pool import names
from strongroom.pool.index import Location
from strongroom.pool.manifest import leaves
from strongroom.pool.verify import Problem
from strongroom.pool.writer import WriterLimits
from tests.support.images import image_id
from tests.support.vault import Vault, random_bytes
from tests.unit.images.test_hostile_streams import data, record, stream

LIMITS = WriterLimits(frame_bytes=100_000, container_bytes=900_000, in_flight_bytes=1 << 20)
FILE_BYTES = 300_000
FILES = 6
NAMES = ("first", "second", "clear", "many pages")
PIECES = 40
"""Segments of the image that has more than one leaf page, each a file."""


@dataclass(frozen=True)
class Outcome:
    """What became of one image.

    Attributes:
        whole: files that came back as they were.
        lost: files that a restore named, and did not make.
        refused: the error that ended the restore.
        problems: what verifying found.
    """

    whole: set[str]
    lost: set[str]
    refused: StrongroomError | None
    problems: list[Problem]

    @property
    def is_whole(self) -> bool:
        return not self.lost and self.refused is None


class SmallPool:
    """The pool as it was written. It is never damaged itself.

    Args:
        path: an empty folder.
    """

    def __init__(self, path: Path) -> None:
        self.vault = Vault(path)
        self.contents: dict[str, dict[str, bytes]] = {}
        self.ids: dict[str, ImageId] = {}
        for name in NAMES[:3]:
            self._store(name, {f"/{name}/{n}": random_bytes(f"{name} {n}", FILE_BYTES) for n in range(FILES)})
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("strongroom.pool.manifest.MAX_ROWS", 16)
            files = {f"/many pages/{n:02}": random_bytes(f"many {n}", 1_000) for n in range(PIECES)}
            self._store("many pages", files)
        self.vault.pool.close()

    def _store(self, name: str, files: dict[str, bytes]) -> None:
        blocks: list[bytes] = []
        for path, contents in files.items():
            blocks += [CUT, data(contents), CUT, record(path.encode(), len(contents))]
        chunks = stream(*blocks, files=len(files), content=sum(map(len, files.values())))
        stored, _ = self.vault.store(chunks, name=name, encrypted=name != "clear", limits=LIMITS)
        self.contents[name], self.ids[name] = files, image_id(stored.image)

    @contextmanager
    def copied(self, path: Path, damage: Callable[[Layout], None], *, index: bool) -> Iterator[OpenPool]:
        """Give a copy that was damaged while it was closed.

        Args:
            path: where the copy goes.
            damage: changes it.
            index: whether the copy keeps the index from before.
        """
        shutil.copytree(self.vault.path, path)
        with self._opened(path) as pool:
            layout = Layout(self, pool)
        damage(layout)
        if not index:
            shutil.rmtree(path / "index")
        with self._opened(path) as pool:
            yield pool

    @contextmanager
    def _opened(self, path: Path) -> Iterator[OpenPool]:
        pool = OpenPool.open(path, self.vault.clock, self.vault.entropy)
        try:
            yield pool
        finally:
            pool.close()

    def outcome(self, pool: OpenPool, name: str, target: Path) -> Outcome:
        """Verify an image and restore it; fail when a file comes back wrong, or goes missing without a word."""
        expected = self.contents[name]
        self.vault.pool = pool  # unwraps keys, and restores, from there
        try:
            fragment = pool.fragments.read(self.ids[name], 1)
        except StrongroomError as error:
            return Outcome(set(), set(), error, [])
        problems = list(verify_image(pool, fragment, self.vault))
        refused: StrongroomError | None = None
        lost: set[str] = set()
        try:
            _, troubles = self.vault.restore(fragment, target)
            lost = {trouble.path.decode() for trouble in troubles}
        except StrongroomError as error:
            refused = error
        whole = set()
        for path in expected:
            restored = target / path.lstrip("/")
            if restored.exists():
                assert restored.read_bytes() == expected[path], f"{path} came back wrong"
                whole.add(path)
        if refused is None:
            assert whole | lost == set(expected), "a file is missing, and nobody said so"
        assert not whole & lost
        if refused is not None or lost:
            assert problems, "a restore failed, and verifying had found nothing"
        return Outcome(whole, lost, refused, problems)


CUT = b"\x06\0\0\0\0"


class Layout:
    """Where the parts of the images lie in a copy, found before it is damaged."""

    def __init__(self, small: SmallPool, pool: OpenPool) -> None:
        self.path = Path(pool.store.place)
        self._small = small
        self._pool = pool
        small.vault.pool = pool
        self.fragments = {name: pool.fragments.read(image, 1) for name, image in small.ids.items()}
        self.frames = {name: self._frames(fragment, "payload") for name, fragment in self.fragments.items()}
        self.entries = {name: self._frames(fragment, "entries") for name, fragment in self.fragments.items()}
        self.pages = {name: self._pages(fragment) for name, fragment in self.fragments.items()}
        self.envelopes = {name: envelopes_of(pool, fragment) for name, fragment in self.fragments.items()}

    def _frames(self, fragment: Fragment, which: str) -> list[Location]:
        """Give the places of a stream's frames in the order of their first use."""
        with self._small.vault.reading(fragment) as image:
            root = getattr(image.roots, which)
            ids: dict[FrameId, None] = {}
            for _, leaf in leaves(root, image.pages.page, is_encrypted=image.is_encrypted):
                ids |= dict.fromkeys(FrameId(row.frame) for row in leaf.frames)
            found = self._pool.index.locate(list(ids), fragment.image.signer)
        return [found[one][0] for one in ids]

    def _pages(self, fragment: Fragment) -> dict[str, list[Location]]:
        """Give the places of the leaf pages of the payload, of its root, and of the key pages."""
        with self._small.vault.reading(fragment) as image:
            root, seen = image.roots.payload, []

            def fetch(page: PageId) -> bytes:
                seen.append(page)
                return image.pages.page(page)

            kinds = [isinstance(leaf, Leaf) for _, leaf in leaves(root, fetch, is_encrypted=image.is_encrypted)]
        assert len(kinds) in (len(seen), len(seen) - 1)
        keys = [PageId(page) for page in fragment.copy.payload.key_pages]
        found = self._pool.index.locate([*seen, *keys], fragment.image.signer)
        return {
            "leaves": [found[page][0] for page in seen[len(seen) - len(kinds) :]],
            "root": [found[root.page][0]],
            "keys": [found[page][0] for page in keys],
        }

    # -- damage

    def file(self, container: ContainerId) -> Path:
        return self.path / names.container_key(container)

    def flip(self, path: Path, at: int) -> None:
        contents = bytearray(path.read_bytes())
        contents[at] ^= 1
        path.write_bytes(contents)

    def flip_in(self, place: Location, at: int) -> None:
        self.flip(self.file(place.container), place.offset + (at if at >= 0 else place.length + at))

    def payload_file(self, name: str) -> Path:
        """Give a container that holds contents of an image, and none of its entries."""
        entries = {place.container for place in self.entries[name]}
        return self.file(next(p.container for p in self.frames[name] if p.container not in entries))

    def head_bytes(self, place: Location) -> int:
        raw = self.file(place.container).read_bytes()[place.offset : place.offset + place.length]
        return frame.parse_head(raw).head_bytes
