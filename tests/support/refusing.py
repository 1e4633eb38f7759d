"""The Nth call to the system that writes, or reads, fails, and all behind it if wanted: a full or a failing disk."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

WRITES = ("write", "fsync", "link", "mkdir", "replace", "rename", "ftruncate", "open")
READS = ("pread",)


class Refusing:
    """What is refused: the Nth call, and those behind it.

    Args:
        number: which call, from 1 on.
        stays: whether those behind it are refused, too.
        error: number of the error.
    """

    def __init__(self, number: int, *, stays: bool, error: int = errno.ENOSPC) -> None:
        self._number = number
        self._stays = stays
        self._error = error
        self._lock = threading.Lock()
        self.calls = 0

    @property
    def has_refused(self) -> bool:
        return self.calls >= self._number

    @contextmanager
    def at(self, names: tuple[str, ...]) -> Iterator[None]:
        """Refuse calls of these functions of :mod:`os`; of ``open`` only what makes files."""
        with pytest.MonkeyPatch.context() as patch:
            for name in names:
                patch.setattr(os, name, self._wrapped(name, getattr(os, name)))
            yield

    def _wrapped(self, name: str, inner: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            if name == "open" and not args[1] & os.O_CREAT:
                return inner(*args, **kwargs)
            with self._lock:
                self.calls += 1
                is_refused = self.calls == self._number or (self._stays and self.has_refused)
            if is_refused:
                raise OSError(self._error, os.strerror(self._error))
            return inner(*args, **kwargs)

        return called
