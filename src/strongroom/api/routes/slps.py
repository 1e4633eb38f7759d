"""Storage lifecycle policies."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import Path, Query
from sqlalchemy import Connection

from strongroom.api.errors import ImportPolicyNotReadyError, PolicyExistsError
from strongroom.api.fields import LARGEST_INT, Answer
from strongroom.api.paging import DEFAULT_LIMIT, After, Limit, Page, cut
from strongroom.api.policies import LocalPolicyName, OperationShown, PolicyDocument, shown, to_policy
from strongroom.api.routes.pools import find_pool
from strongroom.api.routes.trusts import find_peer
from strongroom.api.routing import Routes
from strongroom.api.security import Caller, CallerDep, PartsDep
from strongroom.core.errors import StrongroomError
from strongroom.core.ids import DomainId
from strongroom.database import read
from strongroom.lifecycle import policies
from strongroom.lifecycle.errors import PolicyNotFoundError
from strongroom.lifecycle.policies import StoredPolicy
from strongroom.lifecycle.policy import Backup, Import, Policy, Replication, Target

routes = Routes("slps")
Named = Annotated[LocalPolicyName, Path()]


class NewPolicyDocument(PolicyDocument):
    """A new lifecycle policy."""

    name: LocalPolicyName


class PeerCheck(Answer):
    """What another domain says of the import SLP that a replication names."""

    target: str
    import_slp: str
    ok: bool
    detail: str


class PolicyShown(Answer):
    """A version of a lifecycle policy."""

    name: str
    version: int
    state: Literal["active", "inactive"]
    made: datetime
    data_class: str
    operations: list[OperationShown]


class SavedPolicy(PolicyShown):
    """A version that was just saved, and what its targets say of it; null when no single domain is a target."""

    checked_with_peer: list[PeerCheck] | None


@routes.post("/slps", "slp.create", on="slp:{name}", status=201)
def create_slp(body: NewPolicyDocument, caller: CallerDep) -> SavedPolicy:
    """Make a lifecycle policy; it is active at once.

    Each target is asked whether it has the import SLP. What it answers is told, and does not keep the policy from
    being saved: the other administrator may make the import SLP later.
    """
    return _save(caller, body.name, body, new=True)


@routes.put("/slps/{name}", "slp.change", on="slp:{name}")
def update_slp(name: Named, body: PolicyDocument, caller: CallerDep) -> SavedPolicy:
    """Save the next version of a lifecycle policy; images stay on the version that they began with."""
    return _save(caller, name, body, new=False)


@routes.get("/slps", "slp.read")
def list_slps(parts: PartsDep, after: After = None, limit: Limit = DEFAULT_LIMIT) -> Page[PolicyShown]:
    """List the newest version of every lifecycle policy."""
    with read(parts.engine) as connection:
        items, following = cut(policies.list_policies(connection), lambda one: one.policy.name, after, limit)
    return Page(items=[_shown(one) for one in items], next=following)


@routes.get("/slps/{name}", "slp.read", on="slp:{name}")
def show_slp(
    name: Named, parts: PartsDep, version: Annotated[int | None, Query(ge=1, le=LARGEST_INT)] = None
) -> PolicyShown:
    """Show a lifecycle policy, by default its newest version."""
    with read(parts.engine) as connection:
        return _shown(policies.get_policy(connection, name, version))


@routes.post("/slps/{name}/activate", "slp.activate", on="slp:{name}")
def activate_slp(name: Named, caller: CallerDep) -> PolicyShown:
    """Let a lifecycle policy take new images again."""
    return _set_active(caller, name, active=True)


@routes.post("/slps/{name}/deactivate", "slp.activate", on="slp:{name}")
def deactivate_slp(name: Named, caller: CallerDep) -> PolicyShown:
    """Let a lifecycle policy take no new images; what was promised of those it has stays promised."""
    return _set_active(caller, name, active=False)


def _save(caller: Caller, name: str, document: PolicyDocument, *, new: bool) -> SavedPolicy:
    parts = caller.parts
    with read(parts.engine) as connection:
        policy = to_policy(name, document, lambda words: find_peer(connection, words).domain)
    _check_places(caller, policy)
    checks = _checks(caller, policy)
    now = parts.clock.now()

    def save(connection: Connection) -> StoredPolicy:
        if new == _exists(connection, name):
            if new:
                raise PolicyExistsError(f"there is a lifecycle policy '{name}'")
            raise PolicyNotFoundError(f"there is no lifecycle policy '{name}'")
        return policies.save_policy(connection, policy, now=now)

    stored = caller.transact(save, describe=lambda saved: {"version": saved.version})
    return SavedPolicy(checked_with_peer=checks, **_shown(stored).model_dump())


def _check_places(caller: Caller, policy: Policy) -> None:
    """Make sure that pools and key groups are there, so that a slip of the pen is told now and not at night."""
    for operation in policy.operations:
        if isinstance(operation, Backup | Import):
            find_pool(caller.parts, operation.storage)
        if isinstance(operation, Backup) and operation.key_group is not None:
            caller.parts.open_kms().group(operation.key_group)


def _checks(caller: Caller, policy: Policy) -> list[PeerCheck] | None:
    targets = [
        operation.to
        for operation in policy.operations
        if isinstance(operation, Replication) and isinstance(operation.to, Target)
    ]
    return [_check(caller, target.id, target.slp) for target in targets] or None


def _check(caller: Caller, peer: DomainId, slp: str) -> PeerCheck:
    """Ask the target now, because a mistake would otherwise show only when the first image arrives there.

    A target that does not answer is no reason to refuse; one that answers that it will not import is.
    """
    try:
        told = caller.parts.peers.check_import_policy(peer, slp)
    except StrongroomError as error:
        return PeerCheck(target=peer.hex(), import_slp=slp, ok=False, detail=f"not checked: {error.message}")
    if not told.found:
        raise ImportPolicyNotReadyError(f"the other domain has no import SLP '{slp}'")
    if not told.takes_imports:
        raise ImportPolicyNotReadyError(f"'{slp}' does not import in the other domain")
    if not told.active:
        raise ImportPolicyNotReadyError(f"'{slp}' is not active in the other domain")
    return PeerCheck(target=peer.hex(), import_slp=slp, ok=True, detail=f"'{slp}' is ready there")


def _exists(connection: Connection, name: str) -> bool:
    try:
        policies.get_policy(connection, name)
    except PolicyNotFoundError:
        return False
    return True


def _set_active(caller: Caller, name: str, *, active: bool) -> PolicyShown:
    now = caller.parts.clock.now()

    def change(connection: Connection) -> StoredPolicy:
        policies.set_active(connection, name, active, now=now)
        return policies.get_policy(connection, name)

    return _shown(caller.transact(change, facts={"active": active}))


def _shown(stored: StoredPolicy) -> PolicyShown:
    return PolicyShown(
        name=stored.policy.name,
        version=stored.version,
        state="active" if stored.active else "inactive",
        made=stored.made,
        data_class=stored.policy.data_class,
        operations=[shown(operation) for operation in stored.policy.operations],
    )
