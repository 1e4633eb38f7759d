"""Requests to an object storage that speaks S3: signed, counted, asked again, and their errors in the pool's words.

What is asked, and no more: ``PutObject``, ``GetObject``, ``HeadObject``, ``HeadBucket``, ``ListObjectsV2``,
``DeleteObject``, the five of multipart uploads, and for retention locks ``GetObjectLockConfiguration``,
``PutObjectRetention`` and ``GetObjectRetention``. Nothing is taken from the environment or from files of the account
but the machine's certificate authorities and its proxy.
"""

from __future__ import annotations

import os
import ssl
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, Final, NamedTuple

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError

from strongroom.formats.segment import Buffer
from strongroom.pool.errors import (
    BucketDeniedError,
    BucketMissingError,
    BucketRegionError,
    BucketUnreachableError,
    ObjectExistsError,
    ObjectMissingError,
    PoolFullError,
    PoolReadError,
    PoolWriteError,
)
from strongroom.pool.place import BucketKey, BucketPlace
from strongroom.pool.requests import RECEIVED, SENT, RequestCounts
from strongroom.pool.store import StoredObject

PATIENT: Final = 8
"""How often something is asked in all; the pauses grow to 20 seconds, 35 seconds together on average."""
IMPATIENT: Final = 2
"""The same where an administrator waits."""
_CONNECT_SECONDS: Final = 5
_READ_SECONDS: Final = 30
_PAGE: Final = 1_000
_BODY_BYTES: Final = 4 << 20
_PAUSE_SECONDS: Final = 0.2
_MAKING: Final = threading.Lock()
"""Clients may be shared by threads, what makes them may not."""

_KINDS: Final = {
    "PutObject": "put",
    "GetObject": "get",
    "HeadObject": "head",
    "HeadBucket": "head",
    "ListObjectsV2": "list",
    "ListMultipartUploads": "list",
    "DeleteObject": "delete",
    "CreateMultipartUpload": "multipart",
    "UploadPart": "multipart",
    "CompleteMultipartUpload": "multipart",
    "AbortMultipartUpload": "multipart",
    "GetObjectLockConfiguration": "lock",
    "GetObjectRetention": "lock",
    "PutObjectRetention": "lock",
}
_REGION_CODES: Final = frozenset(
    {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301"}
)
_NO_LOCK_CODES: Final = frozenset(
    {"ObjectLockConfigurationNotFoundError", "NoSuchObjectLockConfiguration", "NotImplemented", "MethodNotAllowed"}
)
_GOVERNANCE: Final = "GOVERNANCE"
_COMPLIANCE: Final = "COMPLIANCE"
_LAST_YEAR: Final = 9_999
_CLOCK_SECONDS: Final = 3_600.0
"""For so long the time that the storage told is carried on with our own monotonic clock."""
_FULL_CODES: Final = frozenset({"QuotaExceeded", "StorageFull", "XMinioStorageFull", "InsufficientCapacity", "507"})


class TakenError(ObjectExistsError):
    """An object of this key is there already, or another writer is about to make it."""


class Head(NamedTuple):
    """What a storage tells of an object."""

    size_bytes: int
    metadata: Mapping[str, str]
    version: str | None


class Retention(NamedTuple):
    """An object lock of the storage: whether it is a compliance lock, and when it ends by the storage's clock."""

    is_compliance: bool
    until: datetime


class Unfinished(NamedTuple):
    """A multipart upload that was begun and neither finished nor aborted; ``age_seconds`` by the storage's clock."""

    key: str
    upload_id: str
    age_seconds: float | None


class Bucket:
    """One bucket of one object storage; may be shared by threads.

    All methods raise :class:`BucketUnreachableError`, :class:`BucketMissingError`, :class:`BucketDeniedError` or
    :class:`BucketRegionError`; and :class:`PoolReadError`, or :class:`PoolFullError` and :class:`PoolWriteError`, for
    what else the storage refuses with.

    Args:
        place: where it is.
        key: whose requests they are.
        counts: gets the number of requests.
        attempts: how often something is asked before it fails.
    """

    def __init__(self, place: BucketPlace, key: BucketKey, counts: RequestCounts, attempts: int = PATIENT) -> None:
        self._place = place
        self._name = place.bucket
        self._counts = counts
        self._attempts = attempts
        self._told: tuple[datetime, float] | None = None
        self._client = _client(place, key, attempts)
        self._client.meta.events.register("before-send.s3", self._count)

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    def put(self, key: str, data: Buffer, metadata: Mapping[str, str], *, only_new: bool) -> None:
        """Store an object whole; durable when this returns.

        Args:
            key: in the bucket.
            data: its contents.
            metadata: its own words.
            only_new: ask the storage to refuse when the key is taken; one that cannot be asked so replaces it.

        Raises:
            TakenError: the key is taken.
        """
        condition = {"IfNoneMatch": "*"} if only_new else {}
        with self._writing(key):
            self._client.put_object(Bucket=self._name, Key=key, Body=bytes(data), Metadata=dict(metadata), **condition)

    def get(self, key: str, offset: int, length: int | None) -> bytes:
        """Read a range, or to the end; nothing behind the end. ``length`` is not 0.

        Raises:
            ObjectMissingError: no object has this key.
        """
        end = "" if length is None else offset + length - 1
        wanted = {"Range": f"bytes={offset}-{end}"} if offset or length is not None else {}
        for attempt in range(self._attempts):
            try:
                with self._reading(key):
                    answer = self._client.get_object(Bucket=self._name, Key=key, **wanted)
            except _BehindEndError:
                return b""
            try:
                with closing(answer["Body"]) as body:  # in a `with` of its own it hides that its end is missing
                    data = _read_body(body, length)
                break
            except (IncompleteReadError, HTTPClientError) as error:  # the library asks again only until the body begins
                if attempt + 1 == self._attempts:
                    raise BucketUnreachableError(f"{self._where(key)}: the answer broke off: {error}") from error
                time.sleep(_PAUSE_SECONDS * 2**attempt)
        if length is not None and (len(data) > length or (offset and "ContentRange" not in answer)):
            raise PoolReadError(f"{self._where(key)}: the storage gave another range than was asked for")
        self._counts.add(RECEIVED, len(data))
        return data

    def head(self, key: str) -> Head:
        """Tell an object's length and metadata.

        Raises:
            ObjectMissingError: no object has this key.
        """
        try:
            with self._reading(key):
                answer = self._client.head_object(Bucket=self._name, Key=key)
        except ObjectMissingError:
            with self._reading(""):  # an answer without a body does not tell that the whole bucket is missing
                self._client.head_bucket(Bucket=self._name)
            raise
        return Head(int(answer["ContentLength"]), answer.get("Metadata", {}), answer.get("VersionId"))

    def list(self, prefix: str, after: str) -> Iterator[StoredObject]:
        """List objects in order of key, a page at a time."""
        more: dict[str, str] = {"StartAfter": after} if after else {}
        last = ""
        while True:
            with self._reading(""):
                page = self._client.list_objects_v2(Bucket=self._name, Prefix=prefix, MaxKeys=_PAGE, **more)
            for item in page.get("Contents", ()):
                key = item["Key"]
                # Who reads in pieces would miss what comes in another order, and without an end there may be none.
                if not key.startswith(prefix) or not _is_behind(key, last):
                    raise PoolReadError(f"{self._where(prefix)}: the storage does not list in order of key")
                last = key
                if key > after:
                    yield StoredObject(key, int(item["Size"]))
            token = page.get("NextContinuationToken")
            if not page.get("IsTruncated"):
                return
            if not token or not page.get("Contents"):
                raise PoolReadError(f"{self._where(prefix)}: the storage does not go on with its list")
            more = {"ContinuationToken": token}

    def delete(self, key: str, version: str | None = None, *, lift: bool = False) -> None:
        """Remove an object, if it is there; in a bucket that keeps versions only this version gives its room back.

        Args:
            key: in the bucket.
            version: of the object; without one, a bucket that keeps versions only hides it.
            lift: also one that is locked for governance.
        """
        which: dict[str, object] = {"VersionId": version} if version else {}
        if lift:
            which["BypassGovernanceRetention"] = True
        with self._writing(key):
            self._client.delete_object(Bucket=self._name, Key=key, **which)

    def has_object_lock(self) -> bool:
        """Tell whether the bucket was made with object lock."""
        with self._speaking(""):
            try:
                answer = self._client.get_object_lock_configuration(Bucket=self._name)
            except ClientError as error:
                code, status = _said(error)
                if code in _NO_LOCK_CODES or status in (400, 403, 405, 501):
                    return False  # also where the access key may not ask: then it may not lock either
                self._raise_common("", error)
                raise PoolReadError(f"{self._where('')}: the storage refused with {status} {code}") from error
        return bool(answer.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled")

    def retention(self, key: str) -> Retention | None:
        """Tell the lock of an object; ``None`` when it has none."""
        with self._speaking(key):
            try:
                found = self._client.get_object_retention(Bucket=self._name, Key=key).get("Retention", {})
            except ClientError as error:
                code, status = _said(error)
                if code in ("NoSuchObjectLockConfiguration", "InvalidRequest") or status == 404:
                    return None
                self._raise_common(key, error)
                raise PoolReadError(f"{self._where(key)}: the storage refused with {status} {code}") from error
        until = found.get("RetainUntilDate")
        return None if until is None else Retention(found.get("Mode") == _COMPLIANCE, until)

    def retain(self, key: str, seconds: float, *, is_compliance: bool) -> None:
        """Lock an object for so long from now on, by the storage's clock; a lock that is longer stays as it is.

        Raises:
            BucketDeniedError: the access key may not.
        """
        until = self._later(seconds)
        wanted = {"Mode": _COMPLIANCE if is_compliance else _GOVERNANCE, "RetainUntilDate": until}
        try:
            with self._writing(key):
                self._client.put_object_retention(Bucket=self._name, Key=key, Retention=wanted)
        except BucketDeniedError:
            held = self.retention(key)
            if held is None or (held.is_compliance and held.until < until):
                raise
            if held.until < until or (is_compliance and not held.is_compliance):
                longer = {**wanted, "RetainUntilDate": max(until, held.until)}  # never shorter, whoever asks
                with self._writing(key):
                    self._client.put_object_retention(
                        Bucket=self._name, Key=key, Retention=longer, BypassGovernanceRetention=True
                    )

    def _later(self, seconds: float) -> datetime:
        """Tell the storage's time in so many seconds: our own clock may be wrong, and what is locked stays so."""
        if self._told is None or time.monotonic() - self._told[1] > _CLOCK_SECONDS:
            with self._reading(""):
                date = _date_of(self._client.head_bucket(Bucket=self._name))
            if date is None:
                raise PoolWriteError(f"{self._where('')}: the storage does not tell its time, so nothing can be locked")
            self._told = date, time.monotonic()
        date, at = self._told
        try:
            return date + timedelta(seconds=seconds + time.monotonic() - at + 1)
        except OverflowError:
            return date.replace(year=_LAST_YEAR, month=12, day=31)

    def begin(self, key: str, metadata: Mapping[str, str]) -> str:
        """Begin a multipart upload; give its id."""
        with self._writing(key):
            answer = self._client.create_multipart_upload(Bucket=self._name, Key=key, Metadata=dict(metadata))
        return str(answer["UploadId"])

    def part(self, key: str, upload_id: str, number: int, data: bytes) -> str:
        """Send a part, numbered from 1; give the tag that :meth:`complete` wants."""
        with self._writing(key):
            answer = self._client.upload_part(
                Bucket=self._name, Key=key, UploadId=upload_id, PartNumber=number, Body=data
            )
        return str(answer["ETag"])

    def complete(self, key: str, upload_id: str, tags: Sequence[str], *, only_new: bool) -> None:
        """Make one object of the parts; durable when this returns.

        Raises:
            TakenError: the key is taken, or the upload is gone, as after an answer that was lost.
        """
        condition = {"IfNoneMatch": "*"} if only_new else {}
        parts = [{"PartNumber": number, "ETag": tag} for number, tag in enumerate(tags, 1)]
        with self._writing(key):
            self._client.complete_multipart_upload(
                Bucket=self._name, Key=key, UploadId=upload_id, MultipartUpload={"Parts": parts}, **condition
            )

    def abort(self, key: str, upload_id: str) -> None:
        """Drop a multipart upload; nothing happens when it is gone."""
        try:
            with self._writing(key):
                self._client.abort_multipart_upload(Bucket=self._name, Key=key, UploadId=upload_id)
        except TakenError:
            pass  # gone already

    def unfinished(self, prefix: str) -> Iterator[Unfinished]:
        """List the multipart uploads below a prefix."""
        more: dict[str, str] = {}
        while True:
            with self._reading(""):
                page = self._client.list_multipart_uploads(Bucket=self._name, Prefix=prefix, **more)
            now = _date_of(page)
            for item in page.get("Uploads", ()):
                begun = item.get("Initiated")
                age = (now - begun).total_seconds() if now and begun else None
                if item["Key"].startswith(prefix):
                    yield Unfinished(item["Key"], item["UploadId"], age)
            following = {"KeyMarker": page.get("NextKeyMarker"), "UploadIdMarker": page.get("NextUploadIdMarker")}
            if not page.get("IsTruncated") or not following["KeyMarker"] or following == more:
                return
            more = {name: marker for name, marker in following.items() if marker}

    def _count(self, request: Any, event_name: str, **_: object) -> None:
        """Count a request that leaves; called by the library, also for what is asked again."""
        operation = event_name.rpartition(".")[2]
        self._counts.add(_KINDS[operation])
        self._counts.add(SENT, int(request.headers.get("Content-Length", 0)))

    @contextmanager
    def _writing(self, key: str) -> Iterator[None]:
        with self._speaking(key):
            try:
                yield
            except ClientError as error:
                code, status = _said(error)
                if code in _FULL_CODES or status == 507:
                    raise PoolFullError(f"{self._where(key)}: the storage has no room: {code}") from error
                if status in (409, 412) or code == "NoSuchUpload":
                    raise TakenError(f"{self._where(key)}: {code}") from error
                self._raise_common(key, error)
                raise PoolWriteError(
                    f"{self._where(key)}: the storage refused with {status} {code}",
                    hint="look at the log of the object storage",
                ) from error

    @contextmanager
    def _reading(self, key: str) -> Iterator[None]:
        with self._speaking(key):
            try:
                yield
            except ClientError as error:
                code, status = _said(error)
                if code == "NoSuchKey" or (status == 404 and key and code != "NoSuchBucket"):
                    raise ObjectMissingError(f"the pool has no '{key}'") from error
                if status == 416:
                    raise _BehindEndError from error
                self._raise_common(key, error)
                raise PoolReadError(
                    f"{self._where(key)}: the storage refused with {status} {code}",
                    hint="look at the log of the object storage",
                ) from error

    @contextmanager
    def _speaking(self, key: str) -> Iterator[None]:
        """Turn what goes wrong with the connection itself into the pool's words."""
        try:
            yield
        except BotoCoreError as error:
            raise BucketUnreachableError(f"{self._where(key)}: {error}") from error

    def _raise_common(self, key: str, error: ClientError) -> None:
        code, status = _said(error)
        where = self._where(key)
        if code == "NoSuchBucket" or (status == 404 and not key):
            raise BucketMissingError(f"{where}: there is no bucket '{self._name}'") from error
        if code in _REGION_CODES or status == 301:
            region = error.response.get("Error", {}).get("Region") or _header(error, "x-amz-bucket-region")
            told = f"it is in '{region}', " if region else ""
            raise BucketRegionError(f"{where}: {told}not in '{self._place.region}'") from error
        if code == "RequestTimeTooSkewed":
            raise BucketDeniedError(
                f"{where}: the clocks of this host and of the storage differ", hint="set the clock of this host"
            ) from error
        if status in (401, 403):
            raise BucketDeniedError(f"{where}: the storage refused the access key with {status} {code}") from error
        if status >= 500 or status == 429 or code in ("SlowDown", "RequestTimeout"):
            raise BucketUnreachableError(f"{where}: the storage answers {status} {code}") from error

    def _where(self, key: str) -> str:
        return f"'{key or self._name}' at '{self._place.endpoint}'"


class _BehindEndError(Exception):
    """The object ends before the range that was asked for."""


@cache
def _session() -> botocore.session.Session:
    """Give what all clients share, which is what the library knows of S3. It holds no key."""
    nowhere = (None, None, os.devnull, None)
    unset = (None, None, None, None)
    return botocore.session.Session(
        session_vars={"profile": unset, "ca_bundle": unset, "config_file": nowhere, "credentials_file": nowhere}
    )


def _client(place: BucketPlace, key: BucketKey, attempts: int) -> Any:
    style = "virtual" if place.endpoint.endswith(".amazonaws.com") else "path"
    with _MAKING:
        return _session().create_client(
            "s3",
            region_name=place.region,
            endpoint_url=place.endpoint,
            aws_access_key_id=key.access_key,
            aws_secret_access_key=key.secret.reveal().decode("ascii"),
            verify=_authorities(),
            config=Config(
                s3={"addressing_style": style},
                signature_version="s3v4",
                connect_timeout=_CONNECT_SECONDS,
                read_timeout=_READ_SECONDS,
                max_pool_connections=16,
                retries={"mode": "standard", "total_max_attempts": attempts},
                # others than its maker's own storage know none of the newer checksums
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )


def _authorities() -> str | bool:
    """The authorities that this machine trusts, so that one of the house needs no setting here."""
    paths = ssl.get_default_verify_paths()
    return paths.cafile or paths.capath or True


def _read_body(body: Any, length: int | None) -> bytes:
    """Read an answer to its end, which alone shows that it is whole; or to one byte more than was asked for."""
    parts: list[bytes] = []
    got = 0
    while (length is None or got <= length) and (data := body.read(_BODY_BYTES)):
        parts.append(data)
        got += len(data)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _said(error: ClientError) -> tuple[str, int]:
    code = str(error.response.get("Error", {}).get("Code", ""))[:64]
    return code, int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _header(error: ClientError, name: str) -> str:
    return str(error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get(name, ""))[:64]


def _date_of(answer: Mapping[str, Any]) -> datetime | None:
    """Tell the time of the storage, by whose clock the age of an upload counts."""
    told = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
    try:
        return parsedate_to_datetime(told)
    except ValueError:
        return None


def _is_behind(key: str, last: str) -> bool:
    """Tell whether a key comes behind another: by its characters, or folder by folder as some storages list."""
    return key > last or key.split("/") > last.split("/")
