"""Key groups and keys."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import Path, Query
from pydantic import Field, model_validator

from strongroom.api.fields import Answer, Body, Done, Hex32, Name, Password, Remark, secret, text
from strongroom.api.paging import DEFAULT_LIMIT, After, Limit, Page, cut
from strongroom.api.routing import Routes
from strongroom.api.security import CallerDep, PartsDep
from strongroom.audit import Fact
from strongroom.core.ids import KeyTag, to_text
from strongroom.formats.passphrase import normalise
from strongroom.kms.service import NewPassPhraseKey
from strongroom.kms.states import KeyState
from strongroom.kms.views import GroupView, KeyView

routes = Routes("kms")
Tag = Annotated[Hex32, Path(description="key tag, 64 hexadecimal digits")]


class GroupRequest(Body):
    """A new key group."""

    name: Name
    description: Remark = ""


class GroupShown(Answer):
    """A key group, and how many keys it has in each state."""

    group: str
    name: str
    description: str
    created: datetime
    keys: dict[KeyState, int]
    active: str | None = Field(description="tag of the key that encrypts")


class KeyRequest(Body):
    """A new key: random, or from a pass phrase that is given or drawn."""

    group: Name
    name: Name
    description: Remark = ""
    source: Literal["random", "passphrase"] = "random"
    passphrase: Password | None = None
    generate: bool = Field(default=False, description="draw the pass phrase here")
    activate: bool = False

    @model_validator(mode="after")
    def _fits(self) -> KeyRequest:
        if self.source == "random" and (self.passphrase is not None or self.generate):
            raise ValueError("a random key has no pass phrase")
        if self.source == "passphrase" and (self.passphrase is None) is not self.generate:
            raise ValueError("give a pass phrase, or ask for one with 'generate'")
        return self


class KeyShown(Answer):
    """A key without its secret, and what other vocabularies call its state."""

    tag: str
    group: str
    name: str
    description: str
    state: KeyState
    nist_state: str
    kmip_state: str
    source: Literal["random", "passphrase"]
    recovered: bool
    created: datetime
    modified: datetime


class NewKey(KeyShown):
    """A key that was just made. A generated pass phrase is shown now and never again."""

    passphrase: str | None = None
    recovery_sheet: str | None = Field(default=None, description="to be printed; the phrase is written on it by hand")


class Recovery(Body):
    """What makes a key again."""

    tag: Hex32
    passphrase: Password
    group: Name
    name: Name
    description: Remark = ""


class Drill(Body):
    """What is tried."""

    tag: Hex32
    passphrase: Password


class Fits(Answer):
    """The pass phrase makes the key of this tag."""

    tag: str
    ok: Literal[True] = True


@routes.post("/kms/groups", "key.create", on="key-group:{name}", status=201)
def create_group(body: GroupRequest, caller: CallerDep) -> GroupShown:
    """Make an empty key group."""
    kms = caller.parts.open_kms()
    return _group(caller.act(lambda: kms.create_group(body.name, body.description)))


@routes.get("/kms/groups", "key.read")
def list_groups(parts: PartsDep, after: After = None, limit: Limit = DEFAULT_LIMIT) -> Page[GroupShown]:
    """List the key groups by name."""
    items, following = cut(parts.open_kms().groups(), lambda group: group.name, after, limit)
    return Page(items=[_group(group) for group in items], next=following)


@routes.post("/kms/keys", "key.create", on="key-group:{group}", status=201)
def create_key(body: KeyRequest, caller: CallerDep) -> NewKey:
    """Make a key.

    A random key survives only in copies of the keystore. A key from a pass phrase can be made again, on any machine,
    from phrase and tag: print the recovery sheet.
    """
    kms = caller.parts.open_kms()

    def make() -> NewKey:
        if body.source == "random":
            view = kms.create_key(body.group, body.name, active=body.activate, description=body.description)
            return NewKey(**_key(view).model_dump())
        phrase = None if body.passphrase is None else normalise(text(secret(body.passphrase)))
        with caller.parts.slow.passed():
            made: NewPassPhraseKey = kms.create_pass_phrase_key(
                body.group, body.name, phrase, active=body.activate, description=body.description
            )
        return NewKey(
            passphrase=text(made.phrase) if body.generate else None,
            recovery_sheet=made.sheet,
            **_key(made.key).model_dump(),
        )

    facts: dict[str, Fact] = {"name": body.name, "source": body.source, "active": body.activate}
    return caller.act(make, facts=facts, describe=lambda made: {"tag": made.tag})


@routes.get("/kms/keys", "key.read")
def list_keys(
    parts: PartsDep,
    group: Annotated[Name | None, Query()] = None,
    after: After = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Page[KeyShown]:
    """List the keys, all or those of a group."""
    found = parts.open_kms().keys(group)
    items, following = cut(found, lambda key: key.tag.hex(), after, limit)
    return Page(items=[_key(key) for key in items], next=following)


@routes.get("/kms/keys/{tag}", "key.read")
def show_key(tag: Tag, parts: PartsDep) -> KeyShown:
    """Show a key."""
    return _key(parts.open_kms().key(KeyTag(tag)))


@routes.post("/kms/keys/{tag}/activate", "key.activate", on="key:{tag}")
def activate_key(tag: Tag, caller: CallerDep) -> KeyShown:
    """Let a key encrypt; the group's former active key becomes inactive."""
    kms = caller.parts.open_kms()
    return _key(caller.act(lambda: kms.activate(KeyTag(tag))))


@routes.post("/kms/keys/{tag}/deactivate", "key.deactivate", on="key:{tag}")
def deactivate_key(tag: Tag, caller: CallerDep) -> KeyShown:
    """Let a key decrypt only."""
    kms = caller.parts.open_kms()
    return _key(caller.act(lambda: kms.deactivate(KeyTag(tag))))


@routes.post("/kms/keys/{tag}/deprecate", "key.deprecate", on="key:{tag}")
def deprecate_key(tag: Tag, caller: CallerDep) -> KeyShown:
    """Take an inactive key out of use, or a terminated one back to the state before."""
    kms = caller.parts.open_kms()
    return _key(caller.act(lambda: kms.deprecate(KeyTag(tag))))


@routes.post("/kms/keys/{tag}/terminate", "key.terminate", on="key:{tag}")
def terminate_key(tag: Tag, caller: CallerDep) -> KeyShown:
    """Prepare a deprecated key for destruction."""
    kms = caller.parts.open_kms()
    return _key(caller.act(lambda: kms.terminate(KeyTag(tag))))


@routes.delete("/kms/keys/{tag}", "key.destroy", on="key:{tag}")
def destroy_key(tag: Tag, caller: CallerDep) -> Done:
    """Forget a prelive or terminated key for ever; refused while images need it."""
    kms = caller.parts.open_kms()
    caller.act(lambda: kms.destroy(KeyTag(tag)))
    return Done()


@routes.post("/kms/recover", "key.recover", on="key:{tag}", everywhere=True, status=201)
def recover_key(body: Recovery, caller: CallerDep) -> KeyShown:
    """Make a key again from its tag and pass phrase; a wrong phrase is refused at once.

    The key enters inactive: it decrypts. Images that wait for it go on by themselves.
    """
    kms = caller.parts.open_kms()
    phrase = normalise(text(secret(body.passphrase)))

    def recover() -> KeyView:
        with caller.parts.slow.passed():
            return kms.recover(KeyTag(body.tag), phrase, group=body.group, name=body.name, description=body.description)

    return _key(caller.act(recover, facts={"group": body.group, "name": body.name}))


@routes.post("/kms/check", "key.read", on="key:{tag}")
def check_phrase(body: Drill, caller: CallerDep) -> Fits:
    """Drill: make sure that a pass phrase makes the key of a tag. Nothing is stored."""
    kms = caller.parts.open_kms()
    phrase = normalise(text(secret(body.passphrase)))

    def check() -> None:
        with caller.parts.slow.passed():
            kms.check(KeyTag(body.tag), phrase)

    caller.act(check, facts={"drill": True})
    return Fits(tag=body.tag.hex())


def _group(view: GroupView) -> GroupShown:
    return GroupShown(
        group=to_text(view.group),
        name=view.name,
        description=view.description,
        created=view.created,
        keys=dict(view.counts),
        active=None if view.active is None else view.active.hex(),
    )


def _key(view: KeyView) -> KeyShown:
    return KeyShown(
        tag=view.tag.hex(),
        group=view.group_name,
        name=view.name,
        description=view.description,
        state=view.state,
        nist_state=view.standard.nist,
        kmip_state=view.standard.kmip,
        source="passphrase" if view.profile.name == "PASS_PHRASE" else "random",
        recovered=view.recovered,
        created=view.created,
        modified=view.modified,
    )
