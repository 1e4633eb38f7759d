"""The files of the previous image, joined with the walk: what did not change is neither read nor sent again."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Final

from strongroom.client.owners import Owners
from strongroom.client.problems import READ_ANEW, Report, Trouble
from strongroom.formats import entries, image_stream
from strongroom.formats.entries import shown, walk_key
from strongroom.formats.errors import DamagedError
from strongroom.formats.image_stream import Buffer, Known, KnownFiles, Problem, StreamEnd, read_blocks

_UNSURE: Final = entries.CHANGED | entries.SHRANK
_LATEST: Final = 1 << 64
_TYPES: Final = {stat.S_IFREG: entries.REGULAR, stat.S_IFDIR: entries.FOLDER, stat.S_IFLNK: entries.SYMLINK}


def previous_files(chunks: Iterable[Buffer], report: Report = lambda _: None) -> Iterator[list[Known]]:
    """Read the files of the previous image as the media server sends them, some at a time.

    Args:
        chunks: the image stream.
        report: told why files of the previous image are not in it.

    Raises:
        DamagedError: against the page, or the stream broke off.
        NewerFormatError: it needs a later program.
    """
    files = content = 0
    for block in read_blocks(chunks):
        match block:
            case KnownFiles(files=found):
                files += len(found)
                content += sum([known.size for known in found])
                yield found
            case Problem():
                report(Trouble(block.path, READ_ANEW, f"{block.message} [{block.code}]"))
            case StreamEnd():
                if (files, content) != (block.files, block.content):
                    raise DamagedError(f"the end tells of {block.files} previous files, and {files} came")
            case _:
                raise DamagedError("the previous files have a block that has no place there")


class Previous:
    """Finds the record of an unchanged file, while a walk passes.

    Args:
        found: files of the previous image, in the order of a walk, some at a time; asked for with the first file.
        read_again_from_ns: files whose ctime is at or after this time are not taken for unchanged: the start of
            the previous backup by this client's clock, less two seconds. ``None`` when there is no previous image.
        report: told of each file that did not change, and must be read anew because the pool lost its contents.
    """

    def __init__(
        self, found: Iterable[list[Known]], read_again_from_ns: int | None, report: Report = lambda _: None
    ) -> None:
        self._lists = iter(found)
        self._list: list[Known] = []
        self._at = 0  # in the list
        self._number = 0
        self._known: Known | None = None  # the next of them
        self._has_begun = False
        self._last_key: bytes | None = None  # of the list before
        self._read_again_from_ns = _LATEST if read_again_from_ns is None else read_again_from_ns
        self._report = report
        self._owners = Owners()
        self._names: dict[tuple[int, int], tuple[bytes, bytes]] = {}

    def find(self, path: bytes, status: os.stat_result) -> tuple[int, Known] | None:
        """Give number and record of a file of which nothing changed since.

        A further name of a regular file may be recorded as a hard link: whether it still is one, to the same name,
        is for the caller to know.

        Args:
            path: later in the order of a walk than the path of the call before.
            status: of the file, now.

        Raises:
            DamagedError: the previous files are out of order.
        """
        known = self._known
        if known is None:
            if self._has_begun:
                return None
            self._has_begun = True
            self._next_list()
            return self.find(path, status)
        if known.path != path:
            known = self._pass_to(path)
            if known is None:
                return None
        number = self._number
        self._advance()
        if not self._is_unchanged(known, status):
            return None
        if known.flags & image_stream.CONTENTS_LOST:
            self._report(
                Trouble(path, READ_ANEW, "the pool lost contents that did not change, so they are read anew", "lost")
            )
            return None
        return number, known

    def _is_unchanged(self, known: Known, status: os.stat_result) -> bool:
        mode = status.st_mode
        kind = _TYPES.get(stat.S_IFMT(mode))
        owners = status.st_uid, status.st_gid
        return (
            known.ctime == status.st_ctime_ns
            and known.mtime == status.st_mtime_ns
            and known.inode == status.st_ino & entries.MAX_IDENTITY
            and known.device == status.st_dev & entries.MAX_IDENTITY
            and (known.type == kind or (known.type == entries.HARD_LINK and kind == entries.REGULAR))
            and (known.size == status.st_size or known.type != entries.REGULAR)
            and known.mode == mode & 0o7777
            and (known.uid, known.gid) == owners
            and (known.user, known.group) == (self._names.get(owners) or self._names_of(owners))
            and not known.flags & _UNSURE
            and known.ctime < self._read_again_from_ns
        )

    def _names_of(self, owners: tuple[int, int]) -> tuple[bytes, bytes]:
        found = self._names[owners] = self._owners.user(owners[0]), self._owners.group(owners[1])
        return found

    def _pass_to(self, path: bytes) -> Known | None:
        """Go on to the file of this path, or to the first behind it; give it if it is there."""
        key = walk_key(path)
        known = self._known
        while known is not None and walk_key(known.path) < key:
            self._advance()
            known = self._known
        return known if known is not None and known.path == path else None

    def _advance(self) -> None:
        self._number += 1
        self._at += 1
        if self._at < len(self._list):
            self._known = self._list[self._at]
        else:
            self._next_list()

    def _next_list(self) -> None:
        """Take the next files, and check their order."""
        found = next((found for found in self._lists if found), None)
        if found is None:
            self._known = None
            return
        keys = [walk_key(known.path) for known in found]
        before = keys if self._last_key is None else [self._last_key, *keys]
        for one, other in pairwise(before):
            if one >= other:
                raise DamagedError(f"the previous file {shown(other)} is out of order")
        self._last_key = keys[-1]
        self._list, self._at, self._known = found, 0, found[0]
