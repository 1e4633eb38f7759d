"""Imports: reading headers without a key, reading file lists with it, and what waits for which key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from fastapi import Query
from pydantic import Field, model_validator
from sqlalchemy import Connection, func, select

from strongroom.api.fields import UUID, Answer, Body, Name
from strongroom.api.images import ImageShown, image_shown
from strongroom.api.paging import DEFAULT_LIMIT, Limit
from strongroom.api.routes.images import StartedJob, domain_names, labels
from strongroom.api.routes.pools import find_pool
from strongroom.api.routing import Routes
from strongroom.api.security import CallerDep, PartsDep
from strongroom.catalog.images import ImageFilter, find_images, get_image
from strongroom.catalog.keys import waiting_by_tag
from strongroom.catalog.model import CopyState, Readability
from strongroom.catalog.tables import copies, copy_tags, images
from strongroom.core.ids import ImageId, KeyTag
from strongroom.database import read
from strongroom.kms.states import KeyState

routes = Routes("imports")
MAX_IMAGES = 10_000


class PhaseOne(Body):
    """Which pool is read."""

    pool: Name


class PhaseTwo(Body):
    """Which images are read; neither means all that wait and whose keys are here."""

    images: Annotated[list[UUID], Field(max_length=MAX_IMAGES)] | None = None
    pool: Name | None = None

    @model_validator(mode="after")
    def _one(self) -> PhaseTwo:
        if self.images is not None and self.pool is not None:
            raise ValueError("give images or a pool, not both")
        return self


class StartedJobs(Answer):
    """Jobs that do the work."""

    jobs: list[int]


class Waiting(Answer):
    """A key that images wait for. ``known`` and ``state`` are null while the keystore is locked."""

    tag: str
    known: bool | None
    state: KeyState | None
    images: int
    bytes: int


class ImportStatus(Answer):
    """What waits for keys."""

    by_tag: list[Waiting]
    images: list[ImageShown]


@routes.post("/imports/phase1", "image.import", on="pool:{pool}", status=202)
def import_phase_one(body: PhaseOne, caller: CallerDep) -> StartedJob:
    """Read the headers of a pool into the catalog; needs no key."""
    parts = caller.parts

    def start() -> int:
        find_pool(parts, body.pool)
        return parts.imports.phase_one(body.pool, caller.actor)

    return StartedJob(job=caller.act(start, describe=lambda job: {"job": job}))


@routes.post("/imports/phase2", "image.import", status=202)
def import_phase_two(body: PhaseTwo, caller: CallerDep) -> StartedJobs:
    """Read the file lists of imported images; those whose keys are missing stay listed and wait."""
    parts = caller.parts

    def start() -> list[int]:
        with read(parts.engine) as connection:
            wanted = [get_image(connection, ImageId(image)).image for image in body.images or ()]
        if body.pool is not None:
            find_pool(parts, body.pool)
        return list(parts.imports.phase_two(wanted, body.pool, caller.actor))

    facts = {"images": len(body.images or ()), "pool": body.pool}
    return StartedJobs(jobs=caller.act(start, facts=facts, describe=lambda jobs: {"jobs": len(jobs)}))


@routes.get("/imports", "image.read")
def show_imports(
    parts: PartsDep,
    missing_keys: Annotated[bool, Query(description="only keys that are not in the keystore at all")] = False,
    limit: Limit = DEFAULT_LIMIT,
) -> ImportStatus:
    """Show which images wait for keys, newest first, and which keys those are, most wanted first.

    More of the images: 'GET /v1/images?waiting_for_tag=TAG'.
    """
    with read(parts.engine) as connection:
        states = None if parts.kms is None else {key.tag: key.state for key in parts.kms.keys()}  # noqa: SIM118 - a method of the service
        by_tag = [_waiting(connection, states, item.tag, item.images) for item in waiting_by_tag(connection)]
        waiting = find_images(connection, ImageFilter(readability=Readability.WAITING_FOR_KEY), limit=limit).images
        media = labels(connection, waiting)
        names = domain_names(connection, parts)
    return ImportStatus(
        by_tag=[item for item in by_tag if not missing_keys or not item.known],
        images=[image_shown(image, names, media) for image in waiting],
    )


def _waiting(connection: Connection, states: Mapping[KeyTag, KeyState] | None, tag: KeyTag, number: int) -> Waiting:
    waits = (
        select(copies.c.image)
        .join(copy_tags)
        .where(
            copy_tags.c.tag == tag,
            copies.c.readability == Readability.WAITING_FOR_KEY,
            copies.c.state != CopyState.EXPIRED,
        )
    )
    size = connection.execute(
        select(func.coalesce(func.sum(images.c.content_bytes), 0)).where(images.c.image.in_(waits))
    ).scalar_one()
    return Waiting(
        tag=tag.hex(),
        known=None if states is None else tag in states,
        state=None if states is None else states.get(tag),
        images=number,
        bytes=int(size),
    )
