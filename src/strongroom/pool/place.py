"""Where a pool in object storage is: bucket, prefix, endpoint and region, as one line of text.

The line stands in the catalog and is shown to administrators; it holds no secret. The path of a folder begins with a
slash, so nothing is both.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import parse_qs, quote, urlsplit

from strongroom.core.secret import Secret
from strongroom.pool.errors import PlaceError

SCHEME: Final = "s3://"
DEFAULT_REGION: Final = "us-east-1"
_MOST: Final = 512
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PART: Final = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,128}")
_ENDPOINT: Final = re.compile(r"https?://([A-Za-z0-9.-]{1,253}|\[[0-9a-fA-F:]{2,45}\])(:[0-9]{1,5})?")
_REGION: Final = re.compile(r"[a-z0-9-]{1,64}")


@dataclass(frozen=True)
class BucketKey:
    """The access key for a bucket: its name, and the secret part."""

    access_key: str
    secret: Secret


@dataclass(frozen=True)
class BucketPlace:
    """Where a pool's objects are.

    Attributes:
        bucket: its name.
        prefix: what all keys begin with, without a slash at its ends; may be empty.
        endpoint: URL of the object storage.
        region: as requests are signed.
    """

    bucket: str
    prefix: str
    endpoint: str
    region: str

    @classmethod
    def make(cls, url: str, endpoint: str, region: str = DEFAULT_REGION) -> Self:
        """Check what an administrator wrote.

        Args:
            url: ``s3://BUCKET/PREFIX``; the prefix may be missing.
            endpoint: ``https://HOST[:PORT]``, or ``http``.
            region: the bucket's.

        Raises:
            PlaceError: it names no bucket, endpoint or region.
        """
        bucket, _, prefix = url.removeprefix(SCHEME).partition("/")
        prefix, endpoint = prefix.rstrip("/"), endpoint.rstrip("/")
        if not url.startswith(SCHEME) or _BUCKET.fullmatch(bucket) is None:
            raise PlaceError(f"'{url}' names no bucket")
        if prefix and not all(_PART.fullmatch(part) for part in prefix.split("/")):
            raise PlaceError(f"'{prefix}' cannot be the prefix of a pool: letters, digits, '.', '-', '_' and '/' can")
        if _ENDPOINT.fullmatch(endpoint) is None:
            raise PlaceError(f"'{endpoint}' is no endpoint of an object storage")
        if _REGION.fullmatch(region) is None:
            raise PlaceError(f"'{region}' is no region")
        place = cls(bucket, prefix, endpoint, region)
        if len(str(place)) > _MOST:
            raise PlaceError(f"bucket, prefix and endpoint have more than {_MOST} characters together")
        return place

    @classmethod
    def read(cls, location: str) -> Self:
        """Read the line that :meth:`__str__` made.

        Raises:
            PlaceError: it is none.
        """
        parts = urlsplit(location)
        told = parse_qs(parts.query)
        endpoint, region = told.get("endpoint", [""])[0], told.get("region", [""])[0]
        return cls.make(f"{parts.scheme}://{parts.netloc}{parts.path}", endpoint, region)

    def __str__(self) -> str:
        where = f"{SCHEME}{self.bucket}/{self.prefix}".rstrip("/")
        return f"{where}?endpoint={quote(self.endpoint, safe=':/[]')}&region={self.region}"


def is_bucket(location: str) -> bool:
    """Tell whether a pool is in object storage, not in a folder."""
    return location.startswith(SCHEME)
