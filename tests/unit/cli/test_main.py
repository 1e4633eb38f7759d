from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import strongroom
from strongroom.cli import commands
from strongroom.cli.main import main

NOUN = """
import click

@click.command()
def command():
    "Do what the noun does."
    click.echo("done")
"""


@pytest.fixture
def nouns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that holds the nouns, instead of the real ones."""
    monkeypatch.setattr(commands, "__path__", [str(tmp_path)])
    for name in [name for name in sys.modules if name.startswith(f"{commands.__name__}.")]:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path


def test_version_is_that_of_the_package() -> None:
    result = CliRunner().invoke(main, ["--version"])
    assert result.exit_code == 0
    assert result.output == f"strongroom {strongroom.__version__}\n"


def test_noun_runs_from_its_module(nouns: Path) -> None:
    (nouns / "key_group.py").write_text(NOUN)
    result = CliRunner().invoke(main, ["key-group"])
    assert result.exit_code == 0
    assert result.output == "done\n"


def test_noun_does_not_import_its_neighbours(nouns: Path) -> None:
    (nouns / "image.py").write_text(NOUN)
    (nouns / "broken.py").write_text("raise RuntimeError")
    assert CliRunner().invoke(main, ["image"]).exit_code == 0
    assert CliRunner().invoke(main, ["--version"]).exit_code == 0


def test_help_lists_the_nouns_and_nothing_else(nouns: Path) -> None:
    (nouns / "image.py").write_text(NOUN)
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    assert result.output.partition("Commands:\n")[2] == "  image  Do what the noun does.\n"


def test_unknown_noun_is_a_usage_error(nouns: Path) -> None:
    result = CliRunner().invoke(main, ["nonesuch"])
    assert result.exit_code == 2
    assert "No such command 'nonesuch'" in result.output
