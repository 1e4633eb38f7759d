"""The page of commands, made from the commands: what exists is documented, and nothing else."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass

import click

from strongroom.cli.main import main

SHARED = ("home", "server", "as_json")
_FRONT = """# Commands

Made from the commands by `scripts/commands-page`; do not edit. `strongroom COMMAND --help` says the same.

A command that asks a domain takes these options; `init`, `demo` and `inspect`, which ask none, take the last one, and
`serve` takes none. Every command ends with one of the [exit codes](exit-codes.md).

| option | meaning |
|---|---|
| `--home HOME` | home of the domain on this host; `STRONGROOM_HOME` in the environment is the same |
| `--server URL` | a primary that you have logged in to with `strongroom login`, instead of a home |
| `--json` | one JSON value on standard output and nothing else there; for an error too |

Results go to standard output, all else to standard error. A secret is never a word of a command: `--passphrase-file`,
`--token-file` and `--password-file` name a file, or `-` for standard input; without them the command asks on the
terminal, without echo.
"""


@dataclass(frozen=True)
class Found:
    """A command, and the words that call it."""

    words: tuple[str, ...]
    command: click.Command


def commands() -> Iterator[Found]:
    """Give all commands that do something, sorted by their words."""
    yield from _below((), main)


def _below(words: tuple[str, ...], command: click.Command) -> Iterator[Found]:
    if not isinstance(command, click.Group):
        yield Found(words, command)
        return
    context = click.Context(command, info_name=" ".join(words) or "strongroom")
    for name in command.list_commands(context):
        child = command.get_command(context, name)
        if child is not None:
            yield from _below((*words, name), child)


def page() -> str:
    """Write the page."""
    parts = [_FRONT]
    noun = ""
    for found in commands():
        if found.words[0] != noun:
            noun = found.words[0]
            parts.append(f"## {noun}\n")
        parts.append(_section(found))
    return "\n".join(parts)


def _section(found: Found) -> str:
    command = found.command
    context = click.Context(command, info_name=f"strongroom {' '.join(found.words)}")
    pieces = " ".join(command.collect_usage_pieces(context)).replace("[OPTIONS]", "").split()
    level = "" if len(found.words) == 1 else f"### {' '.join(found.words)}\n\n"
    required = [f"{option.opts[0]} {_value(option, context)}" for option in _options(command) if option.required]
    lines = [f"{level}    strongroom {' '.join((*found.words, *pieces, *required))}\n"]
    lines += [_paragraph(part) + "\n" for part in inspect.cleandoc(command.help or "").split("\n\n")]
    rows = [_row(option, context) for option in _options(command)]
    if rows:
        lines += ["| option | meaning |", "|---|---|", *rows, ""]
    return "\n".join(lines)


def _paragraph(text: str) -> str:
    r"""Keep lines that click is told to keep (``\b``) as an example."""
    if text.startswith("\b\n"):
        return "\n".join(f"    {line}" for line in text.splitlines()[1:])
    return " ".join(text.split())


def _options(command: click.Command) -> list[click.Option]:
    return [one for one in command.params if isinstance(one, click.Option) and one.name not in SHARED]


def _value(option: click.Option, context: click.Context) -> str:
    return "" if option.is_flag else option.make_metavar(context)


def _row(option: click.Option, context: click.Context) -> str:
    name = f"{', '.join(option.opts)} {_value(option, context)}".strip().replace("|", "\\|")
    default = f" Default: {option.default}." if option.show_default else ""
    needed = " Required." if option.required else ""
    return f"| `{name}` | {(option.help or '').replace('|', chr(92) + '|')}{default}{needed} |"
