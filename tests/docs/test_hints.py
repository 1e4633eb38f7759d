"""A hint never names a command, or an option, that there is not."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from strongroom.cli.main import main

SOURCE = Path(__file__).resolve().parents[2] / "src" / "strongroom"
NAMED = re.compile(r"(?<!`)'strongroom ([a-z][^'\n]*)'")


def _named() -> dict[str, set[str]]:
    """Give each command that text in the source names in quotes, and the files that do."""
    found: dict[str, set[str]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        for words in NAMED.findall(path.read_text(encoding="utf-8")):
            found.setdefault(words, set()).add(path.relative_to(SOURCE).as_posix())
    return found


@pytest.mark.parametrize("words", sorted(_named()))
def test_a_hint_names_what_exists(words: str) -> None:
    command: click.Command = main
    context = click.Context(main, info_name="strongroom")
    rest = words.split()
    while isinstance(command, click.Group) and rest and not rest[0].startswith(("-", "{", "…")):
        name = rest.pop(0)
        found = command.get_command(context, name)
        assert found is not None, f"there is no '{name}' in '{words}', named in {sorted(_named()[words])}"
        command, context = found, click.Context(found, info_name=name, parent=context)
    options = {option for parameter in command.get_params(context) for option in parameter.opts}
    assert {word for word in rest if word.startswith("--")} <= options, sorted(_named()[words])
