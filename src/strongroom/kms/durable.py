"""Files that are whole after any crash: either as they were or as they were to be."""

from __future__ import annotations

import os
from pathlib import Path

from strongroom.kms.errors import KeystoreWriteError

FILE_MODE = 0o600


def replace_file(path: Path, data: bytes) -> None:
    """Put a file in place of another, atomically and on stable storage, readable by its owner alone.

    One writer at a time: the temporary file has a fixed name, so that the rest of a crash is overwritten by
    the next writer instead of staying for ever with key material in it.

    Raises:
        KeystoreWriteError: it was not written; what was there is still there. When the last step, making the
            rename itself durable, fails, the new content stands, and may be gone after a loss of power.
    """
    temporary = path.with_name(path.name + ".new")
    try:
        _write(temporary, data)
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise KeystoreWriteError(f"'{path}' could not be written: {error.strerror}") from error


def create_file(path: Path, data: bytes) -> None:
    """Write a file that must not be there yet, on stable storage, readable by its owner alone.

    Raises:
        FileExistsError: it is there.
        KeystoreWriteError: it was not written.
    """
    temporary = path.with_name(path.name + ".new")
    try:
        _write(temporary, data)
        # A link, unlike a rename, fails when the name is taken.
        path.hardlink_to(temporary)
        temporary.unlink()
        sync_folder(path.parent)
    except FileExistsError:
        temporary.unlink(missing_ok=True)
        raise
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise KeystoreWriteError(f"'{path}' could not be written: {error.strerror}") from error


def make_folder(path: Path) -> None:
    """Make a folder that only its owner may enter, with what is missing above it.

    Raises:
        KeystoreWriteError: it could not be made.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        raise KeystoreWriteError(f"the folder '{path}' could not be made: {error.strerror}") from error


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, FILE_MODE), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
