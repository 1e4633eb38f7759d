"""The state of a trust, decided from values alone: ``apply(trust, event)`` gives the next one and what to do.

What each administrator decides has a *number*, drawn from a counter of the deciding domain that only rises. Every
record that two primaries exchange says the speaker's present decision and its number; a lower number than heard is
old news. So records may be lost, repeated and delayed: the highest number wins, and one exchange of two records
brings both sides together.

Two rules make sure that nobody acts on more than was confirmed. Images pass only when our own administrator has
added the other domain, and the other says the same. And what the other has removed comes back only when its
administrator makes the trust anew (:class:`Asked`, :class:`Answered`), never because it now says *added*: it might
have been restored from a copy made before the removal.

A home is told by *incarnation* (raised by a restore), *start* (rises with each start of the primary) and *instance*
(random at each start). Lower incarnation: refused. Higher: waits for our administrator. Same incarnation and a lower
start, or the same start by another instance: a record that was late, or a second home of one domain. What was
sent before the newer home started cannot name its instance; who names it was refused since, and is alive.

Source: ``docs/reference/protocols/peer.md``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from strongroom.core.errors import StrongroomError
from strongroom.core.ids import DomainId
from strongroom.trust.errors import (
    NewerIncarnationError,
    NotPossibleError,
    OlderIncarnationError,
    OlderStartError,
    TwoHomesError,
)

NO_INSTANCE: Final = bytes(16)


class Decision(StrEnum):
    """What an administrator has decided about the other domain."""

    NONE = "none"
    ADDED = "added"
    SUSPENDED = "suspended"
    REMOVED = "removed"

    @classmethod
    def read(cls, word: str) -> Decision:
        """Read what another domain said; a word that a later version may have lets nothing pass."""
        try:
            return cls(word)
        except ValueError:
            return cls.SUSPENDED


class TrustState(StrEnum):
    """What follows from both decisions."""

    NONE = "none"
    ASKED = "asked"
    WAITING = "waiting"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    SUSPENDED_BY_PEER = "suspended-by-peer"
    REMOVED_BY_PEER = "removed-by-peer"
    REMOVED = "removed"


class Broken(StrEnum):
    """Why a trust that may be active is not used."""

    RESTORED = "restored"
    """The other primary was restored; our administrator must confirm."""
    TWO_HOMES = "two-homes"
    """Two homes of the other domain speak."""
    WAITS_FOR_PEER = "waits-for-peer"
    """We were restored; the other administrator must confirm."""
    WE_ARE_OLDER = "we-are-older"
    """The other has seen a newer incarnation of this domain."""
    WE_ARE_TWO = "we-are-two"
    """The other has seen two homes of this domain."""
    REFUSED = "refused"
    """The other refuses us for a reason of its own, such as a revoked certificate."""


class Effect(StrEnum):
    """What must be done in the transaction that keeps the new state, or after it."""

    TELL = "tell"
    """Exchange soon: there is news."""
    REVOKE = "revoke"
    """Revoke every certificate that was issued to hosts of the other domain."""
    FORGET = "forget"
    """Destroy the certificate and key that the other domain issued to us."""


@dataclass(frozen=True)
class Trust:
    """What one domain knows of its trust with another.

    Args:
        peer: the other domain.
        ours: what our administrator decided, under ``our_number``.
        theirs: what the other's administrator decided, as last heard under ``their_number``.
        incarnation: highest of the other that is accepted; 0 before it first spoke.
        offered: a higher one that waits for our administrator; 0 for none.
        start: of the other's home, as last heard.
        instance: of the other's home, as last heard.
        newer: instance of another home of ours, which the other named when it refused this one as older.
        broken: why the trust is not used, whatever its state.
        unreachable_since: nothing was heard since.
        last_exchange: when both last understood each other.
    """

    peer: DomainId
    ours: Decision = Decision.NONE
    our_number: int = 0
    theirs: Decision = Decision.NONE
    their_number: int = 0
    incarnation: int = 0
    offered: int = 0
    start: int = 0
    instance: bytes = NO_INSTANCE
    newer: bytes = NO_INSTANCE
    broken: Broken | None = None
    unreachable_since: datetime | None = None
    last_exchange: datetime | None = None

    @property
    def state(self) -> TrustState:
        """What follows from both decisions."""
        match self.ours, self.theirs:
            case Decision.REMOVED, _:
                return TrustState.REMOVED
            case Decision.SUSPENDED, _:
                return TrustState.SUSPENDED
            case Decision.NONE, Decision.ADDED | Decision.SUSPENDED:
                return TrustState.ASKED
            case Decision.NONE, _:
                return TrustState.NONE
            case _, Decision.NONE:
                return TrustState.WAITING
            case _, Decision.SUSPENDED:
                return TrustState.SUSPENDED_BY_PEER
            case _, Decision.REMOVED:
                return TrustState.REMOVED_BY_PEER
            case _:
                return TrustState.ACTIVE

    @property
    def may_call(self) -> bool:
        """Whether we may speak first: who does so shows that it has nothing against the other's home."""
        return self.broken not in (Broken.RESTORED, Broken.TWO_HOMES)

    @property
    def passes_images(self) -> bool:
        """Whether images may pass now, in either direction."""
        return self.state is TrustState.ACTIVE and self.broken is None


@dataclass(frozen=True)
class Home:
    """Which home speaks, as it says itself over a connection that proved its domain."""

    incarnation: int
    start: int
    instance: bytes


# ---------------------------------------------------------------- events


@dataclass(frozen=True)
class Added:
    """Our administrator adds the other domain, which answered to it."""

    number: int
    their_state: Decision
    their_number: int
    their_incarnation: int


@dataclass(frozen=True)
class Suspended:
    """Our administrator suspends."""

    number: int


@dataclass(frozen=True)
class Resumed:
    """Our administrator takes a suspension back."""

    number: int


@dataclass(frozen=True)
class Removed:
    """Our administrator removes the trust, or declines to make it."""

    number: int


@dataclass(frozen=True)
class Confirmed:
    """Our administrator says that the other domain's home is the right one."""


@dataclass(frozen=True)
class Asking:
    """We are about to ask, and take back a removal; what we say from now on must count as later than the request."""

    number: int


@dataclass(frozen=True)
class Asked:
    """The other domain has added us, with a token of ours. ``our_number`` is fresh, for what we say next."""

    their_number: int
    their_incarnation: int
    our_number: int


@dataclass(frozen=True)
class Spoke:
    """A home of the other domain speaks.

    Args:
        home: which one.
        after: instance of the other domain that had been heard before this was said: the one that a request names,
            or for an answer the one that was known when we asked. Zeros when nothing shows it.
    """

    home: Home
    after: bytes = NO_INSTANCE


@dataclass(frozen=True)
class Heard:
    """The other domain says what its administrator has decided."""

    decision: Decision
    number: int


@dataclass(frozen=True)
class Reached:
    """The other has called us, or answered us, and has nothing against our home."""

    at: datetime


@dataclass(frozen=True)
class Lost:
    """The other could not be reached."""

    at: datetime


@dataclass(frozen=True)
class RefusedThere:
    """The other's primary, verified, refused to exchange.

    Args:
        code: of its error.
        heard: what its administrator has decided, when it said so.
        newer: instance of the home of ours that it has heard instead, when it said so.
        later: whether it said that the same may go well another time.
    """

    code: str
    heard: Heard | None = None
    newer: bytes | None = None
    later: bool = False


Event = (
    Added | Suspended | Resumed | Removed | Confirmed | Asking | Asked | Spoke | Heard | Reached | Lost | RefusedThere
)


@dataclass(frozen=True)
class Step:
    """What an event leads to.

    Args:
        trust: the new state, to be kept even when the event is refused.
        effects: to be done.
        refusal: what to tell who caused the event.
    """

    trust: Trust
    effects: tuple[Effect, ...] = ()
    refusal: StrongroomError | None = None


def apply(trust: Trust, event: Event) -> Step:
    """Decide.

    Raises:
        NotPossibleError: an administrator asked for what the state does not allow; nothing changes.
        OlderIncarnationError: trust was to be made with an older copy of the other domain.
    """
    match event:
        case Added():
            return _added(trust, event)
        case Suspended(number):
            _require(trust, Decision.ADDED, "suspended")
            return Step(replace(trust, ours=Decision.SUSPENDED, our_number=number), (Effect.TELL,))
        case Resumed(number):
            _require(trust, Decision.SUSPENDED, "resumed")
            return Step(replace(trust, ours=Decision.ADDED, our_number=number), (Effect.TELL,))
        case Removed(number):
            if trust.ours is Decision.REMOVED:
                raise NotPossibleError("the trust was removed already")
            changed = replace(trust, ours=Decision.REMOVED, our_number=number)
            return Step(changed, (Effect.REVOKE, Effect.TELL))
        case Confirmed():
            return Step(_confirmed(trust), (Effect.TELL,))
        case Asking(number):
            ours = Decision.NONE if trust.ours is Decision.REMOVED else trust.ours
            return Step(replace(trust, ours=ours, our_number=number))
        case Asked():
            return _asked(trust, event)
        case Spoke():
            return _spoke(trust, event)
        case Heard(decision, number):
            return _heard(trust, decision, number)
        case Reached(at):
            return _reached(trust, at)
        case Lost(at):
            return Step(replace(trust, unreachable_since=trust.unreachable_since or at))
        case RefusedThere():
            return _refused_there(trust, event)


def _require(trust: Trust, decision: Decision, verb: str) -> None:
    if trust.ours is not decision:
        raise NotPossibleError(f"a trust that is '{trust.state}' cannot be {verb}")


def _added(trust: Trust, event: Added) -> Step:
    if trust.ours is Decision.REMOVED:
        raise NotPossibleError("the trust was removed while it was being made")
    trust = _met(trust, event.their_incarnation)
    if event.their_number >= trust.their_number:
        trust = replace(trust, theirs=event.their_state, their_number=event.their_number)
    # The administrator has just compared the fingerprint: that is the word which a broken trust waits for.
    trust = replace(trust, ours=Decision.ADDED, our_number=event.number, broken=None)
    return Step(trust, (Effect.TELL,))


def _asked(trust: Trust, event: Asked) -> Step:
    restored = 0 < trust.incarnation < event.their_incarnation
    if restored and trust.ours in (Decision.ADDED, Decision.SUSPENDED):
        # The token shows that somebody wanted this; not that the home which comes with it is the right one.
        offered = max(trust.offered, event.their_incarnation)
        trust = replace(trust, offered=offered, broken=Broken.RESTORED)
        return Step(trust, (), _unconfirmed(trust))
    trust = _met(trust, event.their_incarnation)
    if event.their_number > trust.their_number:
        trust = replace(trust, theirs=Decision.ADDED, their_number=event.their_number)
    if trust.ours in (Decision.NONE, Decision.REMOVED):
        # A fresh number: what the other heard of an attempt of ours that failed must not stay the last word.
        trust = replace(trust, ours=Decision.NONE, our_number=event.our_number)
    return Step(trust)


def _met(trust: Trust, incarnation: int) -> Trust:
    """Take the home with which trust is being made, unless a later one is known."""
    if incarnation < max(trust.incarnation, trust.offered):
        raise OlderIncarnationError(
            f"the domain comes with the incarnation {incarnation}, and {max(trust.incarnation, trust.offered)} is known"
        )
    if incarnation > trust.incarnation > 0:
        return _of_new_incarnation(trust, incarnation)
    return replace(trust, incarnation=incarnation)


def _of_new_incarnation(trust: Trust, incarnation: int) -> Trust:
    """Begin anew with a restored home: what was heard of the former is not its word, except a removal."""
    theirs = Decision.REMOVED if trust.theirs is Decision.REMOVED else Decision.NONE
    fresh = replace(trust, incarnation=incarnation, offered=0, theirs=theirs, their_number=0)
    return _of_unknown_start(fresh)


def _of_unknown_start(trust: Trust) -> Trust:
    return replace(trust, start=0, instance=NO_INSTANCE, broken=None)


def _confirmed(trust: Trust) -> Trust:
    match trust.broken:
        case Broken.RESTORED:
            return _of_new_incarnation(trust, trust.offered)
        case Broken.TWO_HOMES:
            return _of_unknown_start(trust)
        case Broken.WAITS_FOR_PEER | Broken.WE_ARE_OLDER | Broken.WE_ARE_TWO | Broken.REFUSED:
            raise NotPossibleError(
                f"the trust is broken ('{trust.broken}'), and only the other domain can mend it",
                hint="let the other administrator look with 'strongroom trust check'",
            )
        case None:
            raise NotPossibleError("nothing waits to be confirmed")


def _spoke(trust: Trust, event: Spoke) -> Step:
    home = event.home
    if home.incarnation < max(trust.incarnation, trust.offered):
        known = max(trust.incarnation, trust.offered)
        return Step(
            trust, (), OlderIncarnationError(f"the incarnation {home.incarnation} speaks, and {known} has spoken")
        )
    if home.incarnation > trust.incarnation > 0:
        trust = replace(trust, offered=home.incarnation, broken=Broken.RESTORED)
        return Step(trust, (), _unconfirmed(trust))
    if trust.broken is Broken.TWO_HOMES:
        return Step(trust, (), _two_homes(trust))
    trust = replace(trust, incarnation=home.incarnation)
    if (home.start, home.instance) == (trust.start, trust.instance):
        return Step(trust)
    if home.start > trust.start:
        return Step(replace(trust, start=home.start, instance=home.instance))
    return _older_start(trust, event)


def _older_start(trust: Trust, event: Spoke) -> Step:
    """Judge a home that should no longer be there.

    Any number of records can be under way while their sender is started again, and arrive after the next one's. So an
    older start alone is only refused. Instances are random: what was said after the newer one had been heard was said
    by a home that lives beside it.
    """
    home = event.home
    if event.after == trust.instance:
        trust = replace(trust, broken=Broken.TWO_HOMES)
        return Step(trust, (), _two_homes(trust))
    return Step(
        trust, (), OlderStartError(f"the home of start {home.start} speaks, and one of start {trust.start} has spoken")
    )


def _heard(trust: Trust, decision: Decision, number: int) -> Step:
    if number <= trust.their_number:
        return Step(trust)
    if trust.theirs is Decision.REMOVED and decision is not Decision.REMOVED:
        return Step(trust)
    effects = () if decision is not Decision.REMOVED or trust.theirs is decision else (Effect.REVOKE,)
    return Step(replace(trust, theirs=decision, their_number=number), effects)


def _reached(trust: Trust, at: datetime) -> Step:
    broken = None if trust.may_call else trust.broken
    trust = replace(trust, unreachable_since=None, last_exchange=at, broken=broken)
    return Step(trust, (Effect.FORGET,) if trust.ours is Decision.REMOVED else ())


_REASONS: Final = {
    OlderIncarnationError.code: Broken.WE_ARE_OLDER,
    NewerIncarnationError.code: Broken.WAITS_FOR_PEER,
    TwoHomesError.code: Broken.WE_ARE_TWO,
}


def _refused_there(trust: Trust, event: RefusedThere) -> Step:
    code, heard = event.code, event.heard
    step = _heard(trust, heard.decision, heard.number) if heard else Step(trust)
    trust = replace(step.trust, newer=event.newer or trust.newer)
    step = replace(step, trust=trust)
    # Who is busy, or was asked too often, has nothing against us: that must not stop what passes.
    passing = event.later and code not in _REASONS
    settled = trust.theirs is Decision.REMOVED or code == OlderStartError.code
    if not settled and not passing and trust.may_call:
        step = replace(step, trust=replace(trust, broken=_REASONS.get(code, Broken.REFUSED)))
    if trust.ours is Decision.REMOVED:
        # Whatever its reason, it does not let us in: there is nobody left to tell.
        step = replace(step, effects=(*step.effects, Effect.FORGET))
    return step


def _unconfirmed(trust: Trust) -> NewerIncarnationError:
    return NewerIncarnationError(
        f"the domain was restored: its incarnation is {trust.offered}, and {trust.incarnation} was known"
    )


def _two_homes(trust: Trust) -> TwoHomesError:
    return TwoHomesError(f"two homes of the domain '{trust.peer.hex()}' are alive")
