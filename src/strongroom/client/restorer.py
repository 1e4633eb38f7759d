"""Restores the files of an image stream below a target folder.

Each file is written under a temporary name and renamed when it is whole. Records come in the order of a walk, so one
chain of open folders is enough, and a folder gets its times when its contents are complete.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto
from typing import Final

from strongroom.client.file_systems import BEGIN_BYTES, FileSystems, begin_writing
from strongroom.client.metadata import NotSet, Owners, apply_to_file, apply_to_symlink, given_to
from strongroom.client.problems import (
    EXISTS,
    LINK_MISSING,
    NOT_PERMITTED,
    NOT_WRITTEN,
    UNSAFE_PATH,
    Report,
    StreamLostError,
    TargetFullError,
    Trouble,
    reason,
)
from strongroom.client.selection import Selection
from strongroom.client.target import Level, Target, UnsafePathError
from strongroom.core.entropy import Entropy
from strongroom.formats import entries
from strongroom.formats.entries import Entry, path_parts
from strongroom.formats.image_stream import Buffer, Hole, Lost, Problem
from strongroom.formats.restore_stream import Member, members

_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_NO_LINKS: Final = (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS)
_SPECIAL: Final = {
    entries.FIFO: (stat.S_IFIFO, "FIFO"),
    entries.SOCKET: (stat.S_IFSOCK, "socket"),
    entries.CHARACTER_DEVICE: (stat.S_IFCHR, "character device"),
    entries.BLOCK_DEVICE: (stat.S_IFBLK, "block device"),
}


class Overwrite(StrEnum):
    """What is done when something of a file's name is there.

    ``NEVER`` keeps it. ``OLDER`` replaces it if it was modified before the file that is restored. ``ALWAYS``
    replaces it. What is true of files is true of the owner, mode and times of folders; contents of a folder
    that the image does not have always stay.
    """

    NEVER = "never"
    OLDER = "older"
    ALWAYS = "always"


class _Place(Enum):
    """What is at the place of a file."""

    FREE = auto()
    TAKEN = auto()
    KEPT = auto()


@dataclass(slots=True)
class RestoreTotals:
    """What a restore did.

    Attributes:
        files: files of any type that are there now, complete or with less than their record says.
        content: bytes of contents of these, holes included.
        skipped: files that were not selected.
        problems: how often each code was reported.
    """

    files: int = 0
    content: int = 0
    skipped: int = 0
    problems: Counter[str] = field(default_factory=Counter)


class Restorer:
    """Writes files below a folder; the full path of each is kept below it.

    Args:
        target: folder to restore into, made when it is missing; ``/`` restores in place.
        report: told of every problem.
        entropy: for temporary names that no earlier restore has left.
        overwrite: what becomes of what exists.
        selection: which files are wanted.
        numeric_owners: take owners by number; otherwise by name, where the name is known here.
        flush: when all is written, wait until it is on stable storage.

    Attributes:
        totals: counted as files are written.
    """

    def __init__(
        self,
        target: bytes,
        report: Report,
        entropy: Entropy,
        *,
        overwrite: Overwrite = Overwrite.NEVER,
        selection: Selection | None = None,
        numeric_owners: bool = True,
        flush: bool = True,
    ) -> None:
        self.totals = RestoreTotals()
        self._path = target
        self._report_to = report
        self._overwrite = overwrite
        self._selection = selection or Selection()
        self._owners = Owners(numeric_owners)
        self._flush = flush
        self._file_systems = FileSystems()
        self._token = entropy.bytes(8).hex().encode()
        self._temporary = 0
        # Hashes, because paths would take several times the room; a clash refuses one hard link, visibly.
        self._not_restored: set[int] = set()

    def restore(self, chunks: Iterable[Buffer]) -> RestoreTotals:
        """Restore a whole image stream.

        Raises:
            DamagedError: the stream is against its page, or broke off; files that came whole stay.
            NewerFormatError: the stream needs a later program.
            TargetFullError: no room is left.
            TargetChangedError: somebody moved a folder of the target.
            StreamLostError: the bytes stopped coming.
            OSError: the target cannot be made or opened, or the system could not bring it to stable storage.
        """
        # Files in new folders are made with their mode at once, and not with less of it.
        masked = os.umask(0)
        try:
            return self._restore_all(chunks, 0o777 & ~masked)
        finally:
            os.umask(masked)

    def _restore_all(self, chunks: Iterable[Buffer], folder_mode: int) -> RestoreTotals:
        target = Target(self._path, self._leave, folder_mode=folder_mode)
        try:
            for member in members(_carried(chunks), self._reported):
                if member.entry in self._selection:
                    self._restore(target, member)
                else:
                    self.totals.skipped += 1
            target.finish()
            if self._flush:
                self._file_systems.sync()
        finally:
            target.close()
            self._file_systems.close()
        return self.totals

    def _restore(self, target: Target, member: Member) -> None:
        entry = member.entry
        parts = path_parts(entry.path)
        try:
            if not parts:
                self._set_later(target.top, entry, target.top.is_new or self._may_replace(target.top.status(), entry))
                return
            above = target.reach(parts[:-1])
            self._restore_in(target, above, parts[-1], member)
        except UnsafePathError as error:
            self._refuse(entry, UNSAFE_PATH, f"a link or a file stands on the way: {reason(error)}")
        except OSError as error:
            if error.errno in _FULL:
                raise TargetFullError(f"no room for {entries.shown(entry.path)}: {reason(error)}") from error
            self._refuse(entry, NOT_WRITTEN, reason(error))

    def _restore_in(self, target: Target, above: Level, name: bytes, member: Member) -> None:
        entry = member.entry
        if entry.type == entries.FOLDER:
            place = self._look(above, name, entry)
            level = target.make(above, name, replace=place is not _Place.KEPT)
            if level is None:
                self._refuse(entry, EXISTS, "something that is not a folder has this name")
            else:
                self._set_later(level, entry, level.is_new or place is not _Place.KEPT)
            return
        place = self._look(above, name, entry)
        if place is _Place.KEPT:
            self._refuse(entry, EXISTS, "a file of this name is there")
            return
        replace = above.is_new or place is _Place.TAKEN
        match entry.type:
            case entries.REGULAR:
                done = self._write_file(above, name, member, replace=replace)
            case entries.SYMLINK:
                done = self._write_symlink(above, name, entry, replace=replace)
            case entries.HARD_LINK:
                done = self._write_hard_link(target, above, name, entry, replace=replace)
            case _:
                done = self._write_special(above, name, entry, replace=replace)
        if done:
            self.totals.files += 1
            self.totals.content += entry.size

    def _set_later(self, level: Level, entry: Entry, wanted: bool) -> None:
        """Keep a folder's record until its contents are there, if it is wanted: what existed may stay as it is."""
        self.totals.files += 1
        if wanted:
            level.entry = entry

    def _leave(self, level: Level) -> None:
        self._file_systems.note(level.folder.device, level.folder.fd)
        if level.entry is not None:
            failed = apply_to_file(level.folder.fd, level.entry, self._owners)
            self._not_set(level.entry, failed)

    def _look(self, above: Level, name: bytes, entry: Entry) -> _Place:
        if above.is_new:
            return _Place.FREE
        try:
            status = os.stat(name, dir_fd=above.folder.fd, follow_symlinks=False)
        except FileNotFoundError:
            return _Place.FREE
        return _Place.TAKEN if self._may_replace(status, entry) else _Place.KEPT

    def _may_replace(self, status: os.stat_result, entry: Entry) -> bool:
        if self._overwrite is Overwrite.OLDER:
            return status.st_mtime_ns < entry.mtime
        return self._overwrite is Overwrite.ALWAYS

    def _write_file(self, above: Level, name: bytes, member: Member, *, replace: bool) -> bool:
        temporary = self._temporary_name()
        mode = member.entry.mode & 0o777 if above.is_private else 0o600
        fd = os.open(temporary, _CREATE, mode, dir_fd=above.folder.fd)
        done = False
        try:
            try:
                lost = _write_contents(fd, member)
                if lost is not None:
                    return self._refuse(member.entry, lost.code, f"contents are lost: {lost.message}")
                if above.is_private and above.given is None:
                    above.given = given_to(fd, mode)
                failed = apply_to_file(fd, member.entry, self._owners, given=above.given)
            finally:
                os.close(fd)
            done = self._put(above, temporary, name, member.entry, failed, replace=replace)
        finally:
            if not done:
                _remove(above, temporary)
        return done

    def _write_symlink(self, above: Level, name: bytes, entry: Entry, *, replace: bool) -> bool:
        temporary = self._temporary_name()
        os.symlink(entry.target or b"", temporary, dir_fd=above.folder.fd)
        done = False
        try:
            failed = apply_to_symlink(above.folder, temporary, entry, self._owners)
            done = self._put(above, temporary, name, entry, failed, replace=replace)
        finally:
            if not done:
                _remove(above, temporary)
        return done

    def _write_special(self, above: Level, name: bytes, entry: Entry, *, replace: bool) -> bool:
        """Make a FIFO, socket or device; it is not opened, because that would wake whatever is behind it."""
        kind, word = _SPECIAL[entry.type]
        temporary = self._temporary_name()
        try:
            device = os.makedev(entry.major, entry.minor)
            os.mknod(temporary, kind | 0o600, device, dir_fd=above.folder.fd)
        except (PermissionError, OverflowError) as error:
            why = reason(error) if isinstance(error, OSError) else "number out of range"
            return self._refuse(entry, NOT_WRITTEN, f"a {word} is not made: {why}", word)
        done = False
        try:
            handle = os.open(temporary, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above.folder.fd)
            try:
                path = b"/proc/self/fd/%d" % handle
                failed = apply_to_file(path, entry, self._owners)
            finally:
                os.close(handle)
            done = self._put(above, temporary, name, entry, failed, replace=replace)
        finally:
            if not done:
                _remove(above, temporary)
        return done

    def _write_hard_link(self, target: Target, above: Level, name: bytes, entry: Entry, *, replace: bool) -> bool:
        source = entry.target or b""
        parts = path_parts(source)
        if hash(source) in self._not_restored or not parts or not self._selection.has_path(source):
            return self._refuse(entry, LINK_MISSING, f"{entries.shown(source)} was not restored")
        temporary = self._temporary_name()
        try:
            folder, close = target.look_up(parts[:-1])
            try:
                if stat.S_ISDIR(os.stat(parts[-1], dir_fd=folder.fd, follow_symlinks=False).st_mode):
                    return self._refuse(entry, LINK_MISSING, f"{entries.shown(source)} is a folder now")
                _link(parts[-1], folder.fd, temporary, above.folder.fd)
            finally:
                close()
        except (FileNotFoundError, NotADirectoryError) as error:
            return self._refuse(entry, LINK_MISSING, f"{entries.shown(source)}: {reason(error)}")
        try:
            return self._put(above, temporary, name, entry, [], replace=replace)
        finally:
            # Renaming onto another name of the same file does nothing, and leaves both.
            _remove(above, temporary)

    def _put(
        self, above: Level, temporary: bytes, name: bytes, entry: Entry, failed: list[NotSet], *, replace: bool
    ) -> bool:
        """Give a complete file its name; ``False`` when something else has it and keeps it."""
        fd = above.folder.fd
        try:
            if replace:
                self._rename(fd, temporary, name)
            else:
                # A link, unlike a rename, refuses a name that somebody took since it was looked at.
                try:
                    _link(temporary, fd, name, fd)
                except OSError as error:
                    if error.errno not in _NO_LINKS:
                        raise
                    os.rename(temporary, name, src_dir_fd=fd, dst_dir_fd=fd)
                else:
                    os.unlink(temporary, dir_fd=fd)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            return self._refuse(entry, EXISTS, "something of this name is there, and cannot be replaced")
        self._not_set(entry, failed)
        return True

    def _rename(self, fd: int, temporary: bytes, name: bytes) -> None:
        try:
            os.rename(temporary, name, src_dir_fd=fd, dst_dir_fd=fd)
        except IsADirectoryError:
            # An empty folder gives way; a full one refuses by itself.
            os.rmdir(name, dir_fd=fd)
            os.rename(temporary, name, src_dir_fd=fd, dst_dir_fd=fd)

    def _temporary_name(self) -> bytes:
        self._temporary += 1
        return b".strongroom-%b-%d" % (self._token, self._temporary)

    def _refuse(self, entry: Entry, code: str, message: str, kind: str = "") -> bool:
        self._not_restored.add(hash(entry.path))
        self._report(Trouble(entry.path, code, message, kind))
        return False

    def _not_set(self, entry: Entry, failed: list[NotSet]) -> None:
        for what, why in failed:
            self._report(Trouble(entry.path, NOT_PERMITTED, f"{what} not set: {why}", what))

    def _reported(self, problem: Problem) -> None:
        self._report(Trouble(problem.path, problem.code, problem.message))

    def _report(self, trouble: Trouble) -> None:
        self.totals.problems[trouble.code] += 1
        self._report_to(trouble)


def _carried(chunks: Iterable[Buffer]) -> Iterator[Buffer]:
    """Pass the stream on; an error in getting it must not be taken for one in writing a file."""
    try:
        yield from chunks
    except OSError as error:
        raise StreamLostError(f"the image stream was lost: {reason(error)}") from error


def _write_contents(fd: int, member: Member) -> Lost | None:
    """Write a file's contents; give what of them is lost, and stop there."""
    ends_in_hole = False
    at = begun = waiting = 0
    for piece in member.pieces():
        if isinstance(piece, Lost):
            return piece
        ends_in_hole = isinstance(piece, Hole)
        if isinstance(piece, Hole):
            at = os.lseek(fd, piece.length, os.SEEK_CUR)
            continue
        if waiting >= BEGIN_BYTES:
            begin_writing(fd, begun, at - begun)
            begun, waiting = at, 0
        at += len(piece)
        waiting += len(piece)
        written = os.write(fd, piece)
        while written < len(piece):
            written += os.write(fd, memoryview(piece)[written:])
    if ends_in_hole:
        os.ftruncate(fd, member.entry.size)
    return None


def _link(source: bytes, source_fd: int, name: bytes, fd: int) -> None:
    os.link(source, name, src_dir_fd=source_fd, dst_dir_fd=fd, follow_symlinks=False)


def _remove(above: Level, temporary: bytes) -> None:
    try:
        os.unlink(temporary, dir_fd=above.folder.fd)
    except FileNotFoundError:
        # It has its name already.
        return
