"""What is in an image."""

from __future__ import annotations

from datetime import datetime
from itertools import accumulate
from typing import TYPE_CHECKING, Annotated, Final

from fastapi import Path, Query

from strongroom.api.errors import BadRequestError
from strongroom.api.fields import UUID, Answer, PathBytes, b64, show_path
from strongroom.api.paging import DEFAULT_LIMIT, After, Limit, Page, number
from strongroom.api.routing import Routes
from strongroom.api.security import PartsDep
from strongroom.catalog.file_list import FileEntry
from strongroom.catalog.images import get_image
from strongroom.catalog.patterns import LONGEST_PATTERN
from strongroom.core.clock import from_ns
from strongroom.core.ids import ImageId
from strongroom.database import read
from strongroom.formats import entries

if TYPE_CHECKING:
    from strongroom.catalog.file_search import Found

routes = Routes("images")
_TYPES: Final = {
    entries.REGULAR: "file",
    entries.FOLDER: "folder",
    entries.SYMLINK: "symlink",
    entries.HARD_LINK: "hard-link",
    entries.FIFO: "fifo",
    entries.SOCKET: "socket",
    entries.CHARACTER_DEVICE: "character-device",
    entries.BLOCK_DEVICE: "block-device",
}


class FileShown(Answer):
    """A file of an image. The path for programs is ``path_b64``: names may hold any bytes."""

    path: str
    path_b64: str
    type: str
    mode: int
    uid: int
    gid: int
    owner: str
    group: str
    size: int
    mtime: datetime
    link: str | None
    link_b64: str | None


@routes.get("/images/{image}/files", "image.read", on="image:{image}")
def list_files(
    image: Annotated[UUID, Path()],
    parts: PartsDep,
    folder_b64: Annotated[PathBytes | None, Query(description="a folder, absolute")] = None,
    find: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=LONGEST_PATTERN,
            pattern=r"^[^\x00]*$",
            description="a pattern: '*', '?', '[a-z]', '**'; without '/' it is matched with names alone",
        ),
    ] = None,
    after: After = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Page[FileShown]:
    """List a folder of an image, by default what is topmost in it, or find files."""
    if folder_b64 is not None and find is not None:
        raise BadRequestError("'query': give 'folder_b64' or 'find', not both")
    from strongroom.catalog import file_search  # with Arrow, which no primary waits for at its start

    behind, name = number(after, -1), ImageId(image)
    with read(parts.engine) as connection:
        get_image(connection, name)
        if folder_b64 is not None:
            found = file_search.list_folder(
                connection, parts.file_lists, name, folder_b64, after=behind, limit=limit + 1
            )
        elif find is None:
            found = file_search.list_tops(connection, parts.file_lists, name, after=behind, limit=limit + 1)
        else:
            pattern = find.encode("utf-8")
            found = file_search.find_files(
                connection, parts.file_lists, pattern, images=[name], after=(name, behind), limit=limit + 1
            )
    shown = _page(found, limit, file_search.PAGE_BYTES)
    return Page(
        items=[_shown(one.entry) for one in shown],
        next=str(shown[-1].row) if len(found) > len(shown) else None,
    )


def _page(found: list[Found], limit: int, most_bytes: int) -> list[Found]:
    """Take what one answer holds: it ends before its paths are too many bytes, of which JSON makes several times more.

    What was found goes beyond that bound, unless it is all there is; so there is a next page then.
    """
    sizes = accumulate(one.bytes for one in found)
    most = sum(1 for size in sizes if size <= most_bytes)
    return found[: min(limit, max(1, most))]


def _shown(entry: FileEntry) -> FileShown:
    return FileShown(
        path=show_path(entry.path),
        path_b64=b64(entry.path),
        type=_TYPES.get(entry.type, f"type-{entry.type}"),
        mode=entry.mode,
        uid=entry.uid,
        gid=entry.gid,
        owner=show_path(entry.owner),
        group=show_path(entry.group),
        size=entry.size,
        mtime=from_ns(entry.mtime_ns),
        link=None if entry.link is None else show_path(entry.link),
        link_b64=None if entry.link is None else b64(entry.link),
    )
