"""What a command shows: one JSON value for programs, short text for people. Data to stdout, talk to stderr.

JSON is written in ASCII, so that no name can steer a terminal, nor fail to be encoded.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

from strongroom.cli.terminal import safe
from strongroom.core.errors import StrongroomError, to_document


class Output:
    """Where one command puts its results.

    Args:
        as_json: one JSON value on stdout and nothing else there.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def result(self, value: Any, text: str | None = None) -> None:
        """Show the command's result: as JSON, or as text (by default the fields of the value)."""
        if self.as_json:
            click.echo(json.dumps(value, indent=2))
        elif text is not None:
            click.echo(text)
        elif isinstance(value, Mapping):
            self._fields(value)
        else:
            click.echo(str(value))

    def stream(self, values: Iterable[Any]) -> None:
        """Show results as they come, as one JSON array; for more than fits into memory."""
        first = True
        for value in values:
            click.echo(("[\n" if first else ",\n") + json.dumps(value), nl=False)
            first = False
        click.echo("[]" if first else "\n]")

    def table(self, rows: Iterable[Mapping[str, Any]], columns: Sequence[tuple[str, str]], empty: str) -> None:
        """Show a listing.

        Args:
            rows: the items, whole; JSON shows all of their fields.
            columns: field and heading of what people see.
            empty: what to say, and do next, when there are none.
        """
        items = list(rows)
        if self.as_json:
            click.echo(json.dumps(items, indent=2))
            return
        if not items:
            self.say(empty)
            return
        cells = [[_cell(item.get(field)) for field, _ in columns] for item in items]
        widths = [max(len(heading), *(len(row[place]) for row in cells)) for place, (_, heading) in enumerate(columns)]
        headings = (heading.ljust(width) for (_, heading), width in zip(columns, widths, strict=True))
        click.echo("  ".join(headings).rstrip())
        for row in cells:
            click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())

    def say(self, text: str) -> None:
        """Tell the person something that is not a result; nothing when a program reads."""
        if not self.as_json:
            click.echo(text, err=True)

    def _fields(self, value: Mapping[str, Any]) -> None:
        width = max((len(key) for key in value), default=0)
        for key, item in value.items():
            click.echo(f"{safe(key).replace('_', ' '):<{width}}  {_cell(item)}".rstrip())


def _cell(value: Any) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(_cell(item) for item in value) or "-"
        case dict():
            return ", ".join(f"{safe(str(key))}={_cell(item)}" for key, item in value.items())
        case _:
            return safe(str(value))


def show_error(error: StrongroomError, *, as_json: bool) -> None:
    """Tell an error: cause, cure and code; in JSON also on stdout, so that a program need read only there."""
    if as_json:
        click.echo(json.dumps({"message_type": "error", **to_document(error)}))
    # The words may be of another host, or hold a file's name.
    print(f"strongroom: error: {safe(error.message)} [{safe(error.code)}]", file=sys.stderr)  # noqa: T201 - talk
    if error.hint:
        print(f"strongroom: hint: {safe(error.hint)}", file=sys.stderr)  # noqa: T201 - talk
