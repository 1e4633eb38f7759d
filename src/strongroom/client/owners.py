"""Names of owners, as this host knows them."""

from __future__ import annotations

import grp
import os
import pwd

from strongroom.formats.entries import MAX_NAME_BYTES


class Owners:
    """Looks each number up once."""

    def __init__(self) -> None:
        self._users: dict[int, bytes] = {}
        self._groups: dict[int, bytes] = {}

    def user(self, uid: int) -> bytes:
        """Give a user's name; empty when there is none."""
        name = self._users.get(uid)
        if name is None:
            try:
                name = os.fsencode(pwd.getpwuid(uid).pw_name)[:MAX_NAME_BYTES]
            except KeyError:
                name = b""
            self._users[uid] = name
        return name

    def group(self, gid: int) -> bytes:
        """Give a group's name; empty when there is none."""
        name = self._groups.get(gid)
        if name is None:
            try:
                name = os.fsencode(grp.getgrgid(gid).gr_name)[:MAX_NAME_BYTES]
            except KeyError:
                name = b""
            self._groups[gid] = name
        return name
