"""A pool in object storage: its objects in a bucket, what is being written in a folder on this machine.

Source: ``docs/reference/formats/pool-folder.md``. A container grows in a file of ``incoming`` below the home, and
becomes an object when it is whole: so it costs no memory, an abandoned one costs the bucket nothing, what a dead
receiver had taken is found again, and its key need not be known before its end.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from strongroom.core.entropy import Entropy
from strongroom.core.errors import StrongroomError
from strongroom.formats.lock_record import LockMode
from strongroom.formats.segment import Buffer
from strongroom.pool import names
from strongroom.pool.errors import (
    BucketDeniedError,
    LockedError,
    NotAPoolError,
    ObjectExistsError,
    ObjectMissingError,
    PoolExistsError,
    PoolReadError,
    PoolWriteError,
)
from strongroom.pool.folder import DAMAGED, INDEX
from strongroom.pool.incoming import (
    FOLDER_MODE,
    INCOMING,
    FolderLeftover,
    FolderUpload,
    is_owned,
    leftovers,
    writing,
)
from strongroom.pool.place import BucketKey, BucketPlace
from strongroom.pool.requests import RequestCounts
from strongroom.pool.s3 import IMPATIENT, Bucket, TakenError
from strongroom.pool.store import MayRemove, StoredObject, Term

logger = logging.getLogger(__name__)

PART_BYTES: Final = 8 << 20
"""What is longer goes in parts of this length."""
UPLOADS: Final = "uploads"
_PARTS_AT_ONCE: Final = 4
_WRITER: Final = "strongroom-writer"
_ABANDONED_SECONDS: Final = 24 * 3600.0
"""No upload takes so long: it begins when its container is whole, and each request of it has its bound."""
_PUT_ATTEMPTS: Final = 3
_MOST_ASIDE: Final = 1_000
_MOST_KEY_BYTES: Final = 1_024
_NS: Final = 1_000_000_000


class BucketStore:
    """Storage adapter for a bucket; made by :meth:`create` or :meth:`open`.

    Args:
        place: where it is.
        bucket: how it is asked.
        counts: the number of requests.
        work: the folder on this machine.
        entropy: gives the names in ``incoming``, and what tells a writer's object from another's.
        conditional: the storage refuses to replace an object when it is asked to. Otherwise it is looked up first.
    """

    def __init__(
        self,
        place: BucketPlace,
        bucket: Bucket,
        counts: RequestCounts,
        work: Path,
        entropy: Entropy,
        *,
        conditional: bool,
    ) -> None:
        self._place = place
        self._bucket = bucket
        self._counts = counts
        self._work = work
        self._entropy = entropy
        self._conditional = conditional
        self._prefix = f"{place.prefix}/" if place.prefix else ""
        self._parts = ThreadPoolExecutor(_PARTS_AT_ONCE, thread_name_prefix="part")
        self._may_remove: MayRemove | None = None
        self._object_lock: bool | None = None
        self._said_no_lock = False

    @classmethod
    def create(
        cls, place: BucketPlace, key: BucketKey, work: Path, medium_header: bytes, entropy: Entropy
    ) -> BucketStore:
        """Make a pool below a prefix with nothing in it, and open it.

        Raises:
            PoolExistsError: something is there already.
            BucketMissingError, BucketDeniedError, BucketRegionError, BucketUnreachableError: as they say.
            PoolFullError, PoolWriteError: the storage refused.
        """
        _make_folders(work)
        bucket = Bucket(place, key, RequestCounts(work / "requests.json"), IMPATIENT)
        prefix = f"{place.prefix}/" if place.prefix else ""
        try:
            if next(bucket.list(prefix, ""), None) is not None:
                raise PoolExistsError(
                    f"something is below '{place}' already", hint="name a prefix that nothing else uses"
                )
            bucket.put(prefix + names.MEDIUM, medium_header, {}, only_new=False)
        finally:
            bucket.close()
        return cls.open(place, key, work, entropy)

    @classmethod
    def open(cls, place: BucketPlace, key: BucketKey, work: Path, entropy: Entropy) -> BucketStore:
        """Open a pool. Leave what lies in ``incoming`` to :func:`strongroom.pool.salvage.salvage`.

        Raises:
            NotAPoolError: there is no pool below this prefix.
            BucketMissingError, BucketDeniedError, BucketRegionError, BucketUnreachableError: as they say.
            PoolReadError, PoolWriteError: the storage, or the file system below the home, refused.
        """
        _make_folders(work)
        counts = RequestCounts(work / "requests.json")
        name = (f"{place.prefix}/" if place.prefix else "") + names.MEDIUM
        first = Bucket(place, key, counts, IMPATIENT)
        try:
            header = first.get(name, 0, _MOST_MEDIUM_BYTES)
            conditional = _is_conditional(first, name, header)
        except ObjectMissingError as error:
            raise NotAPoolError(f"there is no pool at '{place}'") from error
        finally:
            first.close()
        store = cls(place, Bucket(place, key, counts), counts, work, entropy, conditional=conditional)
        with ExitStack() as on_error:
            on_error.callback(store.close)
            store.abort_abandoned()
            on_error.pop_all()
        return store

    @property
    def place(self) -> str:
        """Bucket, prefix, endpoint and region."""
        return str(self._place)

    @property
    def index_path(self) -> Path:
        """The folder for the caches, below the home."""
        return self._work / INDEX

    def free_bytes(self) -> None:
        """Tell nothing: object storage does not say how much room is left."""
        return

    def rekey(self, key: BucketKey) -> None:
        """Use another access key from now on, if it serves.

        Raises:
            BucketMissingError, BucketDeniedError, BucketRegionError, BucketUnreachableError: it does not.
        """
        first = Bucket(self._place, key, self._counts, IMPATIENT)
        try:
            first.head(self._prefix + names.MEDIUM)
        finally:
            first.close()
        earlier, self._bucket = self._bucket, Bucket(self._place, key, self._counts)
        earlier.close()  # what is under way goes on

    def requests(self) -> Mapping[str, int]:
        """Tell how much was asked of the storage, and keep the figures."""
        self._counts.save()
        return self._counts.figures()

    def close(self) -> None:
        """Let go of the connections."""
        self._parts.shutdown(cancel_futures=True)
        self._bucket.close()
        self._counts.save()

    def leftovers(self) -> Iterator[FolderLeftover]:
        """Give what dead writers left in ``incoming`` (see :class:`~strongroom.pool.store.Leftovers`)."""
        return leftovers(self._work, self._send)

    def upload(self) -> FolderUpload:
        """Begin an object that comes in parts."""
        return FolderUpload(self._work, self._entropy, self._send)

    def put(self, key: str, data: Buffer) -> None:
        """Store a small object whole (see :class:`~strongroom.pool.store.Store`)."""
        for _ in range(_PUT_ATTEMPTS):
            try:
                self._put_new(key, data, {})
            except TakenError:
                try:
                    if self.read(key, 0, len(data) + 1) != bytes(data):
                        raise ObjectExistsError(f"the pool already holds '{key}'") from None
                except ObjectMissingError:
                    continue  # two writers at once, neither of which won; or it was removed since
            return
        raise PoolWriteError(f"'{key}' cannot be written: others write it at the same time")

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """Read a range, or from an offset to the end."""
        if length == 0:
            self.size(key)
            return b""
        return self._bucket.get(self._prefix + key, offset, length)

    def size(self, key: str) -> int:
        """Tell an object's length in bytes."""
        return self._bucket.head(self._prefix + key).size_bytes

    def list(self, prefix: str, after: str = "") -> Iterator[StoredObject]:
        """List the objects below a prefix, in order of key."""
        if not prefix.endswith("/"):
            raise ValueError("a prefix ends with a slash")
        for key, size_bytes in self._bucket.list(self._prefix + prefix, self._prefix + after if after else ""):
            yield StoredObject(key.removeprefix(self._prefix), size_bytes)

    def set_aside(self, key: str) -> str:
        """Take an object out of the pool (see :class:`~strongroom.pool.store.Aside`): it goes below ``damaged/``."""
        size = self.size(key)
        for number in range(_MOST_ASIDE):
            target = f"{DAMAGED}/{key}" if number == 0 else f"{DAMAGED}/{key}.{number}"
            upload = self.upload()
            try:
                for offset in range(0, size, PART_BYTES):
                    upload.append(self.read(key, offset, PART_BYTES))
                upload.finish(target)
            except ObjectExistsError:
                continue
            finally:
                upload.abort()
            # only now: after a crash before this it is in both places, and is put aside again
            self._bucket.delete(self._prefix + key)
            return f"{self._prefix}{target} in {self._place}"
        raise PoolWriteError(f"'{key}' was put aside {_MOST_ASIDE} times already")

    def guard(self, may_remove: MayRemove) -> None:
        """Ask this before every removal from now on."""
        self._may_remove = may_remove

    def fix(self, keys: Sequence[str], term: Term) -> None:
        """Lock objects in the storage too, if the bucket was made with object lock."""
        if not self._has_object_lock():
            if not self._said_no_lock:
                self._said_no_lock = True
                logger.warning(
                    "the bucket of this pool has no object lock: only the media server keeps what is locked",
                    extra={"event": "no-object-lock", "path": self.place},
                )
            return
        seconds = (term.until_ns - term.now_ns) / _NS

        def retain(key: str) -> None:
            self._bucket.retain(self._prefix + key, seconds, is_compliance=term.mode is LockMode.COMPLIANCE)

        for done in [self._parts.submit(retain, key) for key in keys]:
            done.result()

    def remove(self, key: str, *, lift: bool = False) -> None:
        """Remove an object, if it is there (see :class:`~strongroom.pool.store.Store`)."""
        if self._may_remove is not None:
            self._may_remove(key, lift)
        full = self._prefix + key
        if self._may_remove is None or not self._has_object_lock():
            self._bucket.delete(full)
            return
        try:
            version = self._bucket.head(full).version
        except ObjectMissingError:
            return
        try:
            self._bucket.delete(full, version, lift=lift)
        except BucketDeniedError as error:
            held = self._bucket.retention(full)
            if held is None:
                raise
            raise LockedError(
                f"'{key}' is locked in its bucket until {held.until:%Y-%m-%d %H:%M:%S}Z by the storage's clock",
                context={"key": key},
            ) from error

    def _has_object_lock(self) -> bool:
        if self._object_lock is None:
            self._object_lock = self._bucket.has_object_lock()
        return self._object_lock

    def abort_abandoned(self) -> None:
        """Abort the multipart uploads of this pool whose writers are gone: nobody sees them, and they are paid for.

        A writer notes the key below its home before it begins, under the name of its locked file in ``incoming``; so
        those of this machine are known at once. Those of another machine, or of a home that is lost, are known by
        their age. Uploads below other prefixes are not touched.

        Raises:
            BucketUnreachableError: the storage does not answer.
        """
        notes = self._dead_notes()
        try:
            for key, upload_id, age in list(self._bucket.unfinished(self._prefix + names.CONTAINERS)):
                if key in notes.values() or (age is not None and age > _ABANDONED_SECONDS):
                    self._bucket.abort(key, upload_id)
                    logger.info("an abandoned upload was aborted", extra={"event": "upload-aborted", "key": key})
        except (BucketDeniedError, PoolReadError, PoolWriteError) as error:
            # they cost money and do no harm: the pool must open
            logger.warning(
                "abandoned uploads stay in the bucket: %s",
                error.message,
                extra={"event": "uploads-not-aborted", "code": error.code},
            )
            return
        for note in notes:
            with writing(note):
                note.unlink(missing_ok=True)

    def _dead_notes(self) -> dict[Path, str]:
        """Give the keys that writers of this machine had begun to send, and who are gone."""
        dead = {}
        with writing(self._work / UPLOADS):
            for note in sorted((self._work / UPLOADS).iterdir()):
                if not is_owned(self._work / INCOMING / note.name):
                    dead[note] = note.read_bytes()[:_MOST_KEY_BYTES].decode("utf-8", "replace")
        return dead

    def _put_new(self, key: str, data: Buffer, metadata: Mapping[str, str]) -> None:
        if not self._conditional:
            self._require_free(key)
        self._bucket.put(self._prefix + key, data, metadata, only_new=self._conditional)

    def _require_free(self, key: str) -> None:
        try:
            self.size(key)
        except ObjectMissingError:
            return
        raise TakenError(f"the pool already holds '{key}'")

    def _send(self, path: Path, handle: int, key: str) -> None:
        """Make an object of a file in ``incoming``; the file goes when the object is there."""
        size_bytes = os.fstat(handle).st_size
        metadata = {_WRITER: self._entropy.bytes(16).hex()}
        try:
            if size_bytes <= PART_BYTES:
                self._put_new(key, _read_file(path, handle, 0, size_bytes), metadata)
            else:
                self._send_parts(path, handle, key, size_bytes, metadata)
        except TakenError:
            # An answer that was lost: what was asked again was refused because of what was done.
            if not self._is_ours(key, metadata):
                raise ObjectExistsError(f"the pool already holds '{key}'") from None
        with writing(path):
            path.unlink()

    def _send_parts(self, path: Path, handle: int, key: str, size_bytes: int, metadata: Mapping[str, str]) -> None:
        if not self._conditional:
            self._require_free(key)
        full = self._prefix + key
        note = self._work / UPLOADS / path.name
        with writing(note):
            note.write_text(full, "utf-8")

        def send(number: int) -> str:
            data = _read_file(path, handle, number * PART_BYTES, min(PART_BYTES, size_bytes - number * PART_BYTES))
            return self._bucket.part(full, upload_id, number + 1, data)

        upload_id = self._bucket.begin(full, metadata)
        with ExitStack() as on_error:
            on_error.callback(self._abort, full, upload_id, note)
            sending = [self._parts.submit(send, number) for number in range(-(-size_bytes // PART_BYTES))]
            try:
                tags = [part.result() for part in sending]
            finally:
                for part in sending:
                    part.cancel()
                for part in sending:  # none may arrive behind the abort
                    if not part.cancelled():
                        part.exception()
            self._bucket.complete(full, upload_id, tags, only_new=self._conditional)
            on_error.pop_all()
        with writing(note):
            note.unlink()

    def _abort(self, key: str, upload_id: str, note: Path) -> None:
        """Drop an upload that failed. The note stays when that fails too, for the next opening."""
        try:
            self._bucket.abort(key, upload_id)
            with writing(note):
                note.unlink(missing_ok=True)
        except StrongroomError as error:
            logger.warning(
                "an upload was not aborted: %s", error.message, extra={"event": "upload-not-aborted", "key": key}
            )

    def _is_ours(self, key: str, metadata: Mapping[str, str]) -> bool:
        try:
            found = self._bucket.head(self._prefix + key).metadata
        except ObjectMissingError:
            raise PoolWriteError(f"'{key}' was refused, and is not there") from None
        return found.get(_WRITER) == metadata[_WRITER]


_MOST_MEDIUM_BYTES: Final = 1 << 20


def _is_conditional(bucket: Bucket, name: str, header: bytes) -> bool:
    """Ask the storage to store the media header anew if there is none: one that knows conditions refuses.

    One that does not stores the same bytes again, which changes nothing.
    """
    try:
        bucket.put(name, header, {}, only_new=True)
    except TakenError:
        return True
    except PoolWriteError:  # not implemented
        return False
    return False


def _make_folders(work: Path) -> None:
    with writing(work):
        work.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        for name in (INCOMING, INDEX, UPLOADS):
            (work / name).mkdir(mode=FOLDER_MODE, exist_ok=True)


def _read_file(path: Path, handle: int, offset: int, length: int) -> bytes:
    with writing(path):
        data = os.pread(handle, length, offset)
        while len(data) < length:
            more = os.pread(handle, length - len(data), offset + len(data))
            if not more:
                raise PoolWriteError(f"'{path}' is shorter than what was written to it")
            data += more
    return data
