"""A mounted image, as a file system asks for it: files by path, folders, and ranges of contents.

What was asked for lately is kept, in bounds; an image never changes, so it stays true. May be shared by threads.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeAlias

import msgspec

from strongroom.formats import entries, mount
from strongroom.formats.entries import Attribute, Entry, MoreAttributes
from strongroom.formats.errors import DamagedError

BLOCK_BYTES: Final = 1 << 20
"""Of contents that are asked for at once: about a frame, which is decrypted whole in any case."""
_BLOCKS: Final = 64
_AHEAD: Final = 6
_READERS: Final = 3
_RECORD_BYTES: Final = 16 << 20

Ask: TypeAlias = Callable[[str, msgspec.Struct], bytes]
"""Puts a question of ``formats.mount`` to the media server, by its name, and gives the answer's bytes."""


class MountedImage:
    """Files and their contents. Close it when done: it has threads that read ahead.

    Args:
        ask: called from several threads.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._entries: OrderedDict[bytes, tuple[Entry | None, int]] = OrderedDict()
        self._entry_bytes = 0
        self._blocks = _Blocks(ask)

    def close(self) -> None:
        """Stop reading ahead."""
        self._blocks.close()

    def entry(self, path: bytes) -> Entry | None:
        """Give the record of a file as it stands, or ``None`` when there is none.

        Raises:
            StrongroomError: the media server refused, or does not answer.
        """
        with self._lock:
            found = self._entries.get(path)
            if found is not None:
                self._entries.move_to_end(path)
                return found[0]
        answer = self._ask("look", mount.Look(path=path))
        entry = _file_of(answer)[0] if answer else None
        self._keep(path, entry, len(answer))
        return entry

    def file(self, path: bytes) -> Entry | None:
        """Give the record of a file; for a further name of a file, that of the first.

        Raises:
            StrongroomError: the media server refused, or does not answer.
        """
        entry = self.entry(path)
        if entry is not None and entry.type == entries.HARD_LINK:
            return self.entry(entry.target or b"")
        return entry

    def names(self, folder: bytes) -> Iterator[bytes]:
        """Give the names in a folder, in the order of their bytes.

        Raises:
            StrongroomError: the media server refused, or does not answer.
        """
        above = folder if folder == b"/" else folder + b"/"
        after = b""
        while True:
            answer = self._ask("list", mount.List(folder=folder, after=after))
            if not answer:
                return
            for record in entries.split(answer):
                if not isinstance(record, Entry) or not record.path.startswith(above):
                    raise DamagedError("the list of a folder has something that is not in it")
                self._keep(record.path, record, 200 + len(record.path) + sum(len(v) for _, v in record.attributes))
                after = record.path[len(above) :]
                yield after

    def attributes(self, path: bytes) -> list[Attribute]:
        """Give all extended attributes of a file.

        Raises:
            StrongroomError: the media server refused, or does not answer.
        """
        entry = self.file(path)
        if entry is None or not entry.flags & entries.ATTRIBUTES_FOLLOW:
            return entry.attributes if entry is not None else []
        _, more = _file_of(self._ask("look", mount.Look(path=entry.path)))
        return entry.attributes + more

    def read(self, path: bytes, offset: int, length: int) -> bytes:
        """Give bytes of a regular file; fewer at its end.

        Raises:
            StrongroomError: the media server refused, does not answer, or cannot read the image there.
        """
        entry = self.file(path)
        return b"" if entry is None else self._blocks.read(entry, offset, length)

    def _keep(self, path: bytes, entry: Entry | None, size: int) -> None:
        with self._lock:
            if path in self._entries:
                return
            self._entries[path] = entry, size + len(path)
            self._entry_bytes += size + len(path)
            while self._entry_bytes > _RECORD_BYTES:
                _, (_, dropped) = self._entries.popitem(last=False)
                self._entry_bytes -= dropped


class _Blocks:
    """Blocks of contents: the last ones, and those that will be wanted next when somebody reads on and on."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(_READERS, thread_name_prefix="read-ahead")
        self._blocks: OrderedDict[tuple[bytes, int], Future[bytes]] = OrderedDict()

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)

    def read(self, entry: Entry, offset: int, length: int) -> bytes:
        end = min(offset + length, entry.size)
        found: list[bytes] = []
        while offset < end:
            number, begin = divmod(offset, BLOCK_BYTES)
            block = self._block(entry, number)
            part = block[begin : begin + end - offset]
            if not part:
                raise DamagedError(f"the media server gave too few bytes of {entries.shown(entry.path)}")
            found.append(part)
            offset += len(part)
        return found[0] if len(found) == 1 else b"".join(found)

    def _block(self, entry: Entry, number: int) -> bytes:
        with self._lock:
            goes_on = number == 0 or (entry.path, number - 1) in self._blocks
            wanted = self._get(entry, number)
            for ahead in range(number + 1, number + 1 + _AHEAD if goes_on else 0):
                if ahead * BLOCK_BYTES < entry.size:
                    self._get(entry, ahead)
        if wanted.exception() is not None:
            with self._lock:
                self._blocks.pop((entry.path, number), None)  # it may be there when it is asked for again
        return wanted.result()

    def _get(self, entry: Entry, number: int) -> Future[bytes]:
        key = entry.path, number
        found = self._blocks.get(key)
        if found is None:
            at = number * BLOCK_BYTES
            said = mount.Read(path=entry.path, offset=at, length=min(BLOCK_BYTES, entry.size - at))
            found = self._blocks[key] = self._threads.submit(self._ask, "read", said)
            if len(self._blocks) > _BLOCKS:
                self._blocks.popitem(last=False)
        self._blocks.move_to_end(key)
        return found


def _file_of(answer: bytes) -> tuple[Entry, list[Attribute]]:
    """Read the records of one file."""
    records = list(entries.split(answer))
    if not records or not isinstance(records[0], Entry):
        raise DamagedError("the answer is no record of a file")
    return records[0], [pair for more in records[1:] if isinstance(more, MoreAttributes) for pair in more.attributes]
