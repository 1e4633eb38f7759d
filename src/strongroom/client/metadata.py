"""Gives a restored file its owner, mode, attributes and times."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from strongroom.client.folders import Folder
from strongroom.client.problems import reason
from strongroom.client.target import Given
from strongroom.formats.entries import FOLDER, Entry

_ACCESS_LIST: Final = "system.posix_acl_access"
_DEFAULT_LIST: Final = "system.posix_acl_default"
_SET_ID: Final = 0o6000
_MANY: Final = (b"user.", b"trusted.")


class NotSet(NamedTuple):
    """What could not be set: the kind of it, such as ``owner``, and the system's reason."""

    what: str
    why: str


@dataclass(slots=True)
class Owners:
    """Turns the owner of a record into numbers of this system.

    Attributes:
        numeric: take the numbers as they stand; otherwise names come first, and numbers where a name is unknown here.
    """

    numeric: bool = True
    _users: dict[bytes, int | None] = field(default_factory=dict)
    _groups: dict[bytes, int | None] = field(default_factory=dict)

    def of(self, entry: Entry) -> tuple[int, int]:
        """Give user and group id for a file."""
        if self.numeric:
            return entry.uid, entry.gid
        uid, gid = self._user(entry.user), self._group(entry.group)
        return (entry.uid if uid is None else uid), (entry.gid if gid is None else gid)

    def _user(self, name: bytes) -> int | None:
        if name not in self._users:
            try:
                self._users[name] = pwd.getpwnam(os.fsdecode(name)).pw_uid if name else None
            except KeyError:
                self._users[name] = None
        return self._users[name]

    def _group(self, name: bytes) -> int | None:
        if name not in self._groups:
            try:
                self._groups[name] = grp.getgrnam(os.fsdecode(name)).gr_gid if name else None
            except KeyError:
                self._groups[name] = None
        return self._groups[name]


def given_to(fd: int, mode: int) -> Given:
    """Look what a file has that was just made.

    Args:
        fd: open descriptor.
        mode: that it was made with, under a umask of 0.
    """
    status = os.fstat(fd)
    try:
        has_list = _ACCESS_LIST in os.listxattr(fd)
    except OSError:
        has_list = False  # the file system has no attributes
    return Given(status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode) == mode and not has_list)


def apply_to_file(file: int | bytes, entry: Entry, owners: Owners, *, given: Given | None = None) -> list[NotSet]:
    """Set everything on a file or folder of any type but a symbolic link.

    The order matters: a new owner clears set-id bits and capabilities, and anything sets the times.

    Args:
        file: open descriptor; or a path to what must not be opened, of which the last part is followed.
        entry: the record.
        owners: whose numbers to use.
        given: what it has already, if that is known, which needs not to be set again; made with the permissions of the
            record. Otherwise it may also have got an access list from its folder, which the record does not have.

    Returns:
        What could not be set.
    """
    failed: list[NotSet] = []
    mode = entry.mode
    uid, gid = owners.of(entry)
    as_asked = given is not None and given.as_asked
    if given is None or (uid, gid) != (given.uid, given.gid):
        try:
            os.chown(file, uid, gid)
        except (OSError, OverflowError) as error:
            failed.append(NotSet("owner", _why(error)))
            # Set-id bits would now lend the rights of whoever restores.
            mode &= ~_SET_ID
    if not as_asked or mode & ~0o777:
        try:
            os.chmod(file, mode)  # noqa: PTH101 - a descriptor, or bytes
        except OSError as error:
            failed.append(NotSet("mode", _why(error)))
    if entry.attributes:
        failed += _set_attributes(file, entry, follow=True)
    if not as_asked:
        kept = {name for name, _ in entry.attributes}
        for name in (_ACCESS_LIST, _DEFAULT_LIST) if entry.type == FOLDER else (_ACCESS_LIST,):
            if name.encode() not in kept:
                failed += _drop_list(file, name)
    try:
        os.utime(file, ns=(entry.mtime, entry.mtime))
    except (OSError, OverflowError) as error:
        failed.append(NotSet("time", _why(error)))
    return failed


def apply_to_symlink(folder: Folder, name: bytes, entry: Entry, owners: Owners) -> list[NotSet]:
    """Set owner, attributes and time of a symbolic link itself; give what could not be set."""
    failed: list[NotSet] = []
    uid, gid = owners.of(entry)
    try:
        os.chown(name, uid, gid, dir_fd=folder.fd, follow_symlinks=False)
    except (OSError, OverflowError) as error:
        failed.append(NotSet("owner", _why(error)))
    if entry.attributes:
        failed += _set_attributes(b"/proc/self/fd/%d/%b" % (folder.fd, name), entry, follow=False)
    try:
        os.utime(name, ns=(entry.mtime, entry.mtime), dir_fd=folder.fd, follow_symlinks=False)
    except (OSError, OverflowError) as error:
        failed.append(NotSet("time", _why(error)))
    return failed


def _set_attributes(file: int | bytes, entry: Entry, *, follow: bool) -> list[NotSet]:
    failed: list[NotSet] = []
    for name, value in entry.attributes:
        text = os.fsdecode(name)
        try:
            if follow:
                os.setxattr(file, text, value)
            else:
                os.setxattr(file, text, value, follow_symlinks=False)
        except OSError as error:
            failed.append(NotSet(_kind_of(name), _why(error)))
    return failed


def _kind_of(name: bytes) -> str:
    """Name an attribute: by its name space, where there may be any number of names."""
    space = next((space for space in _MANY if name.startswith(space)), None)
    return "attribute " + (f"{space.decode()}*" if space else name[:64].decode("utf-8", "backslashreplace"))


def _drop_list(file: int | bytes, name: str) -> list[NotSet]:
    try:
        os.removexattr(file, name)
    except OSError as error:
        # There was none, or the file system has no access lists.
        if error.errno not in (errno.ENODATA, errno.ENOTSUP):
            return [NotSet("no access list", _why(error))]
    return []


def _why(error: OSError | OverflowError) -> str:
    return reason(error) if isinstance(error, OSError) else "out of range"
