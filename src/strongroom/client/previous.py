"""The files of the previous image, joined with the walk: what did not change is neither read nor sent again."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from typing import Final

from strongroom.client.owners import Owners
from strongroom.client.problems import READ_ANEW, Report, Trouble
from strongroom.formats import entries, image_stream
from strongroom.formats.entries import shown, walk_key
from strongroom.formats.errors import DamagedError
from strongroom.formats.image_stream import Buffer, Known, KnownFiles, Problem, StreamEnd, read_blocks

_UNSURE: Final = entries.CHANGED | entries.SHRANK
_TYPES: Final = {stat.S_IFREG: entries.REGULAR, stat.S_IFDIR: entries.FOLDER, stat.S_IFLNK: entries.SYMLINK}


def previous_files(chunks: Iterable[Buffer], report: Report = lambda _: None) -> Iterator[Known]:
    """Read the files of the previous image as the media server sends them.

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
                yield from found
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
        found: files of the previous image, in the order of a walk.
        read_again_from_ns: files whose ctime is at or after this time are not taken for unchanged: the start of
            the previous backup by this client's clock, less two seconds. ``None`` when there is no previous image.
        report: told of each file that did not change, and must be read anew because the pool lost its contents.
    """

    def __init__(self, found: Iterable[Known], read_again_from_ns: int | None, report: Report = lambda _: None) -> None:
        self._files = iter(found)
        self._read_again_from_ns = read_again_from_ns
        self._report = report
        self._owners = Owners()
        self._number = -1
        self._known: Known | None = None
        self._key: bytes | None = None
        self._advance()

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
            return None
        key = walk_key(path)
        while known is not None and self._key is not None and self._key < key:
            known = self._advance()
        if known is None or self._key != key or not self._is_unchanged(known, status):
            return None
        if known.flags & image_stream.CONTENTS_LOST:
            self._report(
                Trouble(path, READ_ANEW, "the pool lost contents that did not change, so they are read anew", "lost")
            )
            return None
        return self._number, known

    def _is_unchanged(self, known: Known, status: os.stat_result) -> bool:
        kind = _TYPES.get(stat.S_IFMT(status.st_mode))
        return (
            known.ctime == status.st_ctime_ns
            and known.mtime == status.st_mtime_ns
            and known.inode == entries.identity(status.st_ino)
            and known.device == entries.identity(status.st_dev)
            and (known.type == kind or (known.type == entries.HARD_LINK and kind == entries.REGULAR))
            and (known.type != entries.REGULAR or known.size == status.st_size)
            and known.mode == status.st_mode & 0o7777
            and known.uid == status.st_uid
            and known.gid == status.st_gid
            and known.user == self._owners.user(status.st_uid)
            and known.group == self._owners.group(status.st_gid)
            and not known.flags & _UNSURE
            and (self._read_again_from_ns is None or known.ctime < self._read_again_from_ns)
        )

    def _advance(self) -> Known | None:
        known = self._known = next(self._files, None)
        if known is not None:
            key = walk_key(known.path)
            if self._key is not None and key <= self._key:
                raise DamagedError(f"the previous file {shown(known.path)} is out of order")
            self._number += 1
            self._key = key
        return known
