"""Planning again from the rows: what a crash left, what waited for a time, what a rebuild found."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from sqlalchemy import Connection

from strongroom.core.errors import StrongroomError
from strongroom.core.ids import ImageId
from strongroom.database import read, transact
from strongroom.lifecycle.begin import FIRST_IMAGE, without_lifecycle
from strongroom.lifecycle.replications import images_to_send
from strongroom.services.primary.image_work import ImageWork
from strongroom.services.primary.opening import Primary

logger = logging.getLogger(__name__)

AT_ONCE: Final = 200


class Replanning:
    """Looks at a bounded number of images at each call, and at all of them in turn.

    An image that cannot be planned, for example because its policy is not here, holds up no other one.

    Args:
        primary: whose.
        images: submits what is due.
    """

    def __init__(self, primary: Primary, images: ImageWork) -> None:
        self._primary = primary
        self._images = images
        self._begun_to = FIRST_IMAGE
        self._planned_to = FIRST_IMAGE
        self._told: set[ImageId] = set()

    def go_on(self) -> None:
        """Begin the lifecycles that have not begun, and submit what is due."""
        own = self._primary.domain
        self._begun_to = self._each(
            lambda c: without_lifecycle(c, own=own, after=self._begun_to, limit=AT_ONCE), self._images.acknowledged
        )
        self._planned_to = self._each(
            lambda c: images_to_send(c, after=self._planned_to, limit=AT_ONCE), self._images.submit_due
        )

    def _each(
        self, find: Callable[[Connection], list[ImageId]], deed: Callable[[Connection, ImageId], None]
    ) -> ImageId:
        """Do something with each image in a transaction of its own; give the one behind which the next call begins."""
        with read(self._primary.engine) as connection:
            found = find(connection)
        for image in found:
            try:
                self._plan(image, deed)
            except StrongroomError as error:
                self._tell(image, error)
        return found[-1] if len(found) == AT_ONCE else FIRST_IMAGE

    def _plan(self, image: ImageId, deed: Callable[[Connection, ImageId], None]) -> None:
        transact(self._primary.engine, lambda connection: deed(connection, image))

    def _tell(self, image: ImageId, error: StrongroomError) -> None:
        if image not in self._told:  # once, not every few seconds
            self._told.add(image)
            facts = {"event": "not-planned", "image": image.hex(), "code": error.code}
            logger.warning("an image cannot be planned: %s", error.message, extra=facts)
