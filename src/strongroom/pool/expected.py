"""What a stream is expected to bring: the segments that its forerunner had at this place.

Most of a large file that changed is as it was. Where the bytes that come have the name of the segment that stood
there, they are that segment, and nobody needs to search them for the place where it ends: that search takes longer
than naming them. An expectation decides where a segment ends, never what it is: names are computed from what came.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final, NamedTuple

from strongroom.core.ids import SegmentName
from strongroom.formats.errors import DamagedError, NewerFormatError
from strongroom.pool.errors import PageMissingError, PoolReadError
from strongroom.pool.references import Reference

_AROUND: Final = 1_024
"""So many segments ahead and behind are looked through for one that came, to find the place again."""
_MOST_GUESSES: Final = 32
_MISSES: Final = 4
"""Wrong guesses, one behind the other, after which there are none until a segment comes that was there."""
_SEVERAL: Final = -1


class Guess(NamedTuple):
    """A segment that may come next; its length in bytes."""

    name: SegmentName
    length: int


class Expected:
    """Follows the forerunner of a stream.

    There are few guesses at first, and twice as many each time that all were right: a wrong guess costs the time to
    name what is not there.

    Args:
        references_from: gives the forerunner's references from one of them on
            (:meth:`~strongroom.pool.seek.SeekableStream.from_number`).
        shortest: bytes of the shortest segment that is guessed: a shorter one ended where its file did, and the file
            may have grown.
    """

    def __init__(self, references_from: Callable[[int], Iterator[Reference]], shortest: int) -> None:
        self._references_from = references_from
        self._shortest = shortest
        self.move(0)

    def move(self, number: int) -> None:
        """Go on at another place of the forerunner.

        Args:
            number: of the segment there, from 0.
        """
        self._start = number
        self._source: Iterator[Guess] | None = None
        self._ahead: deque[Guess] = deque()
        self._behind: deque[Guess] = deque()
        self._numbers: dict[SegmentName, int] = {}  # of those around, counted from where it began
        self._passed = 0  # number of the first that is ahead
        self._missing_bytes = 0  # what came in place of the first that is ahead
        self._count = 1
        self._misses = 0

    def guesses(self, most_bytes: int) -> list[Guess]:
        """Tell what comes next, as far as that can be guessed.

        Args:
            most_bytes: the sum of their lengths, at the most.
        """
        self._look_ahead()
        found: list[Guess] = []
        if self._misses < _MISSES:
            for guess in islice(self._ahead, self._count):
                most_bytes -= guess.length
                if guess.length < self._shortest or most_bytes < 0:
                    break
                found.append(guess)
        return found

    def guessed(self, right: int, wrong: int) -> None:
        """Say how many of the guesses came, and how many did not; what came in their stead is for :meth:`came`."""
        for _ in range(right):
            self._pass()
        if right:
            self._missing_bytes = self._misses = 0
        if wrong:
            self._misses += 1
            self._count = 1
        else:
            self._count = min(2 * self._count, _MOST_GUESSES)

    def came(self, name: SegmentName, length: int) -> None:
        """Say what came that was not guessed.

        A segment that was there tells the place. Any other stands for as many bytes of the forerunner: a change in
        place is the most common.
        """
        number = self._numbers.get(name, _SEVERAL)
        if number != _SEVERAL:
            while self._passed <= number:
                self._pass()
            while self._passed > number + 1:
                self._passed -= 1
                self._ahead.appendleft(self._behind.pop())
            self._missing_bytes = self._misses = 0
            return
        self._missing_bytes += length
        while self._ahead and self._ahead[0].length <= self._missing_bytes:
            self._missing_bytes -= self._ahead[0].length
            self._pass()

    def _pass(self) -> None:
        """Leave one behind."""
        self._behind.append(self._ahead.popleft())
        self._passed += 1
        if len(self._behind) > _AROUND:
            self._numbers.pop(self._behind.popleft().name, None)

    def _look_ahead(self) -> None:
        """Have enough of the forerunner at hand, if there is as much."""
        if len(self._ahead) >= _AROUND // 2:
            return
        if self._source is None:
            self._source = self._read(self._start)
        first = self._passed + len(self._ahead)
        for number, guess in enumerate(islice(self._source, _AROUND - len(self._ahead)), first):
            self._ahead.append(guess)
            self._numbers[guess.name] = _SEVERAL if guess.name in self._numbers else number

    def _read(self, start: int) -> Iterator[Guess]:
        """Read the forerunner; what of it is damaged ends the guesses, and is told to whoever restores or scrubs it."""
        try:
            for reference in self._references_from(start):
                yield Guess(reference.name, reference.length)
        except (DamagedError, NewerFormatError, PageMissingError, PoolReadError):
            return
