"""Stands in for the media server: keeps a backup's blocks in memory, and gives them back as a restore."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from strongroom.client.exclude import Exclude
from strongroom.client.previous import Previous
from strongroom.client.problems import Trouble
from strongroom.client.sender import Sender, Totals
from strongroom.client.walker import Walker
from strongroom.formats import entries, image_stream
from strongroom.formats.entries import Entry, MoreAttributes
from strongroom.formats.image_stream import Cut, Entries, Hole, Holes, Known, KnownFiles, Lost, Problem, Same, StreamEnd

Piece = bytes | Hole


@dataclass
class File:
    """A record, the records of attributes after it, and its contents."""

    entry: Entry
    more: list[MoreAttributes] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)

    def records(self) -> list[Entry | MoreAttributes]:
        """Give the records in the order of the stream."""
        return [self.entry, *self.more]


@dataclass
class Image:
    """What a media server would have kept."""

    files: list[File]
    problems: list[Trouble]
    totals: Totals

    def by_name(self, name: bytes) -> File:
        """Find the file with this last part of its path."""
        (found,) = (file for file in self.files if file.entry.path.rpartition(b"/")[2] == name)
        return found

    def codes(self) -> list[str]:
        """List the codes of the problems, sorted."""
        return sorted(problem.code for problem in self.problems)

    def restore_stream(self) -> Iterator[bytes]:
        """Give the image as a restore: each record before its contents."""
        yield image_stream.MAGIC
        content = 0
        for file in self.files:
            for record in file.records():
                data = entries.encode(record)
                yield image_stream.head(image_stream.ENTRIES, len(data)) + data
            for piece in file.pieces:
                if isinstance(piece, Hole):
                    yield image_stream.hole(piece.length)
                else:
                    yield image_stream.head(image_stream.DATA, len(piece))
                    yield piece
            content += file.entry.size
        yield image_stream.end(len(self.files), content, 0)

    def previous_stream(self) -> Iterator[bytes]:
        """Give the records as the media server sends those of the previous image."""
        yield image_stream.MAGIC
        for file in self.files:
            yield image_stream.known([Known.of(file.entry)])
        yield image_stream.end(len(self.files), sum(file.entry.size for file in self.files), 0)


def back_up(
    *roots: bytes,
    previous: Image | None = None,
    read_again_from_ns: int | None = None,
    readers: int = 2,
    exclude: Iterable[bytes] = (),
    one_file_system: bool = False,
) -> Image:
    """Back up into memory."""
    old = [Known.of(file.entry) for file in previous.files] if previous is not None else []
    sender = Sender(Previous([old], read_again_from_ns), readers=readers)
    walker = Walker(sender.report, exclude=Exclude(exclude), one_file_system=one_file_system)
    return keep(sender.blocks(walker.walk(roots)), sender.totals, previous)


def keep(blocks: Iterable[bytes | memoryview], totals: Totals, previous: Image | None = None) -> Image:
    """Do what the page asks of a media server in a backup."""
    files: list[File] = []
    problems: list[Trouble] = []
    unowned: list[Piece] = []
    ended: StreamEnd | None = None
    for block in image_stream.read_blocks(blocks):
        match block:
            case Entries():
                for record in block.records:
                    if isinstance(record, MoreAttributes):
                        files[-1].more.append(record)
                    else:
                        files.append(File(record, pieces=take(unowned, record.size)))
            case Same():
                assert previous is not None
                for first, count in block.runs:
                    files += previous.files[first : first + count]
            case Problem():
                problems.append(Trouble(block.path, block.code, block.message))
            case StreamEnd():
                ended = block
            case Cut():
                pass  # only a media server cuts
            case Hole():
                unowned.append(block)
            case Lost():
                raise AssertionError("no backup loses contents")
            case Holes():
                raise AssertionError("only a restore tells holes in front")
            case KnownFiles():
                raise AssertionError("only a client is sent what is known")
            case _:
                unowned.append(bytes(block))
    assert not unowned
    assert ended is not None
    assert ended.files == len(files) == totals.files
    assert ended.content == sum(file.entry.size for file in files)
    assert ended.problems == len(problems)
    keys = [entries.walk_key(file.entry.path) for file in files]
    assert keys == sorted(set(keys))
    return Image(files, problems, totals)


def take(unowned: list[Piece], size: int) -> list[Piece]:
    """Cut the next bytes off the contents that no record owns yet."""
    found: list[Piece] = []
    while size:
        piece = unowned.pop(0)
        length = piece.length if isinstance(piece, Hole) else len(piece)
        if length > size:
            rest: Piece = Hole(length - size) if isinstance(piece, Hole) else piece[size:]
            unowned.insert(0, rest)
            piece = Hole(size) if isinstance(piece, Hole) else piece[:size]
            length = size
        found.append(piece)
        size -= length
    return found
