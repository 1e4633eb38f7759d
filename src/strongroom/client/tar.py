"""Writes an image stream as a pax tar stream, which other people's tools read."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Final

from strongroom.client.problems import LINK_MISSING, UNSUPPORTED, Report, Trouble
from strongroom.client.selection import Selection
from strongroom.core.errors import IntegrityError
from strongroom.formats import entries, pax
from strongroom.formats.errors import DamagedError
from strongroom.formats.image_stream import Buffer, Hole, Lost, Problem
from strongroom.formats.restore_stream import Member, members

_ZEROS: Final = bytes(1 << 20)


class ContentsLostError(IntegrityError):
    """Contents of a file are lost, and a tar stream, which has promised them, cannot leave the file out."""

    code = "client.contents-lost"
    default_hint = (
        "restore below a folder ('--to DIR') to get all other files, or name the paths that you want; the rest may"
        " be whole in another copy ('--copy')"
    )


def tar_pieces(chunks: Iterable[Buffer], report: Report, selection: Selection | None = None) -> Iterator[Buffer]:
    """Turn the image stream of a restore into a pax tar stream.

    Holes are left out as GNU tar leaves them out (sparse files, version 1.0) as far as the stream tells them in front;
    others become zeros. Paths lose their leading slash.

    Args:
        chunks: the image stream.
        report: told of every problem.
        selection: which files are wanted; by default all.

    Raises:
        ContentsLostError: contents of a file cannot be read.
        DamagedError: the stream is against its page, or broke off.
        NewerFormatError: it needs a later program.
    """

    def reported(problem: Problem) -> None:
        report(Trouble(problem.path, problem.code, problem.message))

    wanted = selection or Selection()
    # Hashes, because paths would take several times the room; a clash leaves out one hard link, visibly.
    sockets: set[int] = set()
    length = 0
    for member in members(chunks, reported):
        entry = member.entry
        if entry not in wanted:
            continue
        is_link = entry.type == entries.HARD_LINK
        if entry.type == entries.SOCKET:
            sockets.add(hash(entry.path))
        if entry.type == entries.SOCKET or (is_link and hash(entry.target) in sockets):
            report(Trouble(entry.path, UNSUPPORTED, "a socket has no place in a tar", "socket"))
            continue
        if is_link and not wanted.has_path(entry.target or b""):
            report(Trouble(entry.path, LINK_MISSING, f"{entries.shown(entry.target or b'')} was not selected"))
            continue
        if member.holes:
            front, stored = pax.sparse_header(entry, member.holes)
        else:
            front, stored = pax.header(entry), entry.size
        yield front
        yield from _contents(member)
        rest = pax.padding(stored)
        if rest:
            yield _ZEROS[:rest]
        length += len(front) + stored + rest
    yield pax.trailer(length)


def write_tar(chunks: Iterable[Buffer], out: BinaryIO, report: Report, selection: Selection | None = None) -> None:
    """Write the image stream of a restore to a file or pipe, as a pax tar stream.

    Raises:
        ContentsLostError: contents of a file cannot be read.
        DamagedError: the stream is against its page, or broke off.
        NewerFormatError: it needs a later program.
        OSError: the file or pipe takes no more.
    """
    for piece in tar_pieces(chunks, report, selection):
        out.write(piece)


def _contents(member: Member) -> Iterator[Buffer]:
    """Give the contents without the holes that the header told, and with zeros for all others."""
    holes = deque(member.holes)
    at = 0
    for piece in member.pieces():
        if isinstance(piece, Lost):
            shown = entries.shown(member.entry.path)
            raise ContentsLostError(f"contents of {shown} are lost: {piece.message} [{piece.code}]")
        end = at + (piece.length if isinstance(piece, Hole) else len(piece))
        if not isinstance(piece, Hole):
            if holes and holes[0][0] < end:
                raise DamagedError(f"{entries.shown(member.entry.path)} has contents where a hole was told")
            yield piece
        while isinstance(piece, Hole) and at < end:
            begin, length = holes[0] if holes else (end, 0)
            if begin > at:
                until = min(begin, end)
                yield from _zeros(until - at)
                at = until
            else:
                at = min(begin + length, end)
                if at == begin + length:
                    holes.popleft()
        at = end


def _zeros(length: int) -> Iterator[bytes]:
    while length:
        part = _ZEROS[:length]
        yield part
        length -= len(part)
