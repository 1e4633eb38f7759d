"""P1, L5: whatever is written, aborted, reopened or lost, what a session acknowledged is read back."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from strongroom.pool.manifest import StreamRoot
from strongroom.pool.verify import verify_container
from strongroom.pool.writer import WriterLimits
from tests.support.pool import MEDIUM, Pool, named

LIMITS = WriterLimits(frame_bytes=300, container_bytes=2_500, in_flight_bytes=1_000)
SEGMENTS = [bytes((number,)) * (40 + 17 * number) for number in range(12)]
streams = st.lists(st.integers(0, len(SEGMENTS) - 1), max_size=60)


class PoolMachine(RuleBasedStateMachine):
    """A pool beside a list of what it must hold."""

    def __init__(self) -> None:
        super().__init__()
        self.path = Path(tempfile.mkdtemp())
        self.pool = Pool.create(self.path / "pool")
        self.images: list[tuple[StreamRoot, list[bytes]]] = []
        self.openings = 0

    def teardown(self) -> None:
        self.pool.index.close()
        shutil.rmtree(self.path)

    @rule(numbers=streams)
    def back_up(self, numbers: list[int]) -> None:
        stream = [SEGMENTS[number] for number in numbers]
        self.images.append((self.pool.write_manifest(self.pool.write(stream, LIMITS)), stream))

    @rule(numbers=streams)
    def break_off(self, numbers: list[int]) -> None:
        with self.pool.session(limits=LIMITS) as session:
            writer = session.writer()
            for number in numbers:
                writer.add(named(session, [SEGMENTS[number]]))

    @rule()
    def reopen(self) -> None:
        self.openings += 1
        self.pool.index.close()
        self.pool = Pool.open(self.path / "pool", seed=str(self.openings), keys=self.pool.keys)
        assert (self.pool.report.added, self.pool.report.removed) == ([], [])

    @rule()
    def make_the_index_anew(self) -> None:
        self.pool.index.rebuild(self.pool.store)

    @rule(pick=st.integers(0, 100))
    def retire_a_data_key(self, pick: int) -> None:
        keys = list(self.pool.keys.given)
        if keys:
            self.pool.keys.unusable.add(keys[pick % len(keys)])

    @invariant()
    def every_image_is_read_back(self) -> None:
        with self.pool.reader() as reader:
            for root, stream in self.images:
                references = self.pool.references(root)
                assert [bytes(segment) for segment in reader.read(references)] == stream

    @invariant()
    def every_container_is_whole(self) -> None:
        for container, _, _, _ in self.pool.index.containers():
            assert list(verify_container(self.pool.store, container, MEDIUM)) == []


TestPoolMachine = PoolMachine.TestCase
TestPoolMachine.settings = settings(max_examples=15, stateful_step_count=15)
