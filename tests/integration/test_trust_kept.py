"""What becomes of a trust: suspended, removed, made again, restored from an older copy, checked (T10, T12)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select

import strongroom.trust.tables as t
from strongroom.core.errors import StrongroomError
from strongroom.database import read, transact
from strongroom.pki import registry
from strongroom.trust import store
from strongroom.trust.check import Leg, TrustChecker, Verdict
from strongroom.trust.decisions import Dependant
from strongroom.trust.state import Broken, TrustState
from tests.support.trust import ADMIN, Primary
from tests.support.two_primaries import Two, code_of, desk, move, peer

# ---------------------------------------------------------------- deciding


def test_t10_suspension_is_known_to_both_after_one_round_and_can_be_undone(two: Two) -> None:
    two.make()
    desk(two.a).suspend(two.b.domain, ADMIN)
    assert not peer(two.a, two.b).trust.passes_images
    two.b_calls()
    assert two.states() == (TrustState.SUSPENDED, TrustState.SUSPENDED_BY_PEER)
    desk(two.a).resume(two.b.domain, ADMIN)
    two.a_calls()
    assert two.states() == (TrustState.ACTIVE, TrustState.ACTIVE)


def test_t10_removal_names_what_needs_the_trust_and_refuses_unless_forced(two: Two) -> None:
    two.make()
    needing = desk(two.a, Dependant("SLP", "gold"), Dependant("pending copy", "db_1"))
    with pytest.raises(StrongroomError, match="SLP 'gold', pending copy 'db_1'") as caught:
        needing.remove(two.b.domain, ADMIN)
    assert caught.value.code == "trust.has-dependants"
    assert two.states() == (TrustState.ACTIVE, TrustState.ACTIVE)
    needing.remove(two.b.domain, ADMIN, force=True)
    assert peer(two.a, two.b).trust.state is TrustState.REMOVED


def test_t10_removal_is_known_to_both_whoever_calls_and_revokes_on_both_sides(two: Two) -> None:
    two.make()
    desk(two.a).remove(two.b.domain, ADMIN)
    assert code_of(two.b_calls) == "trust.removed"
    assert two.states() == (TrustState.REMOVED, TrustState.REMOVED_BY_PEER)
    for us, them in ((two.a, two.b), (two.b, two.a)):
        with read(us.engine) as connection:
            issued = registry.certificates(connection, them.domain, them.ours.host)
        assert issued
        assert all(certificate.revoked for certificate in issued)
    assert code_of(two.a_calls) != "trust.removed"  # A's certificate is of no use any more
    assert store.sweep_keys(two.a.engine, two.a.keys) == 1
    assert not two.a.keys.kept


def test_t10_the_remover_calling_tells_it_too_and_forgets_its_certificate(two: Two) -> None:
    two.make()
    desk(two.a).remove(two.b.domain, ADMIN)
    two.a_calls()
    assert two.states() == (TrustState.REMOVED, TrustState.REMOVED_BY_PEER)
    assert code_of(two.a_calls) == "trust.not-possible"


def test_trust_can_be_made_again_after_a_removal(two: Two) -> None:
    two.make()
    desk(two.a).remove(two.b.domain, ADMIN)
    two.a_calls()
    two.make()
    assert two.states() == (TrustState.ACTIVE, TrustState.ACTIVE)
    two.a_calls()
    two.b_calls()
    assert two.states() == (TrustState.ACTIVE, TrustState.ACTIVE)


# ---------------------------------------------------------------- homes


def restored(primary: Primary, incarnation: int) -> None:
    primary.ours = replace(primary.ours, incarnation=incarnation)
    primary.exchange._ours = primary.ours
    primary.maker._ours = primary.ours
    primary.start()


def test_a_restored_domain_waits_for_the_others_administrator_and_the_older_is_refused(two: Two) -> None:
    two.make()
    two.a_calls()
    restored(two.a, 2)
    assert code_of(two.a_calls) == "trust.newer-incarnation"
    assert peer(two.b, two.a).trust.broken is Broken.RESTORED
    assert not peer(two.b, two.a).trust.passes_images
    desk(two.b).confirm(two.a.domain, ADMIN)
    two.a_calls()
    assert peer(two.b, two.a).trust.passes_images
    restored(two.a, 1)
    assert code_of(two.a_calls) == "trust.older-incarnation"
    assert peer(two.a, two.b).trust.broken is Broken.WE_ARE_OLDER
    assert peer(two.b, two.a).trust.passes_images


def test_two_live_homes_of_one_domain_are_recognised_and_refused(two: Two) -> None:
    two.make()
    two.a_calls()
    with read(two.a.engine) as connection:
        old = connection.execute(select(t.trust_home)).one()
    two.a.start()  # the copy of the home starts elsewhere
    two.a_calls()
    back = t.trust_home.update().values(start=old.start, instance=old.instance)
    transact(two.a.engine, lambda c: c.execute(back))  # the original speaks on
    assert code_of(two.a_calls) == "trust.older-start"
    assert code_of(two.a_calls) == "trust.two-homes"
    assert peer(two.b, two.a).trust.broken is Broken.TWO_HOMES
    assert not peer(two.b, two.a).trust.passes_images


# ---------------------------------------------------------------- checking


def legs(two: Two) -> dict[str, Leg]:
    found = TrustChecker(two.a.engine, two.a.exchange, two.a.keys, two.a.clock).check(two.b.domain)
    return {leg.name: leg for leg in found}


def bad(two: Two) -> list[str]:
    return [leg.name for leg in legs(two).values() if leg.verdict is Verdict.BAD]


def test_t12_every_leg_of_a_good_trust_is_good(two: Two) -> None:
    two.make()
    found = legs(two)
    assert {leg.verdict for leg in found.values()} == {Verdict.GOOD}, found
    assert len(found) == 10


def test_t12_a_bad_leg_is_named_with_its_cure(two: Two) -> None:
    two.a.maker.add(two.b.invitation(two.at_b), ADMIN)
    assert bad(two) == ["peer-record", "state"]
    two.b.maker.add(two.a.invitation(two.at_a), ADMIN)
    two.a.clock.shift = timedelta(minutes=10)
    assert bad(two) == ["clock"]
    two.a.clock.shift = timedelta()
    moved = {"nowhere.invalid:1": "name", "127.0.0.1:1": "port", f"localhost:{two.at_b.port}": "certificate-name"}
    for address, leg in moved.items():
        move(two.a, address)
        found = legs(two)
        assert [one.name for one in found.values() if one.verdict is Verdict.BAD] == [leg]
        assert found[leg].cure
        assert found["peer-record"].verdict is Verdict.UNTRIED
