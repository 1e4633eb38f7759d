"""Building the list of key envelopes that a copy needs, as key pages that copies share.

Source: ``docs/reference/formats/key-page.md``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from strongroom.core.ids import EnvelopeId, PageId
from strongroom.formats import key_page
from strongroom.pool.manifest import PutPage

_LEAST: Final = 64


def write_key_pages(envelopes: Iterable[EnvelopeId], put: PutPage) -> list[PageId]:
    """Write the key pages of a copy.

    Args:
        envelopes: envelope ids, strictly ascending.
        put: stores a page.

    Returns:
        The page ids in order, for the copy header.
    """
    pages: list[PageId] = []
    gathered: list[EnvelopeId] = []
    for envelope in envelopes:
        gathered.append(envelope)
        count = len(gathered)
        if count == key_page.MAX_ENVELOPES or (count >= _LEAST and envelope[-1] == 0):
            pages.append(put(key_page.encode(gathered)))
            gathered.clear()
    if gathered:
        pages.append(put(key_page.encode(gathered)))
    return pages
