"""P1: whatever comes, goes, is condemned or broken off, the index answers as a list of containers would.

The index that was kept equals the one that is made anew from footers alone.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from strongroom.core.ids import ContainerId, DomainId, FrameId, SegmentName
from strongroom.pool import names, places, runs
from strongroom.pool.containers import read_contents
from strongroom.pool.folder import Folder
from strongroom.pool.index import Index, open_index
from strongroom.pool.places import IndexLimits, Places
from tests.support import footers
from tests.support.index_facts import facts
from tests.support.pool import DOMAIN, MEDIUM, OTHER_DOMAIN, CountedEntropy

NAMES = [SegmentName(bytes([number]) * 32) for number in range(40)]
FRAMES = [FrameId(bytes([200 + number]) * 32) for number in range(12)]
ORIGINS = [DOMAIN, OTHER_DOMAIN]
LIMITS = IndexLimits(table_entries=25, filter_bytes=600)
STEPS: dict[str, tuple[Any, str, str]] = {
    "a run is about to be written": (runs, "write", "before"),
    "a run is written": (runs, "write", "after"),
    "runs are about to be merged": (Places, "_merge", "before"),
    "runs are merged, the old ones are there": (Places, "_remove_unknown", "before"),
    "the old runs are gone": (Places, "_remove_unknown", "after"),
    "a number was drawn": (places, "_next", "after"),
}
contained = st.lists(
    st.tuples(st.sampled_from(FRAMES), st.lists(st.sampled_from(NAMES), min_size=1, max_size=8)),
    min_size=1,
    max_size=5,
    unique_by=lambda frame: frame[0],
)


class Cut(BaseException):
    """The process ends here."""


@dataclass
class Held:
    """A container that the index must know."""

    id: ContainerId
    origin: DomainId
    created_ns: int
    frames: list[tuple[FrameId, list[SegmentName]]]
    condemned: int | None = None


class IndexMachine(RuleBasedStateMachine):
    """An index beside a list of containers."""

    def __init__(self) -> None:
        super().__init__()
        self.path = Path(tempfile.mkdtemp()) / "pool"
        self.store = Folder.create(self.path, b"medium header", CountedEntropy())
        self.held: dict[ContainerId, Held] = {}
        self.made = 0
        self.openings = 0
        self.index = self._open()
        self.other = self._open()

    def teardown(self) -> None:
        kept = [row[:7] + row[8:] for row in self._facts()]
        self.other.close()
        self.index.rebuild(self.store)
        assert [row[:7] + row[8:] for row in self._facts()] == kept
        self.index.close()
        shutil.rmtree(self.path.parent)

    @rule(frames=contained, origin=st.sampled_from(ORIGINS), by_other=st.booleans())
    def add(self, frames: list[tuple[FrameId, list[SegmentName]]], origin: DomainId, by_other: bool) -> None:
        held = self._seal(frames, origin)
        (self.other if by_other else self.index).add(read_contents(self.store, held.id, MEDIUM))

    @rule(frames=contained, origin=st.sampled_from(ORIGINS))
    def notice_what_another_machine_added(
        self, frames: list[tuple[FrameId, list[SegmentName]]], origin: DomainId
    ) -> None:
        held = self._seal(frames, origin)
        assert self.index.refresh(self.store).added == [held.id]

    @precondition(lambda self: self.held)
    @rule(pick=st.integers(0, 1_000), told=st.booleans())
    def remove(self, pick: int, told: bool) -> None:
        gone = self._pick(pick)
        self.store.remove(names.container_key(gone.id))
        if told:
            self.index.remove(gone.id)
        else:
            assert self.index.refresh(self.store).removed == [gone.id]
        del self.held[gone.id]

    @precondition(lambda self: self.held)
    @rule(pick=st.integers(0, 1_000), epoch=st.integers(1, 9))
    def condemn(self, pick: int, epoch: int) -> None:
        one = self._pick(pick)
        self.index.condemn([one.id], epoch)
        one.condemned = one.condemned or epoch

    @precondition(lambda self: self.held)
    @rule(pick=st.integers(0, 1_000))
    def reprieve(self, pick: int) -> None:
        one = self._pick(pick)
        self.index.reprieve([one.id])
        one.condemned = None

    @rule()
    def purge(self) -> None:
        self.index.purge()

    @rule(frames=contained, origin=st.sampled_from(ORIGINS), step=st.sampled_from(list(STEPS)), purging=st.booleans())
    def stop_in_the_middle(
        self, frames: list[tuple[FrameId, list[SegmentName]]], origin: DomainId, step: str, purging: bool
    ) -> None:
        """The process ends at a step, or behind all of them if it does not come to that one."""
        held = self._seal(frames, origin)
        owner, name, where = STEPS[step]
        inner = getattr(owner, name)

        def cut(*args: Any, **words: Any) -> None:
            if where == "after":
                inner(*args, **words)
            raise Cut

        try:
            with mock.patch.object(owner, name, cut):
                if purging:
                    self.index._places.merge(everything=True)
                self.index.add(read_contents(self.store, held.id, MEDIUM))
        except Cut:
            pass
        self.reopen()

    @rule()
    def reopen(self) -> None:
        self.index.close()
        self.index = self._open()

    @rule(pick=st.integers(0, 1_000), cut=st.integers(0, 5_000))
    def lose_a_run(self, pick: int, cut: int) -> None:
        """A run is gone or cut while nobody has the index open: it is made anew, and nothing is condemned."""
        found = sorted((self.path / "index").glob("*.run"))
        if not found:
            return
        self.index.close()
        self.other.close()
        run = found[pick % len(found)]
        if cut:
            run.write_bytes(run.read_bytes()[: -min(cut, run.stat().st_size)])
        else:
            run.unlink()
        self.index, self.other = self._open(), self._open()
        self._forget_condemned()

    @rule()
    def make_anew(self) -> None:
        self.other.close()
        self.index.rebuild(self.store)
        self.other = self._open()
        self._forget_condemned()

    @invariant()
    def both_answer_as_the_list_does(self) -> None:
        for index in (self.index, self.other):
            assert index.condemned() == {one.id: one.condemned for one in self.held.values() if one.condemned}
            assert [row[0] for row in index.containers()] == sorted(self.held)
            for origin in ORIGINS:
                own = [one for one in self.held.values() if one.origin == origin]
                found = index.find_segments(NAMES, origin)
                for name in NAMES:
                    hits = {(hit.container, hit.frame, hit.position) for hit in found.get(name, [])}
                    assert hits == {
                        (one.id, frame, segments.index(name))
                        for one in own
                        if not one.condemned
                        for frame, segments in one.frames
                        if name in segments
                    }
                located = index.locate(FRAMES, origin)
                lacking = index.lacking(FRAMES, origin)
                for frame in FRAMES:
                    holders = {one.id for one in own if frame in dict(one.frames)}
                    assert {place.container for place in located.get(frame, [])} == holders
                    assert (frame in lacking) == all(self.held[one].condemned for one in holders)

    def _seal(self, frames: list[tuple[FrameId, list[SegmentName]]], origin: DomainId) -> Held:
        self.made += 1
        container = footers.seal(self.path, self.made.to_bytes(16), frames, origin=origin, created_ns=self.made)
        self.held[container] = Held(container, origin, self.made, frames)
        return self.held[container]

    def _pick(self, pick: int) -> Held:
        return list(self.held.values())[pick % len(self.held)]

    def _open(self) -> Index:
        self.openings += 1
        folder = self.store.index_path
        index, report = open_index(folder, self.store, CountedEntropy(str(self.openings)), medium=MEDIUM, limits=LIMITS)
        assert report.problems == []
        return index

    def _facts(self) -> list[tuple[object, ...]]:
        return facts(self.path / "index")

    def _forget_condemned(self) -> None:
        for one in self.held.values():
            one.condemned = None


TestIndex = IndexMachine.TestCase
TestIndex.settings = settings(max_examples=8, stateful_step_count=25, deadline=None)
