"""The access key for a bucket, from a file as other programs for object storage have it.

``[default]`` with ``aws_access_key_id`` and ``aws_secret_access_key``; a file with one section may call it otherwise.
"""

from __future__ import annotations

import configparser
from pathlib import Path
from typing import Final

from strongroom.cli.secret_input import SecretInputError, as_text, read_secret

KIND: Final = "credentials"
WHAT: Final = "the access key"
_ID: Final = "aws_access_key_id"
_SECRET: Final = "aws_secret_access_key"  # noqa: S105 - the name of a line


def read_bucket_key(file: Path) -> dict[str, object]:
    """Read an access key, as a request to make a pool wants it.

    Args:
        file: as the option said; ``-`` is standard input.

    Raises:
        SecretInputError: the file cannot be read, or has no access key.
    """
    words = configparser.ConfigParser(interpolation=None, default_section="")
    try:
        words.read_string(as_text(read_secret(file, KIND, WHAT), WHAT))
    except configparser.Error:
        # The cause would show the line.
        raise _no_key(file) from None
    sections = words.sections()
    name = "default" if "default" in sections else sections[0] if len(sections) == 1 else ""
    if not name or not all(words[name].get(line) for line in (_ID, _SECRET)):
        raise _no_key(file)
    return {"access_key": words[name][_ID], "secret_key": words[name][_SECRET]}


def _no_key(file: Path) -> SecretInputError:
    return SecretInputError(
        f"'{file}' has no access key",
        hint=f"write three lines: '[default]', '{_ID} = ...' and '{_SECRET} = ...'",
    )
