"""The work of ``strongroom backup`` in its own process: walks, reads, and sends the image stream."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, cast

from strongroom.cli.media_channel import MediaChannel
from strongroom.cli.media_door import MediaDoor
from strongroom.cli.progress import Progress
from strongroom.cli.troubles import Troubles
from strongroom.client.exclude import Exclude
from strongroom.client.previous import Previous, previous_files
from strongroom.client.problems import READ_ANEW, Trouble
from strongroom.client.sender import Sender
from strongroom.client.walker import Walker
from strongroom.core.clock import to_ns
from strongroom.core.errors import UnavailableError
from strongroom.core.garbage import look_seldom
from strongroom.core.secret import Secret

CLOCK_TICK_NS: Final = 2_000_000_000
"""What was changed so shortly before the previous backup began may have been changed after, unseen."""


class NotAcknowledgedError(UnavailableError):
    """The media server took the stream, and did not say that the image is kept."""

    code = "cli.not-acknowledged"
    default_hint = (
        "mend what the message names: the image is acknowledged by itself when the media server can write again"
        " ('strongroom image list'); or run the backup again, which stores no contents twice"
    )


@dataclass(frozen=True)
class Order:
    """What to back up, and what the primary said about it.

    Attributes:
        roots: absolute paths.
        exclude: patterns to leave out.
        one_file_system: do not enter other file systems.
        job: id of the job.
        token: its grant.
        media: the way to the media server.
        previous_started: when the previous image began, if there is one to compare with.
    """

    roots: Sequence[bytes]
    exclude: Sequence[bytes]
    one_file_system: bool
    job: str
    token: Secret
    media: MediaDoor
    previous_started: datetime | None


@dataclass
class ReadAnew:
    """What is read again because the pool lost it since the previous backup.

    Attributes:
        files: how many files are known to have been lost and did not change.
        whole: why the previous image, or its end, is of no use at all.
    """

    files: int = 0
    whole: list[str] = field(default_factory=list)

    def add(self, trouble: Trouble) -> None:
        """Take one file, or what concerns the image."""
        if trouble.kind:
            self.files += 1
        else:
            self.whole.append(trouble.message)

    def told(self) -> list[dict[str, Any]]:
        """Give what the log of the job is to tell."""
        lines = [(1, message) for message in self.whole]
        if self.files:
            lines.append((self.files, f"{self.files} files did not change and were read anew: the pool lost contents"))
        return [{"code": READ_ANEW, "message": message, "files": files} for files, message in lines]


class _TellingSender(Sender):
    """A sender whose problems are also shown here."""

    def __init__(self, previous: Previous | None, troubles: Troubles) -> None:
        super().__init__(previous)
        self._troubles = troubles

    def report(self, trouble: Trouble) -> None:
        """Put a problem into the stream, and show it."""
        super().report(trouble)
        self._troubles.add(trouble)


def back_up(order: Order, troubles: Troubles, anew: ReadAnew, progress: Progress) -> dict[str, Any]:
    """Send everything, and give the media server's word on it.

    Args:
        order: what to back up.
        troubles: takes problems of files.
        anew: takes what is read anew because the pool lost it; the new image has no problem with that.
        progress: shown to people.

    Raises:
        NotAcknowledgedError: the image is not kept.
        StrongroomError: it was refused, or a connection was lost.
    """
    look_seldom()
    with contextlib.ExitStack() as open_things:
        previous = None
        if order.previous_started is not None:
            channel = open_things.enter_context(MediaChannel(order.media, order.token))
            known = previous_files(_later(channel, f"/backup/{order.job}/previous"), anew.add)
            previous = Previous(known, to_ns(order.previous_started) - CLOCK_TICK_NS, anew.add)
        sender = _TellingSender(previous, troubles)
        walker = Walker(sender.report, exclude=Exclude(order.exclude), one_file_system=order.one_file_system)
        upload = open_things.enter_context(MediaChannel(order.media, order.token))
        # Closed here and not some day: its threads hold folders open.
        blocks = cast("Generator[bytes | memoryview]", sender.blocks(walker.walk(order.roots)))
        open_things.enter_context(contextlib.closing(blocks))
        answer = upload.upload(f"/backup/{order.job}", _watched(blocks, sender, progress))
    why = answer.pop("waits_for", "")
    if answer.get("acknowledged") is not True:
        raise NotAcknowledgedError(f"the media server did not acknowledge the image: {why or 'it does not say why'}")
    return answer


def _later(channel: MediaChannel, path: str) -> Iterator[memoryview]:
    """Ask for a stream with its first piece: by then the backup is begun, and the media server makes ready for both."""
    yield from channel.download(path)


def _watched(blocks: Iterator[bytes | memoryview], sender: Sender, progress: Progress) -> Iterator[bytes | memoryview]:
    for block in blocks:
        yield block
        progress.update(sender.totals.content, sender.totals.files)
