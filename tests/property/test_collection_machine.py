"""P2, L5: whatever is backed up, expired, collected, rewritten and cut off in whatever order: no image loses anything,
and what none needs is gone when all that could refer to it has ended, also where a part of a container is needed."""

from __future__ import annotations

import random
import shutil
import tempfile
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path
from unittest import mock

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from strongroom.core.clock import to_ns
from strongroom.core.ids import ImageId
from strongroom.formats import image_stream
from strongroom.formats.fragment import Fragment
from strongroom.images.backup import BackupSession
from strongroom.images.collect import Collected, collect
from strongroom.images.stored_image import StoredImage
from strongroom.images.verify import verify_image
from strongroom.pool import names
from strongroom.pool.collection import Epochs
from strongroom.pool.containers import ContainerWriter
from strongroom.pool.folder import Folder
from strongroom.pool.index import FILE_NAME, Index
from strongroom.pool.writer import WriterLimits
from tests.support.vault import Vault
from tests.unit.images.test_hostile_streams import data, record, same, stream

LIMITS = WriterLimits(frame_bytes=80_000, container_bytes=700_000, in_flight_bytes=800_000)
STEPS = [
    (Folder, "remove", "before"),
    (Folder, "remove", "after"),
    (Index, "remove", "after"),
    (ContainerWriter, "append_frame", "after"),
    (ContainerWriter, "append_page", "after"),
    (ContainerWriter, "seal", "after"),
    (Index, "add", "after"),
    (Index, "condemn", "after"),
]
picks = st.integers(0, 100)
trees = st.sampled_from([{0: 0}, {0: 1}, {0: 0, 1: 2}, {0: 2, 1: 1}])


@cache
def contents_of(number: int) -> bytes:
    return random.Random(number).randbytes(300_000 + number)  # noqa: S311 - test data


@dataclass
class Image:
    """An image that a backup made: which contents lie at which path, and how many sessions refer to it."""

    tree: dict[int, int]
    fragment: Fragment
    users: int = 0


@dataclass
class Running:
    """A backup that has sent everything and is not committed."""

    tree: dict[int, int]
    session: BackupSession
    epoch: int
    began_ns: int
    previous: Image | None
    opened: StoredImage | None
    name: str


@dataclass
class Primary:
    """What a primary knows: epochs, and who is at work."""

    epoch: int = 1
    running: list[Running] = field(default_factory=list)

    def epochs(self) -> Epochs:
        young = min((one.began_ns for one in self.running), default=None)
        return Epochs(self.epoch, min([self.epoch, *(one.epoch for one in self.running)]), young)


class Cut(Exception):
    """The process is gone."""


class CollectionMachine(RuleBasedStateMachine):
    """A pool beside a list of what it must hold."""

    def __init__(self) -> None:
        super().__init__()
        self.path = Path(tempfile.mkdtemp())
        self.vault = Vault(self.path)
        self.primary = Primary()
        self.images: list[Image] = []
        self.count = 0
        self.fresh = 3

    def teardown(self) -> None:
        while self.primary.running:
            self._drop(self.primary.running[0])
        for _ in range(6):  # reprieved, rewritten, condemned, removed; one more after each
            told = self._collect(rewrites=True)
        assert (told.sparse_bytes, told.rewritten.containers, told.damaged) == (0, 0, [])
        assert (told.unneeded.containers, told.waiting.containers, told.envelopes_waiting) == (0, 0, 0)
        self._check()
        self._expire(self.images)
        for _ in range(3):
            self._collect(rewrites=False)
        assert list(self.vault.pool.index.containers()) == []
        assert list((self.vault.path / "containers").glob("*/*")) == []
        assert self.vault.pool.envelopes.for_frames() == []
        self.vault.pool.close()
        shutil.rmtree(self.path)

    @rule(expire=st.booleans())
    def share(self, expire: bool) -> None:
        """Make an image of which another one needs a part: when it goes, a container is sparse."""
        self.fresh += 2
        for tree in ({0: self.fresh, 1: self.fresh + 1}, {0: self.fresh}):
            self.back_up(tree, 0, refers=False, commit=True)
        if expire:
            self._expire([self.images[-2]])

    @rule(tree=trees, pick=picks, refers=st.booleans(), commit=st.booleans())
    def back_up(self, tree: dict[int, int], pick: int, refers: bool, commit: bool) -> None:
        """Send a backup, which may refer to an image; and commit it, or leave that for later."""
        self.vault.clock.advance(timedelta(seconds=1))
        previous = self.images[pick % len(self.images)] if refers and self.images else None
        opened = StoredImage(self.vault.pool, previous.fragment, self.vault) if previous else None
        before = sorted(previous.tree) if previous else []
        if previous:
            previous.users += 1
        blocks = []
        for at, number in sorted(tree.items()):
            contents = contents_of(number)
            path = b"/%d" % at
            if previous and previous.tree.get(at) == number:
                blocks.append(same(before.index(at)))
            else:
                # cut, so that the next file does not change where this one's last segment ends
                blocks += [data(contents), record(path, len(contents)), image_stream.cut()]
        session = self.vault.session(previous=opened, limits=LIMITS)
        began = to_ns(self.vault.clock.now())
        self.count += 1
        one = Running(tree, session, self.primary.epoch, began, previous, opened, f"image {self.count}")
        self.primary.running.append(one)
        blocks.append(image_stream.cut())  # what is there already is looked for now
        for chunk in stream(
            *blocks, files=len(tree), content=sum(len(contents_of(number)) for number in tree.values())
        ):
            session.feed(chunk)
        if commit:
            self._commit(one)

    @precondition(lambda self: self.primary.running)
    @rule(pick=picks)
    def commit(self, pick: int) -> None:
        """Let a backup that runs become an image."""
        self._commit(self.primary.running[pick % len(self.primary.running)])

    @precondition(lambda self: self.primary.running)
    @rule(pick=picks)
    def drop(self, pick: int) -> None:
        """Let a backup break off."""
        self._drop(self.primary.running[pick % len(self.primary.running)])

    @rule(pick=picks, times=st.integers(1, 2), rewrites=st.sampled_from([True, True, False]))
    def expire_and_collect(self, pick: int, times: int, rewrites: bool) -> None:
        """Remove an image that no backup refers to, if there are others, and collect."""
        free = [image for image in self.images if not image.users]
        if len(free) > 1:
            self._expire([free[pick % len(free)]])
        for _ in range(times):
            self._collect(rewrites=rewrites)
        self._check()

    @rule(where=st.sampled_from(STEPS), index_lost=st.booleans())
    def collect_and_die(self, where: tuple[type, str, str], index_lost: bool) -> None:
        """Collect, until the process ends in the middle; then open the pool again."""
        owner, name, when = where
        inner = getattr(owner, name)

        def cut(*args: object, **more: object) -> None:
            if when == "after":
                inner(*args, **more)
            raise Cut

        try:
            with mock.patch.object(owner, name, cut):
                self._collect(rewrites=True)
        except Cut:
            self.restart(index_lost=index_lost)

    @rule(index_lost=st.booleans())
    def restart(self, index_lost: bool) -> None:
        """End the process and begin another one: what ran is gone."""
        while self.primary.running:
            self._drop(self.primary.running[0])
        self.vault.pool.close()
        if index_lost:
            for path in (self.vault.path / "index").glob(f"{FILE_NAME}*"):
                path.unlink()
        self.vault.reopen()
        self._check()

    # ------------------------------------------------------------ within

    def _expire(self, gone: list[Image]) -> None:
        for image in list(gone):
            self.images.remove(image)
            self.vault.pool.fragments.remove(ImageId(image.fragment.image.payload.image), 1)

    def _commit(self, one: Running) -> None:
        result = one.session.finish()
        fragment = self.vault.commit(result, name=one.name)
        self._end(one)
        self.images.append(Image(one.tree, fragment))

    def _drop(self, one: Running) -> None:
        self._end(one)

    def _end(self, one: Running) -> None:
        one.session.abort()
        if one.opened is not None:
            one.opened.close()
        if one.previous is not None:
            one.previous.users -= 1
        self.primary.running.remove(one)

    def _collect(self, *, rewrites: bool) -> Collected:
        self.vault.clock.advance(timedelta(seconds=1))
        told = collect(
            self.vault.pool,
            epochs=self.primary.epochs(),
            committing=[],
            rewriting=self.vault.rewriting(container_bytes=LIMITS.container_bytes) if rewrites else None,
            dry_run=False,
            check=lambda *_: None,
        )
        if told.condemned.containers or told.waiting.containers or told.envelopes_waiting:
            self.primary.epoch += 1
        return told

    def _check(self) -> None:
        for image in self.images:
            problems = list(verify_image(self.vault.pool, image.fragment, self.vault))
            assert problems == [], problems
            assert (self.vault.path / names.image_key(ImageId(image.fragment.image.payload.image), 1)).exists()


TestCollection = CollectionMachine.TestCase
TestCollection.settings = settings(
    max_examples=8, stateful_step_count=40, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate]
)
