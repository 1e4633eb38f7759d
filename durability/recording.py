"""From the calls of all processes to what happened below one folder."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from durability import strace
from durability.model import Disk, FileSystem, Node
from durability.strace import Call, UnreadableRecordError, descriptor, string, strings

_NOT_DURABLE: Final = b"-shm"
"""SQLite's shared memory: written through a mapping, never made stable, made anew by whoever opens a database first."""
_SOCKET: Final = re.compile(r"sa_family=AF_UNIX, sun_path=(\"[^\"]*\")")


@dataclass(eq=False)
class _Open:
    """An open file: its place and its flags belong to all descriptors that were copied from one."""

    node: Node
    appends: bool
    syncs: bool
    offset: int = 0


class Recording:
    """Reads a record.

    Args:
        top: the folder of which everything is taken; nothing was in it at the beginning.
        marks: a file outside, into which the recorder writes what was acknowledged.
        kind: what the file system promises.

    Attributes:
        disk: what was done to files.
        boundaries: the lines at which something was made stable, named, or acknowledged, each with its call.
        marks: what was acknowledged, with the line from which on it was.
    """

    def __init__(self, top: Path, marks: Path, kind: FileSystem = FileSystem.POSIX) -> None:
        self.disk = Disk(kind)
        self.boundaries: list[tuple[int, str]] = []
        self.marks: list[tuple[int, bytes]] = []
        self._top = bytes(top)
        self._marks = bytes(marks)
        self._tables: dict[int, dict[int, _Open]] = {}
        self._starts: dict[int, tuple[int, bool]] = {}
        self._deeds: dict[str, Callable[[Call], None]] = {
            **dict.fromkeys(strace.CREATING, self._opened),
            **dict.fromkeys(strace.WRITING, self._wrote),
            **dict.fromkeys(strace.SIZING, self._sized),
            **dict.fromkeys(strace.SYNCING, self._synced),
            **dict.fromkeys(strace.MODES, self._moded),
            **dict.fromkeys(strace.UNMODELLED, self._refuse),
            **dict.fromkeys(("rename", "renameat", "renameat2"), self._renamed),
            **dict.fromkeys(("link", "linkat"), self._linked),
            **dict.fromkeys(("symlink", "symlinkat"), self._symlinked),
            **dict.fromkeys(("unlink", "unlinkat", "rmdir"), self._unlinked),
            **dict.fromkeys(("mkdir", "mkdirat"), self._made_folder),
            **dict.fromkeys(("mknod", "mknodat"), self._refuse),
            **dict.fromkeys(("dup", "dup2", "dup3"), self._copied),
            "fcntl": self._controlled,
            "lseek": self._moved,
            "bind": self._bound,
            "mmap": self._mapped,
        }

    def read(self, lines: Iterable[str]) -> None:
        """Take a whole record.

        Raises:
            UnreadableRecordError: something happened that the model does not know.
        """
        found = list(strace.calls(lines))
        for call in found:
            if call.name in ("clone", "clone3", "fork", "vfork"):
                shares = any("CLONE_FILES" in argument for argument in call.arguments)
                self._starts[call.result] = (call.process, shares)
        for call in found:
            if deed := self._deeds.get(call.name):
                deed(call)

    # ------------------------------------------------------------ descriptors

    def _table(self, process: int) -> dict[int, _Open]:
        """Give the open files of a thread; at its first call those of whoever started it."""
        if process not in self._tables:
            started = self._starts.get(process)
            if started is None:
                self._tables[process] = {}
            else:
                table = self._table(started[0])
                self._tables[process] = table if started[1] else dict(table)
        return self._tables[process]

    def _open_file(self, call: Call) -> _Open | None:
        """Give what the first argument is open on, if it lies below the folder."""
        number, path, _ = descriptor(call.arguments[0])
        if path is None or number is None or not self._is_ours(path):
            return None
        found = self._table(call.process).get(number)
        if found is None:
            raise UnreadableRecordError(f"line {call.ended + 1}: nobody opened descriptor {number} on {path!r}")
        return found

    def _copied(self, call: Call) -> None:
        number, path, _ = descriptor(call.arguments[0])
        table = self._table(call.process)
        if number in table and path is not None and self._is_ours(path):
            table[call.result] = table[number]

    def _controlled(self, call: Call) -> None:
        if call.arguments[1].startswith("F_DUPFD"):
            self._copied(call)

    def _moved(self, call: Call) -> None:
        if found := self._open_file(call):
            found.offset = call.result

    # ------------------------------------------------------------ paths

    def _is_ours(self, path: bytes) -> bool:
        return path == self._top or path.startswith(self._top + b"/")

    def _path(self, call: Call, place: int, *, at: bool) -> bytes:
        """Give the path in an argument, taken from its folder's descriptor when the call has one."""
        path = string(call.arguments[place + at])
        if at and not path.startswith(b"/"):
            folder = descriptor(call.arguments[place])[1]
            if folder is None:
                raise UnreadableRecordError(f"line {call.ended + 1}: a path without its folder")
            path = folder + b"/" + path
        return path

    def _place(self, path: bytes) -> tuple[Node, bytes] | None:
        """Give folder and name of a path; None when it does not lie below ours."""
        if not self._is_ours(path) or path == self._top:
            return None
        folder = self.disk.root
        *above, name = [part for part in path[len(self._top) :].split(b"/") if part not in (b"", b".")]
        for part in above:
            child = folder.children.get(part)
            if child is None or not child.is_folder:
                raise UnreadableRecordError(f"there is no folder {part!r} of {path!r}")
            folder = child
        return folder, name

    def _node(self, path: bytes) -> Node | None:
        if path == self._top:
            return self.disk.root
        place = self._place(path)
        return place[0].children.get(place[1]) if place else None

    def _bound_here(self, call: Call, what: bytes) -> None:
        shown = what[len(self._top) :].decode(errors="replace") if self._is_ours(what) else what.decode()
        self.boundaries.append((call.ended, f"{call.name} {shown}"))

    # ------------------------------------------------------------ deeds

    def _opened(self, call: Call) -> None:
        at = call.name.startswith("openat")
        path = self._path(call, 0, at=at)
        flags = call.arguments[1 + at] if call.name != "creat" else "O_CREAT|O_TRUNC|O_WRONLY"
        if call.name == "openat2" and self._is_ours(path):
            self._refuse(call)
        if path == self._marks:
            return
        if not self._is_ours(path):
            return
        if "O_TMPFILE" in flags:
            self._refuse(call)
        node = self._node(path)
        if node is None:
            if "O_CREAT" not in flags:
                raise UnreadableRecordError(f"line {call.ended + 1}: nobody made {path!r}")
            place = self._place(path)
            if place is None:
                raise UnreadableRecordError(f"line {call.ended + 1}: no place for {path!r}")
            node = Node(stat.S_IFREG, int(call.arguments[2 + at], 8) & ~0o022)
            self.disk.named(call.ended, (*place, node))
            self._bound_here(call, path)
        elif "O_TRUNC" in flags and node.size:
            self.disk.sized(call.ended, node, 0)
        syncs = "O_SYNC" in flags or "O_DSYNC" in flags
        self._table(call.process)[call.result] = _Open(node, "O_APPEND" in flags, syncs)

    def _wrote(self, call: Call) -> None:
        path = descriptor(call.arguments[0])[1]
        data = b"".join(strings(call.arguments[1]))[: call.result]
        if path == self._marks:
            self.marks.append((call.ended, data))
            self._bound_here(call, self._marks)
            return
        found = self._open_file(call)
        if found is None:
            return
        if len(data) != call.result:
            raise UnreadableRecordError(f"line {call.ended + 1}: not all that was written is told")
        if call.name.startswith("p"):
            offset = int(call.arguments[3], 0)
        else:
            offset = found.node.size if found.appends else found.offset
            found.offset = offset + len(data)
        self.disk.wrote(call.ended, found.node, offset, data)
        if found.syncs:
            self.disk.synced(call.ended + 1, call.ended, found.node)

    def _sized(self, call: Call) -> None:
        if call.name == "truncate":
            path = string(call.arguments[0])
            node = self._node(path) if self._is_ours(path) else None
            size = int(call.arguments[1], 0)
        else:
            found = self._open_file(call)
            node = found.node if found else None
            size = int(call.arguments[1], 0) if call.name == "ftruncate" else 0
        if node is None:
            return
        if call.name == "fallocate":
            if call.arguments[1] == "FALLOC_FL_KEEP_SIZE":
                return  # room is set aside, and nothing can be read there
            if call.arguments[1] != "0":
                self._refuse(call)
            size = max(node.size, int(call.arguments[2], 0) + int(call.arguments[3], 0))
        self.disk.sized(call.ended, node, size)

    def _synced(self, call: Call) -> None:
        if call.name in ("sync", "syncfs"):
            self.disk.synced_all(call.begun, call.ended)
            return
        if call.name in ("sync_file_range", "msync"):
            return  # promise nothing after a power cut, or speak of mappings
        found = self._open_file(call)
        if found is not None:
            self._bound_here(call, descriptor(call.arguments[0])[1] or b"")
            self.disk.synced(call.begun, call.ended, found.node, with_mode=call.name == "fsync")

    def _moded(self, call: Call) -> None:
        if call.name == "fchmod":
            found = self._open_file(call)
            node = found.node if found else None
        else:
            path = self._path(call, 0, at=call.name != "chmod")
            node = self._node(path) if self._is_ours(path) else None
        if node is not None:
            place = 1 if call.name in ("chmod", "fchmod") else 2
            mode = int(call.arguments[place], 8)
            if mode != node.mode:
                self.disk.moded(call.ended, node, mode)

    def _renamed(self, call: Call) -> None:
        at = call.name != "rename"
        old, new = self._path(call, 0, at=at), self._path(call, 1 + at, at=at)
        if not self._is_ours(old) and not self._is_ours(new):
            return
        source, target = self._place(old), self._place(new)
        if source is None or target is None or (call.name == "renameat2" and call.arguments[4] not in ("0",)):
            self._refuse(call)
            return
        node = source[0].children[source[1]]
        self._bound_here(call, new)
        self.disk.named(call.ended, (*target, node), (*source, None))

    def _linked(self, call: Call) -> None:
        at = call.name != "link"
        old, new = self._path(call, 0, at=at), self._path(call, 1 + at, at=at)
        node, place = self._node(old), self._place(new)
        if place is None:
            return
        if node is None:
            raise UnreadableRecordError(f"line {call.ended + 1}: nobody made {old!r}")
        self._bound_here(call, new)
        self.disk.named(call.ended, (*place, node))

    def _symlinked(self, call: Call) -> None:
        if place := self._place(self._path(call, 1, at=call.name == "symlinkat")):
            self.disk.named(call.ended, (*place, Node(stat.S_IFLNK, 0o777, string(call.arguments[0]))))

    def _unlinked(self, call: Call) -> None:
        path = self._path(call, 0, at=call.name == "unlinkat")
        if place := self._place(path):
            if place[1] not in place[0].children:
                raise UnreadableRecordError(f"line {call.ended + 1}: nobody made {path!r}")
            self._bound_here(call, path)
            self.disk.named(call.ended, (*place, None))

    def _made_folder(self, call: Call) -> None:
        path = self._path(call, 0, at=call.name == "mkdirat")
        if place := self._place(path):
            mode = int(call.arguments[1 + (call.name == "mkdirat")], 8) & ~0o022
            self._bound_here(call, path)
            self.disk.named(call.ended, (*place, Node(stat.S_IFDIR, mode)))

    def _bound(self, call: Call) -> None:
        if (match := _SOCKET.search(call.arguments[1])) and (place := self._place(string(match[1]))):
            self.disk.named(call.ended, (*place, Node(stat.S_IFSOCK, 0o600)))

    def _mapped(self, call: Call) -> None:
        if "MAP_SHARED" not in call.arguments[3] or "PROT_WRITE" not in call.arguments[2]:
            return
        path = descriptor(call.arguments[4])[1] or b""
        if self._is_ours(path) and not path.endswith(_NOT_DURABLE):
            self._refuse(call)

    def _refuse(self, call: Call) -> None:
        """Say that this call is not modelled, if it speaks of files of ours."""
        told = " ".join(call.arguments)
        ours = "".join(f"\\x{byte:02x}" for byte in self._top)
        if ours in told or call.name == "io_uring_setup":
            raise UnreadableRecordError(f"line {call.ended + 1}: the model does not know '{call.name}' on our files")
