"""The work of ``strongroom restore`` in its own process: takes the image stream, and writes files or a tar."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from strongroom.cli.media_channel import MediaChannel
from strongroom.cli.media_door import MediaDoor
from strongroom.cli.progress import Progress
from strongroom.cli.troubles import Troubles
from strongroom.client.restorer import Overwrite, Restorer, RestoreTotals
from strongroom.client.selection import Selection
from strongroom.client.tar import write_tar
from strongroom.core.secret import Secret
from strongroom.formats.image_stream import Buffer
from strongroom.settings.system import SystemEntropy


@dataclass(frozen=True)
class Order:
    """What to restore, and what the primary said about it.

    Attributes:
        job: id of the job.
        token: its grant.
        media: the way to the media server.
        selection: which files are wanted, checked here too: what comes is not written for having come.
    """

    job: str
    token: Secret
    media: MediaDoor
    selection: Selection


def restore_files(
    order: Order, target: bytes, troubles: Troubles, progress: Progress, *, overwrite: Overwrite, by_name: bool
) -> RestoreTotals:
    """Write the files below a folder.

    Raises:
        StrongroomError: the stream was refused, broke off or is damaged; or the target is full.
        OSError: the target cannot be made.
    """
    restorer = Restorer(
        target,
        troubles.add,
        SystemEntropy(),
        overwrite=overwrite,
        selection=order.selection,
        numeric_owners=not by_name,
    )
    with MediaChannel(order.media, order.token) as channel:
        chunks = channel.download(f"/restore/{order.job}")
        return restorer.restore(_watched(chunks, progress, restorer.totals))


def restore_tar(order: Order, out: BinaryIO, troubles: Troubles, progress: Progress) -> None:
    """Write a pax tar to an open file or pipe.

    Raises:
        StrongroomError: the stream was refused, broke off or is damaged.
        OSError: the file or pipe takes no more.
    """
    with MediaChannel(order.media, order.token) as channel:
        chunks = channel.download(f"/restore/{order.job}?holes=1")
        write_tar(_watched(chunks, progress, None), out, troubles.add, order.selection)


def restore_tar_file(order: Order, path: Path, troubles: Troubles, progress: Progress, *, overwrite: bool) -> int:
    """Write a pax tar to a file, which has its name only when it is whole; give its length.

    Raises:
        StrongroomError: as :func:`restore_tar`.
        FileExistsError: the file is there, and overwriting was not asked for.
        OSError: it cannot be written.
    """
    part = path.with_name(f"{path.name}.{SystemEntropy().bytes(4).hex()}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as out:
            restore_tar(order, out, troubles, progress)
            out.flush()
            os.fsync(out.fileno())
            length = out.tell()
        if overwrite:
            part.replace(path)
        else:
            os.link(part, path)  # unlike a rename, it refuses a name that is taken
    finally:
        part.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return length


def _watched(chunks: Iterable[Buffer], progress: Progress, totals: RestoreTotals | None) -> Iterator[Buffer]:
    done = 0
    for chunk in chunks:
        yield chunk
        done += len(chunk)
        progress.update(done, totals.files if totals is not None else 0)
