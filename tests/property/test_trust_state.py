"""Two domains, their administrators, and a network that loses, repeats and delays (design 3; T4, T10)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from strongroom.core.errors import StrongroomError
from strongroom.core.ids import DomainId
from strongroom.trust.errors import NotPossibleError, OlderStartError
from strongroom.trust.state import (
    Added,
    Asked,
    Asking,
    Broken,
    Confirmed,
    Decision,
    Effect,
    Event,
    Heard,
    Home,
    Reached,
    RefusedThere,
    Removed,
    Resumed,
    Spoke,
    Step,
    Suspended,
    Trust,
    apply,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
IDS = (DomainId(b"a" * 32), DomainId(b"b" * 32))
SIDES = st.sampled_from([0, 1])


@dataclass(frozen=True)
class Said:
    """What one record says."""

    home: Home
    newer: bytes
    decision: Decision
    number: int
    certificate: int


@dataclass(frozen=True)
class Answered:
    """An answer under way: to whom, what the caller knew of the other's home when it asked, and what is said."""

    side: int
    caller: Home
    knew: bytes
    said: Said


@dataclass
class Domain:
    """One side: its state, its counter, and what its administrator really wanted last."""

    trust: Trust
    wanted: Decision = Decision.NONE
    counter: int = 0
    incarnation: int = 1
    start: int = 1
    instance: int = 1
    held: int = 0
    """Certificate that the other issued to us; 0 for none."""
    good: set[int] = field(default_factory=set)
    """Certificates that we issued and did not revoke."""

    def take(self) -> int:
        self.counter += 1
        return self.counter

    def do(self, event: Event) -> Step:
        step = apply(self.trust, event)
        self.trust = step.trust
        if Effect.REVOKE in step.effects:
            self.good.clear()
        if Effect.FORGET in step.effects:
            self.held = 0
        return step

    def say(self) -> Said:
        return Said(self.home(), self.trust.newer, self.trust.ours, self.trust.our_number, self.held)

    def home(self) -> Home:
        return Home(self.incarnation, self.start, self.instance.to_bytes(16, "big"))


class TwoDomains(RuleBasedStateMachine):
    """Everything that can happen, in any order."""

    @initialize(made=st.booleans())
    def begin(self, *, made: bool) -> None:
        """Begin with nothing, or where most of life is spent: with a trust that is made."""
        self.sides = [Domain(Trust(IDS[1])), Domain(Trust(IDS[0]))]
        self.under_way: list[tuple[int, Said]] = []
        self.answers: list[Answered] = []
        self.copies: list[Domain | None] = [None, None]
        self.went_back = False
        self.serial = 0
        self.instances = 1
        if made:
            for side in (0, 1):
                self.add(side, answered=True, arrives=True, busy=False)
            assert self.call(0)

    # ------------------------------------------------------------ administrators

    @rule(side=SIDES, answered=st.booleans(), arrives=st.booleans(), busy=st.booleans())
    def add(self, side: int, *, answered: bool, arrives: bool, busy: bool) -> None:
        us, them = self.sides[side], self.sides[1 - side]
        ask = us.take()
        us.do(Asking(us.take()))
        if us.wanted is Decision.REMOVED:
            us.wanted = Decision.NONE
        if busy:  # somebody calls while the request is under way
            self.call(1 - side)
        if not arrives:
            return
        try:
            step = them.do(Asked(ask, us.incarnation, them.take()))
        except StrongroomError:
            return
        if step.refusal is not None:
            return
        if them.wanted is Decision.REMOVED:
            them.wanted = Decision.NONE
        self.serial += 1
        them.good.add(self.serial)
        said = them.trust.ours, them.trust.our_number, them.incarnation
        if busy:
            self.call(1 - side)
        if not answered:
            return
        try:
            us.do(Added(us.take(), *said))
        except StrongroomError:
            return
        us.held = self.serial
        us.wanted = Decision.ADDED

    @rule(side=SIDES)
    def suspend(self, side: int) -> None:
        self.decide(side, Suspended(self.sides[side].take()), Decision.SUSPENDED)

    @rule(side=SIDES)
    def resume(self, side: int) -> None:
        self.decide(side, Resumed(self.sides[side].take()), Decision.ADDED)

    @rule(side=SIDES)
    def remove(self, side: int) -> None:
        self.decide(side, Removed(self.sides[side].take()), Decision.REMOVED)

    def decide(self, side: int, event: Event, wanted: Decision) -> None:
        try:
            self.sides[side].do(event)
        except NotPossibleError:
            return
        self.sides[side].wanted = wanted

    # ------------------------------------------------------------ machines

    @rule(side=SIDES)
    def restart(self, side: int) -> None:
        self.instances += 1
        us = self.sides[side]
        us.start, us.instance = us.start + 1, self.instances

    @rule(side=SIDES)
    def back_up(self, side: int) -> None:
        us = self.sides[side]
        self.copies[side] = replace(us, good=set(us.good))

    @rule(side=SIDES)
    def restore(self, side: int) -> None:
        """Put a home back to an older copy, as the product does it: with a higher incarnation."""
        copy, us, them = self.copies[side], self.sides[side], self.sides[1 - side]
        if copy is None:
            return
        us.trust, us.wanted, us.counter, us.held, us.good = (
            copy.trust,
            copy.trust.ours,
            copy.counter,
            copy.held,
            copy.good & us.good,  # the newest list of revocations is fetched before anyone is served
        )
        us.incarnation += 1
        self.restart(side)
        forgotten = them.trust.theirs is Decision.REMOVED
        self.went_back |= forgotten
        self.call(side)
        self.call(1 - side)
        if them.trust.broken is Broken.RESTORED:
            assert not them.trust.passes_images
            them.do(Confirmed())
            assert not them.trust.passes_images
            self.call(side)
            self.call(1 - side)
            assert not (forgotten and them.trust.passes_images)

    # ------------------------------------------------------------ the network

    def can_talk(self, side: int) -> bool:
        us, them = self.sides[side], self.sides[1 - side]
        return us.trust.may_call and us.held in them.good

    @rule(side=SIDES)
    def send(self, side: int) -> None:
        """Begin a request that may arrive late, or never."""
        if self.sides[side].held and self.sides[side].trust.may_call and len(self.under_way) < 6:
            self.under_way.append((side, self.sides[side].say()))

    @rule(side=SIDES)
    def call_and_wait(self, side: int) -> None:
        """Call; the answer may come late, after others, or never."""
        us = self.sides[side]
        if us.held and us.trust.may_call and len(self.answers) < 4:
            caller, knew = us.home(), us.trust.instance
            said = self.handle(side, us.say(), answered=True)
            if said is not None:
                self.answers.append(Answered(side, caller, knew, said))

    @precondition(lambda self: self.answers)
    @rule(data=st.data())
    def answer_arrives(self, data: st.DataObject) -> None:
        """An answer reaches its caller, if that one still runs; it cannot come twice over one connection."""
        self.take_late(self.answers.pop(data.draw(st.integers(0, len(self.answers) - 1))))

    def take_late(self, answer: Answered) -> None:
        if self.sides[answer.side].home() == answer.caller:
            self.take(answer.side, answer.said, answer.knew)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), again=st.booleans(), answered=st.booleans())
    def arrive(self, data: st.DataObject, *, again: bool, answered: bool) -> None:
        """Whatever is under way arrives; its sender may have given up, and it may arrive once more."""
        at = data.draw(st.integers(0, len(self.under_way) - 1))
        side, said = self.under_way[at] if again else self.under_way.pop(at)
        fresh = said.home == self.sides[side].home()
        self.deliver(side, said, answered=answered and fresh)

    def call(self, side: int, *, answered: bool = True) -> bool:
        if not self.sides[side].held or not self.sides[side].trust.may_call:
            return False
        return self.deliver(side, self.sides[side].say(), answered=answered)

    def deliver(self, side: int, said: Said, *, answered: bool) -> bool:
        knew = self.sides[side].trust.instance
        answer = self.handle(side, said, answered=answered)
        return answer is not None and answered and self.take(side, answer, knew)

    def handle(self, side: int, said: Said, *, answered: bool) -> Said | None:
        """The called one's part; a refusal arrives at once, if at all."""
        us, them = self.sides[side], self.sides[1 - side]
        word = Heard(them.trust.ours, them.trust.our_number)
        if said.certificate not in them.good or them.trust.ours is Decision.REMOVED:
            code = "trust.removed" if them.trust.ours is Decision.REMOVED else "pki.certificate-revoked"
            if answered:
                us.do(RefusedThere(code, word))
            return None
        step = them.do(Spoke(said.home, said.newer))
        if step.refusal is not None:
            if answered:
                newer = them.trust.instance if isinstance(step.refusal, OlderStartError) else None
                us.do(RefusedThere(step.refusal.code, word, newer))
            return None
        them.do(Heard(said.decision, said.number))
        them.do(Reached(NOW))
        return them.say()

    def take(self, side: int, answer: Said, knew: bytes) -> bool:
        """The caller's part."""
        us = self.sides[side]
        step = us.do(Spoke(answer.home, knew))
        if step.refusal is not None:
            return False
        us.do(Heard(answer.decision, answer.number))
        us.do(Reached(NOW))
        return True

    # ------------------------------------------------------------ what must hold

    @invariant()
    def nobody_acts_on_more_than_its_own_administrator_confirmed(self) -> None:
        for us in self.sides:
            assert us.trust.ours is us.wanted
            if us.trust.passes_images:
                assert us.wanted is Decision.ADDED

    @invariant()
    def one_round_brings_both_together(self) -> None:
        """Tried on copies after each step: whoever can call, calls once; then all that was late arrives."""
        for side in (0, 1):
            if not self.can_talk(side) or self.went_back:
                continue
            kept = [replace(one, good=set(one.good)) for one in self.sides]
            us, them = self.sides[side], self.sides[1 - side]
            removed = them.trust.ours is Decision.REMOVED
            understood = self.call(side)
            if understood or removed:
                assert us.trust.theirs is them.trust.ours
            if understood:
                for sender, said in self.under_way:
                    self.deliver(sender, said, answered=False)
                for answer in self.answers:
                    self.take_late(answer)
                assert them.trust.theirs is us.trust.ours
                assert us.trust.theirs is them.trust.ours
                assert us.trust.passes_images == them.trust.passes_images
            self.sides = kept

    @invariant()
    def restarts_and_late_requests_never_look_like_two_homes(self) -> None:
        assert all(one.trust.broken not in (Broken.TWO_HOMES, Broken.WE_ARE_TWO) for one in self.sides)

    @invariant()
    def a_clone_beside_its_original_is_recognised(self) -> None:
        """Tried on copies: whatever came before, the clone calls, then the original twice."""
        for side in (0, 1):
            if not self.can_talk(side) or self.went_back:
                continue
            kept = [replace(one, good=set(one.good)) for one in self.sides]
            original, them = self.sides[side], self.sides[1 - side]
            if self.call(side) and self.can_talk(side):
                self.sides[side] = replace(original, start=original.start + 1, instance=self.instances + 1)
                assert self.call(side)
                self.sides[side] = original
                assert not self.call(side)
                assert them.trust.broken is None
                assert not self.call(side)
                assert them.trust.broken is Broken.TWO_HOMES
                assert original.trust.broken is Broken.WE_ARE_TWO
            self.sides = kept


def test_two_requests_that_their_senders_restart_overtook_leave_the_trust_whole() -> None:
    machine = TwoDomains()
    machine.begin(made=True)
    machine.send(side=1)
    machine.send(side=1)
    machine.restart(side=1)
    assert machine.call(1)
    for sender, said in machine.under_way:
        machine.deliver(sender, said, answered=False)
    assert all(one.trust.passes_images for one in machine.sides)
    assert machine.call(1)


TwoDomains.TestCase.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
TestTwoDomains = TwoDomains.TestCase
