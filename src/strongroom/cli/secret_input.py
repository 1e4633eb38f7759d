"""Secrets come from a file, from standard input or from a prompt without echo: never as a word of the command.

Words of a command can be read by every account of the host while it runs, and stay in the shell's history.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from strongroom.core.errors import InputError
from strongroom.core.secret import Secret

MAX_BYTES: Final = 64 << 10
STDIN: Final = "-"

F = TypeVar("F", bound=Callable[..., Any])


class SecretInputError(InputError):
    """A secret was not given in a way that keeps it one."""

    code = "cli.secret-not-given"


def secret_file(kind: str, what: str) -> Callable[[F], F]:
    """Give a command ``--KIND-file F|-``, which arrives as the argument ``KIND_file``.

    Args:
        kind: ``token``, ``passphrase`` or ``password``.
        what: for the help text: what the secret is.
    """
    return click.option(
        f"--{kind}-file",
        f"{kind}_file",
        type=click.Path(path_type=Path, allow_dash=True, dir_okay=False),
        metavar="FILE|-",
        help=f"File with {what}; '-' reads standard input. Without it you are asked.",
    )


def read_secret(file: Path | None, kind: str, what: str, *, confirm: bool = False) -> Secret:
    """Read a secret, without the end of its line.

    Args:
        file: what the option said; ``-`` is standard input; None asks on the terminal.
        kind: as in :func:`secret_file`, for the hint.
        what: for the prompt and for messages.
        confirm: ask twice, because a slip would be kept.

    Raises:
        SecretInputError: no terminal to ask on, or the file cannot be read, is empty or too long.
    """
    if file is None:
        if not sys.stdin.isatty():
            raise SecretInputError(
                f"{what} is wanted, and there is no terminal to ask on", hint=f"give --{kind}-file FILE, or '-'"
            )
        text = click.prompt(what[:1].upper() + what[1:], hide_input=True, confirmation_prompt=confirm, err=True)
        return Secret(str(text).encode("utf-8", "surrogateescape"))
    try:
        if str(file) == STDIN:
            data = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with file.open("rb") as opened:
                data = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise SecretInputError(f"'{file}' cannot be read: {(error.strerror or str(error)).lower()}") from error
    if len(data) > MAX_BYTES:
        raise SecretInputError(f"{what} has more than {MAX_BYTES} bytes", hint="is this the right file?")
    data = data.removesuffix(b"\n").removesuffix(b"\r")
    if not data:
        raise SecretInputError(f"{what} is empty", hint="is this the right file?")
    return Secret(data)


def as_text(secret: Secret, what: str) -> str:
    """Give the text of a secret for the body of a request.

    Raises:
        SecretInputError: it is not UTF-8.
    """
    try:
        return secret.reveal().decode("utf-8")
    except UnicodeDecodeError:
        # The cause would show the bytes.
        raise SecretInputError(f"{what} is not UTF-8 text", hint="write it as UTF-8") from None
