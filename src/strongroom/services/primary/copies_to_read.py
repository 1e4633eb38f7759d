"""Which copy a backup compares with, and which one a restore reads."""

from __future__ import annotations

from sqlalchemy import Connection

from strongroom.catalog.images import ImageFilter, find_images
from strongroom.catalog.model import Copy, CopyKey, CopyState, Image, Readability
from strongroom.core.ids import DomainId, KeyGroupId, MediumId, to_text
from strongroom.services.primary.client_hosts import Client
from strongroom.services.primary.errors import NotReadableError
from strongroom.trust.home import OurDomain

_MOST_PREVIOUS = 20


def previous_copy(
    connection: Connection, ours: OurDomain, client: Client, medium: MediumId, group: KeyGroupId
) -> tuple[CopyKey, int] | None:
    """Find the newest backup of this very client in the same pool and key group that can be read now.

    The name alone is not enough: who has a name that another host had before must not learn that one's file names.

    Returns:
        The copy, and when its backup began, ns.
    """
    wanted = ImageFilter(client=client.name, client_host=client.host or ours.host, origin=ours.domain, medium=medium)
    for image in find_images(connection, wanted, limit=_MOST_PREVIOUS).images:
        if image.key_group != group:
            continue
        for copy in image.copies:
            here = copy.medium == medium and copy.state is CopyState.COMPLETE
            if here and copy.readability is Readability.READABLE:
                return copy.key, image.started_ns
    return None


def readable_copy(domain: DomainId, image: Image, number: int | None) -> Copy:
    """Give a copy of this domain that can be read now: the one that is named, or the first.

    Raises:
        NotReadableError: there is none; the message names the missing key tags.
    """
    here = [
        copy
        for copy in image.copies
        if copy.key.domain == domain and copy.state is CopyState.COMPLETE and number in (None, copy.key.number)
    ]
    for copy in here:
        if copy.readability is Readability.READABLE:
            return copy
    missing = sorted({tag.hex() for copy in here for tag in copy.unknown_tags})
    if missing:
        raise NotReadableError(f"the image '{to_text(image.image)}' waits for the key {', '.join(missing)}")
    raise NotReadableError(
        f"no copy of the image '{to_text(image.image)}' in this domain can be read",
        hint="see its copies with 'strongroom image show'",
    )
