"""Images: listing, showing, verifying, holding, expiring."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated

from fastapi import Path, Query
from pydantic import Field
from sqlalchemy import Connection, select

from strongroom.api.errors import BadRequestError, NoSuchHoldError, NothingToHoldError
from strongroom.api.fields import UUID, Answer, Body, Hex32, Name, Remark
from strongroom.api.images import HopShown, ImageShown, ReceiptShown, image_shown, receipts_shown
from strongroom.api.paging import DEFAULT_LIMIT, After, Limit, Page
from strongroom.api.parts import Parts
from strongroom.api.policies import PolicyName
from strongroom.api.routes.trusts import find_peer
from strongroom.api.routing import Routes
from strongroom.api.security import CallerDep, PartsDep
from strongroom.catalog.expiry import hold_copy, release_hold
from strongroom.catalog.images import Cursor, ImageFilter, find_images, get_image
from strongroom.catalog.media import get_medium
from strongroom.catalog.model import Copy, CopyState, Image, Readability
from strongroom.catalog.tables import copy_holds, fragments
from strongroom.core.clock import from_ns, to_ns
from strongroom.core.ids import UUID_BYTES, DomainId, ImageId, KeyTag, from_text, to_text
from strongroom.database import read
from strongroom.formats import copy_header
from strongroom.people.sessions import authorise
from strongroom.trust import store

routes = Routes("images")
ImagePath = Annotated[UUID, Path()]
RETENTION_DAYS = 36_500
_DAY_SECONDS = 86_400


class HoldRequest(Body):
    """Why an image must stay."""

    reason: Remark = Field(min_length=1)


class ReleaseRequest(Body):
    """Which hold ends; null ends all of them."""

    hold: UUID | None = None
    reason: Remark = ""


class ExpireRequest(Body):
    """Which copy goes before its time, and why; null stands for all of them.

    ``lift_lock`` lifts governance locks, and wants ``image.unlock``.
    """

    copy_number: int | None = Field(default=None, alias="copy", ge=1, le=0xFFFF)
    reason: Remark = Field(min_length=1)
    lift_lock: bool = False


class LockImageRequest(Body):
    """For how long from now on an image must stay, and why."""

    days: int = Field(ge=1, le=RETENTION_DAYS)
    reason: Remark = Field(min_length=1)


class CopyLocked(Answer):
    """Until when a copy is locked, by the lock clock of its pool."""

    number: int = Field(serialization_alias="copy")
    locked_until: datetime


class ImageLocked(Answer):
    """The copies that are locked."""

    copies: list[CopyLocked]


class Expired(Answer):
    """The copies that are no copies any more."""

    copies: list[int]


class Held(Answer):
    """A hold, and the copies that it keeps."""

    hold: str
    copies: list[int]


class Released(Answer):
    """Holds that have ended."""

    holds: list[str]


class StartedJob(Answer):
    """A job that does the work."""

    job: int


@routes.get("/images", "image.read")
def list_images(
    parts: PartsDep,
    client: Annotated[Name | None, Query()] = None,
    policy: Annotated[Name | None, Query()] = None,
    slp: Annotated[PolicyName | None, Query()] = None,
    state: Annotated[Readability | None, Query(description="of any copy")] = None,
    origin: Annotated[Name | None, Query(description="a domain: id or name")] = None,
    since: Annotated[datetime | None, Query(description="with a time zone")] = None,
    until: Annotated[datetime | None, Query(description="with a time zone")] = None,
    backup_id: Annotated[Name | None, Query()] = None,
    text: Annotated[Name | None, Query(description="in backup id, client or policy")] = None,
    tag: Annotated[Hex32 | None, Query(description="of the key")] = None,
    waiting_for_tag: Annotated[Hex32 | None, Query(description="of the missing key")] = None,
    expired: Annotated[bool, Query(description="those without a copy too")] = False,
    after: After = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Page[ImageShown]:
    """List images, newest first."""
    wanted_tag = waiting_for_tag or tag
    with read(parts.engine) as connection:
        wanted = ImageFilter(
            text=text,
            client=client,
            policy=policy,
            slp=slp,
            origin=None if origin is None else _origin(connection, parts, origin),
            backup_id=backup_id,
            since_ns=_ns("since", since),
            until_ns=_ns("until", until),
            readability=Readability.WAITING_FOR_KEY if waiting_for_tag is not None else state,
            tag=None if wanted_tag is None else KeyTag(wanted_tag),
            with_expired=expired,
        )
        page = find_images(connection, wanted, after=_cursor(after), limit=limit)
        names, media = domain_names(connection, parts), labels(connection, page.images)
    following = None if page.next is None else f"{page.next.started_ns}.{to_text(page.next.image)}"
    return Page(items=[image_shown(image, names, media) for image in page.images], next=following)


@routes.get("/images/{image}", "image.read", on="image:{image}")
def show_image(image: ImagePath, parts: PartsDep) -> ImageShown:
    """Show an image with its copies and the way that each of them came."""
    with read(parts.engine) as connection:
        found = get_image(connection, ImageId(image))
        names = domain_names(connection, parts)
        media = labels(connection, [found])
        hops = {copy.id: _hops(connection, copy, names) for copy in found.copies}
    return image_shown(found, names, media, hops)


@routes.get("/images/{image}/receipts", "image.read", on="image:{image}")
def list_receipts(image: ImagePath, parts: PartsDep) -> Page[ReceiptShown]:
    """List the receipts of other domains for an image; each signature is checked anew."""
    with read(parts.engine) as connection:
        get_image(connection, ImageId(image))
        return Page(items=receipts_shown(connection, ImageId(image), domain_names(connection, parts)))


@routes.post("/images/{image}/verify", "image.verify", on="image:{image}", status=202)
def verify_image(image: ImagePath, caller: CallerDep) -> StartedJob:
    """Start a job that reads every byte of a complete copy here, and checks it."""
    parts = caller.parts

    def start() -> int:
        with read(parts.engine) as connection:
            get_image(connection, ImageId(image))
        return parts.images.verify(ImageId(image), caller.actor)

    return StartedJob(job=caller.act(start, describe=lambda job: {"job": job}))


@routes.post("/images/{image}/hold", "image.hold", on="image:{image}")
def hold_image(image: ImagePath, body: HoldRequest, caller: CallerDep) -> Held:
    """Keep an image whatever its retention, until this hold is released; there may be several."""
    parts = caller.parts
    hold, now, own = parts.entropy.bytes(UUID_BYTES), parts.clock.now(), parts.ours.domain

    def deed(connection: Connection) -> list[int]:
        copies = [copy for copy in _own(connection, parts, ImageId(image)) if copy.state is CopyState.COMPLETE]
        if not copies:
            raise NothingToHoldError(f"the image '{to_text(image)}' has no complete copy of this domain")
        for copy in copies:
            hold_copy(connection, copy.key, hold, own=own, now=now, reason=body.reason)
        return sorted(copy.key.number for copy in copies)

    held = caller.transact(deed, facts={"hold": to_text(hold), "reason": body.reason})
    return Held(hold=to_text(hold), copies=held)


@routes.post("/images/{image}/release", "image.release", on="image:{image}")
def release_image(image: ImagePath, body: ReleaseRequest, caller: CallerDep) -> Released:
    """End one hold of an image, or all of them."""
    parts = caller.parts
    now, own = parts.clock.now(), parts.ours.domain

    def deed(connection: Connection) -> list[bytes]:
        get_image(connection, ImageId(image))
        query = select(copy_holds).where(copy_holds.c.image == image, copy_holds.c.domain == own)
        if body.hold is not None:
            query = query.where(copy_holds.c.hold == body.hold)
        rows = connection.execute(query).all()
        if not rows:
            raise NoSuchHoldError(f"the image '{to_text(image)}' has no such hold")
        copies = {copy.key.number: copy for copy in _own(connection, parts, ImageId(image))}
        for row in rows:
            if row.number in copies:
                key = copies[row.number].key
                release_hold(connection, key, row.hold, own=own, now=now, reason=body.reason)
        return sorted({row.hold for row in rows})

    released = caller.transact(deed, facts={"reason": body.reason})
    return Released(holds=[to_text(hold) for hold in released])


@routes.post("/images/{image}/expire", "image.expire", on="image:{image}")
def expire_image(image: ImagePath, body: ExpireRequest, caller: CallerDep) -> Expired:
    """Expire the copies of an image on this domain's media before their time; this cannot be undone."""

    def deed(connection: Connection) -> list[int]:
        if body.lift_lock:
            authorise(caller.session, "image.unlock", caller.object)
        images = caller.parts.images
        return list(images.expire(connection, ImageId(image), body.copy_number, body.reason, lift=body.lift_lock))

    facts = {"copy": body.copy_number, "reason": body.reason, "lift_lock": body.lift_lock}
    return Expired(copies=caller.transact(deed, facts=facts))


@routes.post("/images/{image}/lock", "image.lock", on="image:{image}")
def lock_image(image: ImagePath, body: LockImageRequest, caller: CallerDep) -> ImageLocked:
    """Lock an image's copies in pools that lock, for so many days from now on; a lock that lasts longer stays."""
    locked = caller.act(
        lambda: caller.parts.media.lock_image(ImageId(image), body.days * _DAY_SECONDS, body.reason, caller.actor),
        facts={"days": body.days, "reason": body.reason},
    )
    return ImageLocked(
        copies=[CopyLocked(number=number, locked_until=from_ns(until)) for number, until in sorted(locked.items())]
    )


def domain_names(connection: Connection, parts: Parts) -> dict[bytes, str]:
    """Give what people call the domains that are known here."""
    names: dict[bytes, str] = {peer.domain: peer.name for peer in store.peers(connection)}
    return names | {parts.ours.domain: parts.ours.name}


def labels(connection: Connection, images: Iterable[Image]) -> dict[bytes, str]:
    """Give the labels of the media on which images lie."""
    media = {copy.medium for image in images for copy in image.copies}
    return {medium: get_medium(connection, medium).label for medium in media}


def _own(connection: Connection, parts: Parts, image: ImageId) -> list[Copy]:
    return [
        copy
        for copy in get_image(connection, image).copies
        if get_medium(connection, copy.medium).domain == parts.ours.domain
    ]


def _hops(connection: Connection, copy: Copy, names: dict[bytes, str]) -> list[HopShown] | None:
    header = connection.execute(
        select(fragments.c.header).where(fragments.c.copy_id == copy.id, fragments.c.number == 1)
    ).scalar_one_or_none()
    if header is None:
        return None
    return [HopShown.of(hop.payload, names) for hop in copy_header.verify(bytes(header)).hops]


def _origin(connection: Connection, parts: Parts, words: str) -> DomainId:
    if words in (parts.ours.name, to_text(parts.ours.domain)):
        return parts.ours.domain
    if len(words) == 64 and not set(words) - set("0123456789abcdef"):
        return DomainId(bytes.fromhex(words))  # images may come from a domain that this one never met
    return find_peer(connection, words).domain


def _ns(field: str, moment: datetime | None) -> int | None:
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise BadRequestError(f"'query.{field}': a time needs a time zone, such as 'Z'")
    return to_ns(moment)


def _cursor(after: str | None) -> Cursor | None:
    if after is None:
        return None
    started, _, image = after.partition(".")
    try:
        identity = from_text(image)
        number = int(started[:20])
    except ValueError as error:
        raise BadRequestError("'query.after' is not a cursor of this listing") from error
    if len(identity) != UUID_BYTES or not -(2**63) <= number < 2**63:
        raise BadRequestError("'query.after' is not a cursor of this listing")
    return Cursor(number, ImageId(identity))
