"""Access keys of pools in object storage: sealed among the service keys, one for each pool.

A media server that opens such a pool asks for its key, and keeps it in memory alone.
"""

from __future__ import annotations

from strongroom.core.ids import MediumId
from strongroom.core.secret import Secret
from strongroom.pool.place import BucketKey
from strongroom.services import messages
from strongroom.services.primary.service_keys import ServiceKeys


def keep(keys: ServiceKeys, medium: MediumId, key: BucketKey) -> None:
    """Keep the key of a pool, in place of an earlier one; durable when this returns."""
    keys.keep(_name(medium), Secret(messages.encode(row_of(key))), alg="s3")


def get(keys: ServiceKeys, medium: MediumId) -> BucketKey:
    """Give the key of a pool.

    Raises:
        ServiceKeyMissingError: there is none.
    """
    row = messages.decode(keys.get(_name(medium)).reveal(), messages.BucketKeyRow)
    return BucketKey(row.access_key, Secret(row.secret))


def row_of(key: BucketKey) -> messages.BucketKeyRow:
    """Write a key for the media server."""
    return messages.BucketKeyRow(access_key=key.access_key, secret=key.secret.reveal())


def _name(medium: MediumId) -> str:
    return f"bucket/{medium.hex()}"
