"""A file system that loses power: which states of its files may be found afterwards.

The model keeps what was done to files and names, and since when each deed is on stable storage: contents, length and
mode by ``fsync`` of the file, a name by ``fsync`` of its folder. After a cut whatever was stable is there. Whatever was
not may be missing or present, in any selection; a write may be torn between sectors, or have grown its file and left
zeros. A rename is one deed, and may not be seen half done. :class:`Draw` chooses.
"""

from __future__ import annotations

import enum
import os
import random
import stat
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

SECTOR_BYTES: Final = 512
PAGE_BYTES: Final = 4_096
NEVER: Final = 1 << 62


class FileSystem(enum.Enum):
    """What a file system promises."""

    POSIX = "posix"
    """No more than POSIX: each file and each folder is made stable by itself."""
    JOURNAL = "journal"
    """As ext4 and XFS: names are made stable in the order of their changes, and by any fsync behind them."""


@dataclass(eq=False)
class Node:
    """A file, folder, link or socket, whatever its names."""

    kind: int
    mode: int
    target: bytes = b""
    size: int = 0
    children: dict[bytes, Node] = field(default_factory=dict)

    @property
    def is_folder(self) -> bool:
        """Tell whether names can lie in it."""
        return self.kind == stat.S_IFDIR


@dataclass(eq=False)
class Deed:
    """Something that was done; ``at`` is when it was over, ``stable`` since when it cannot be lost."""

    at: int
    stable: int = field(default=NEVER, init=False)


@dataclass(eq=False)
class Wrote(Deed):
    """Bytes came into a file."""

    node: Node
    offset: int
    data: bytes


@dataclass(eq=False)
class Sized(Deed):
    """A file got a length."""

    node: Node
    size: int


@dataclass(eq=False)
class Moded(Deed):
    """A node got permissions."""

    node: Node
    mode: int


@dataclass(eq=False)
class Named(Deed):
    """Names came, went or changed, all at once."""

    changes: tuple[tuple[Node, bytes, Node | None], ...]


@dataclass(frozen=True)
class Found:
    """What lies on the disk after a cut: names with files, and the files' contents."""

    root: Node
    names: dict[Node, dict[bytes, Node]]
    contents: dict[Node, bytearray]
    modes: dict[Node, int]

    def write(
        self, where: Path, *, without: tuple[str, ...] = (), only: Callable[[str], bool] = lambda _: True
    ) -> None:
        """Make these files in a folder.

        Args:
            where: the folder; nothing of the same names is in it.
            without: ends of names that are left out.
            only: tells which names directly in the folder are made.
        """
        where.mkdir(mode=0o700, exist_ok=True)
        for name, child in self.names.get(self.root, {}).items():
            if only(os.fsdecode(name)):
                self._write(child, where / os.fsdecode(name), tuple(map(str.encode, without)))

    def _write(self, node: Node, path: Path, without: tuple[bytes, ...]) -> None:
        match node.kind:
            case stat.S_IFDIR:
                path.mkdir(mode=0o700)
                for name, child in self.names.get(node, {}).items():
                    if not name.endswith(without):
                        self._write(child, path / os.fsdecode(name), without)
            case stat.S_IFLNK:
                path.symlink_to(os.fsdecode(node.target))
                return
            case stat.S_IFSOCK:
                os.mknod(path, stat.S_IFSOCK | 0o600)
            case _:
                path.write_bytes(self.contents.get(node, b""))
        path.chmod(self.modes.get(node, node.mode))


class Draw:
    """Chooses one state among those that a cut may leave.

    Args:
        name: one of :data:`EXTREMES`, or any text: then everything is drawn, by this text alone.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._random = random.Random(name)
        self._names = self._random.choice((0.1, 0.5, 0.9))
        self._data = self._random.choice((0.1, 0.5, 0.9))
        self._torn = self._random.choice((0.0, 0.3))
        self._in_order = self._random.random() < 0.3

    def names(self, loose: list[Named], *, in_order: bool) -> set[Named]:
        """Tell which changes of names are kept of those that were not stable.

        Args:
            loose: the changes, in order.
            in_order: none may be kept behind one that is lost.
        """
        if self.name in EXTREMES:
            return set() if self.name in ("lost", "contents") else set(loose)
        if in_order or self._in_order:
            return set(loose[: self._random.randint(0, len(loose))])
        return {deed for deed in loose if self._random.random() < self._names}

    def pieces(self, deed: Wrote, length: int) -> Iterator[tuple[int, bytes]]:
        """Give what is left of a write that was not stable: offsets and bytes.

        Args:
            deed: the write.
            length: of the file before it; what lies behind may be zeros.
        """
        match self.name:
            case "all" | "contents":
                yield deed.offset, deed.data
            case "lost" | "names":
                return
            case "zeros":
                yield from _zeros(deed, length)
            case _:
                if self._random.random() < self._torn:
                    yield from self._tear(deed, length)
                elif self._random.random() < self._data:
                    yield deed.offset, deed.data

    def keeps_size(self) -> bool:
        """Tell whether a change of length or mode is kept."""
        if self.name in EXTREMES:
            return self.name not in ("lost", "names")
        return self._random.random() < self._data

    def _tear(self, deed: Wrote, length: int) -> Iterator[tuple[int, bytes]]:
        unit = self._random.choice((SECTOR_BYTES, PAGE_BYTES))
        if self._random.random() < 0.5:
            yield from _zeros(deed, length)
        start = deed.offset
        while start < deed.offset + len(deed.data):
            end = min((start // unit + 1) * unit, deed.offset + len(deed.data))
            if self._random.random() < 0.5:
                yield start, deed.data[start - deed.offset : end - deed.offset]
            start = end


EXTREMES: Final = ("lost", "all", "names", "zeros", "contents")
"""Nothing that was not stable; all; names without contents; names, and lengths with zeros; contents without names."""


def _zeros(deed: Wrote, length: int) -> Iterator[tuple[int, bytes]]:
    end = deed.offset + len(deed.data)
    if end > length:
        start = max(deed.offset, length)
        yield start, bytes(end - start)


class Disk:
    """Everything that was done below one folder.

    Args:
        kind: what is promised.
    """

    def __init__(self, kind: FileSystem) -> None:
        self.root = Node(stat.S_IFDIR, 0o700)
        self.deeds: list[Deed] = []
        self._kind = kind
        self._unstable: defaultdict[Node, list[Deed]] = defaultdict(list)
        self._unstable_names: list[Deed] = []

    def wrote(self, at: int, node: Node, offset: int, data: bytes) -> None:
        """Bytes came into a file."""
        node.size = max(node.size, offset + len(data))
        self._note(Wrote(at, node, offset, data), node)

    def sized(self, at: int, node: Node, size: int) -> None:
        """A file got a length."""
        node.size = size
        self._note(Sized(at, node, size), node)

    def moded(self, at: int, node: Node, mode: int) -> None:
        """A node got permissions."""
        node.mode = mode
        self._note(Moded(at, node, mode), node)

    def named(self, at: int, *changes: tuple[Node, bytes, Node | None]) -> None:
        """Names came, went or changed, all at once."""
        for folder, name, node in changes:
            if node is None:
                folder.children.pop(name, None)
            else:
                folder.children[name] = node
        deed = Named(at, changes)
        self._note(deed, *{folder for folder, _, _ in changes})
        self._unstable_names.append(deed)

    def synced(self, begun: int, ended: int, node: Node, *, with_mode: bool = True) -> None:
        """A file or folder was made stable: all that was over when this began."""
        self._settle(self._unstable[node], begun, ended, with_mode=with_mode)
        if self._kind is FileSystem.JOURNAL:
            self._settle(self._unstable_names, begun, ended, with_mode=True)

    def synced_all(self, begun: int, ended: int) -> None:
        """Everything was made stable."""
        for deeds in (*self._unstable.values(), self._unstable_names):
            self._settle(deeds, begun, ended, with_mode=True)

    def after_cut(self, at: int, draw: Draw) -> Found:
        """Give what may lie on the disk when the power goes behind line ``at`` of the record."""
        found = Found(self.root, defaultdict(dict), defaultdict(bytearray), {})
        loose = [deed for deed in self.deeds if isinstance(deed, Named) and deed.at <= at < deed.stable]
        kept = draw.names(loose, in_order=self._kind is FileSystem.JOURNAL)
        for deed in self.deeds:
            if deed.at > at:
                break
            is_stable = deed.stable <= at
            match deed:
                case Named() if is_stable or deed in kept:
                    for folder, name, node in deed.changes:
                        if node is None:
                            found.names[folder].pop(name, None)
                        else:
                            found.names[folder][name] = node
                case Wrote():
                    content = found.contents[deed.node]
                    whole = iter([(deed.offset, deed.data)])
                    for offset, data in whole if is_stable else draw.pieces(deed, len(content)):
                        content.extend(bytes(max(0, offset - len(content))))
                        content[offset : offset + len(data)] = data
                case Sized() if is_stable or draw.keeps_size():
                    content = found.contents[deed.node]
                    del content[deed.size :]
                    content.extend(bytes(deed.size - len(content)))
                case Moded() if is_stable or draw.keeps_size():
                    found.modes[deed.node] = deed.mode
                case _:
                    pass
        return found

    def _note(self, deed: Deed, *nodes: Node) -> None:
        self.deeds.append(deed)
        for node in nodes:
            self._unstable[node].append(deed)

    @staticmethod
    def _settle(deeds: list[Deed], begun: int, ended: int, *, with_mode: bool) -> None:
        rest = []
        for deed in deeds:
            if deed.at < begun and (with_mode or not isinstance(deed, Moded)):
                deed.stable = min(deed.stable, ended)
            else:
                rest.append(deed)
        deeds[:] = rest
