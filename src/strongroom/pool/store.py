"""What a pool needs of the storage under it: whole immutable objects, by key.

Nothing here needs more than an object store can do: no change in place, no appending to a named object, no
renaming of named objects. Every adapter passes ``tests/contract/test_store.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from strongroom.formats.lock_record import LockMode
from strongroom.formats.segment import Buffer

MayRemove = Callable[[str, bool], None]
"""Told a key, and whether what a governance lock keeps may go too; raises ``LockedError`` when it may not."""


class StoredObject(NamedTuple):
    """One object in a listing."""

    key: str
    size_bytes: int


class Upload(Protocol):
    """An object on its way: nameless, and gone with its process, until it is finished. For one thread."""

    def append(self, data: Buffer) -> None:
        """Add bytes behind those that came before.

        Raises:
            PoolFullError: no room; the upload can only be aborted.
            PoolWriteError: the storage refused; likewise.
        """

    def finish(self, key: str) -> None:
        """Put everything on stable storage, then give it its name. Durable when this returns.

        Raises:
            ObjectExistsError: the key is taken.
            PoolFullError, PoolWriteError: as in :meth:`append`; the key is not taken.
        """

    def abort(self) -> None:
        """Drop what was appended; does nothing after :meth:`finish`."""


class Leftover(Protocol):
    """What a dead writer left of an object; nobody else looks at it meanwhile."""

    def read(self, offset: int, length: int) -> bytes:
        """Read a range; fewer bytes come back only at the end.

        Raises:
            PoolReadError: the storage refused.
        """

    def keep(self, key: str, length: int, end: Buffer) -> None:
        """Make an object of its first bytes and of what is to follow them; durable when this returns.

        One that has the key already stays, and the leftover is removed.

        Raises:
            PoolFullError, PoolWriteError: the storage refused; the key is not taken.
        """

    def remove(self) -> None:
        """Remove it.

        Raises:
            PoolWriteError: the storage refused.
        """


class Leftovers(Protocol):
    """What was being written when its writer died can still be read."""

    def leftovers(self) -> Iterator[Leftover]:
        """Give what no living writer owns, each locked until the next one is asked for.

        Raises:
            PoolReadError, PoolWriteError: the storage refused.
        """


class Aside(Protocol):
    """Optional ability of a storage: an object can be taken out of the pool without being lost."""

    def set_aside(self, key: str) -> str:
        """Take an object out of the pool, and keep its bytes; durable when this returns.

        Returns:
            Where it lies now, for an operator.

        Raises:
            ObjectMissingError: no object has this key.
            PoolWriteError: the storage refused; the object stays where it is.
        """


class Store(Protocol):
    """Objects by key. Methods may be called from any thread."""

    def put(self, key: str, data: Buffer) -> None:
        """Store a small object whole; durable when this returns. The same bytes again change nothing.

        Raises:
            ObjectExistsError: the key is taken by other bytes.
            PoolFullError: no room; the key is not taken.
            PoolWriteError: the storage refused; likewise.
        """

    def upload(self) -> Upload:
        """Begin an object that comes in parts.

        Raises:
            PoolFullError, PoolWriteError: it cannot begin.
        """

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """Read a range, or from an offset to the end. Fewer bytes come back only at the object's end.

        Raises:
            ObjectMissingError: no object has this key.
            PoolReadError: the storage refused.
        """

    def size(self, key: str) -> int:
        """Tell an object's length in bytes.

        Raises:
            ObjectMissingError: no object has this key.
            PoolReadError: the storage refused.
        """

    def list(self, prefix: str, after: str = "") -> Iterator[StoredObject]:
        """List the objects whose key begins with ``prefix``, which ends with a slash; in order of key.

        An object that was written a moment ago may be missing: only :meth:`size` and :meth:`read` tell surely.

        Args:
            prefix: what the keys begin with.
            after: only those behind this key.

        Raises:
            PoolReadError: the storage refused.
        """

    def remove(self, key: str, *, lift: bool = False) -> None:
        """Remove an object, if it is there; durable when this returns.

        Args:
            key: the object.
            lift: also what a governance lock keeps.

        Raises:
            LockedError: a retention lock keeps it.
            PoolWriteError: the storage refused.
        """


class Term(NamedTuple):
    """For how long objects are locked: both times are of the pool's lock clock, in ns."""

    mode: LockMode
    until_ns: int
    now_ns: int


class Lockable(Protocol):
    """A storage that removes nothing that is locked, and has whatever lies under it refuse that too."""

    def guard(self, may_remove: MayRemove) -> None:
        """Ask this before every removal from now on."""

    def fix(self, keys: Sequence[str], term: Term) -> None:
        """Have what lies under the storage refuse to remove objects, as far as it can; may be repeated.

        It is lifted when the object is removed. Where nothing can be done, the log says so once.

        Raises:
            PoolWriteError: the storage refused.
        """


class MendableStore(Store, Aside, Protocol):
    """A storage whose damaged objects can be put aside."""


class PoolStore(MendableStore, Leftovers, Lockable, Protocol):
    """The storage of a whole pool: the objects, and a folder on this machine for what is no object."""

    @property
    def place(self) -> str:
        """Where it is, in the words of its administrator."""

    @property
    def index_path(self) -> Path:
        """The folder for the caches."""

    def free_bytes(self) -> int | None:
        """Tell how much room is left; ``None`` where nobody knows. Asks no other machine.

        Raises:
            PoolReadError: it is gone, such as a file system that is not mounted any more.
        """

    def requests(self) -> Mapping[str, int]:
        """Tell how much was asked of another machine since the pool is served here; nothing for a local one."""

    def close(self) -> None:
        """Let go of what is held. Nothing may be at work in it."""
