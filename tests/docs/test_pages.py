"""What the pages point to exists: links between them, commands and options, decision records, settings."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from pydantic import BaseModel

from strongroom.cli.main import main
from strongroom.cli.reference import page as commands_page
from strongroom.settings.domain import DomainSettings, write_settings
from strongroom.settings.home import Home
from strongroom.settings.media_host import JoinedSettings

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
SOURCE_FILES = ROOT / "src" / "strongroom"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]
FENCE = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^()\s]+)\)")
SOURCE = re.compile(r'(?:src|srcset)="([^"]+)"')
PLAIN_CODE = re.compile(r"``.*?``|`[^`\n]*`", re.DOTALL)


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _without_code(text: str) -> str:
    return PLAIN_CODE.sub("", FENCE.sub("", text))


def _anchors(text: str) -> set[str]:
    """Give the anchors that a page's headings get, as the common renderers make them."""
    headings = re.findall(r"^#+ +(.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_relative_link_resolves(page: Path) -> None:
    text = _without_code(page.read_text(encoding="utf-8"))
    targets = [target for target in [*LINK.findall(text), *SOURCE.findall(text)] if not re.match(r"[a-z]+:", target)]
    assert [target for target in targets if not _resolves(page, target)] == []


def _resolves(page: Path, target: str) -> bool:
    name, _, anchor = target.partition("#")
    path = (page.parent / name).resolve() if name else page
    if not path.exists():
        return False
    return not anchor or path.suffix != ".md" or anchor in _anchors(path.read_text(encoding="utf-8"))


def _command_lines(page: Path) -> Iterator[str]:
    """Give the commands in a page's fenced blocks, with lines joined that end in a backslash."""
    for block in FENCE.findall(page.read_text(encoding="utf-8")):
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            words = line.strip().removeprefix("$ ").removeprefix("! ")
            if words.startswith("strongroom "):
                yield words


def _examples() -> list[object]:
    return [pytest.param(line, id=f"{_name(page)}: {line}") for page in PAGES for line in _command_lines(page)]


@pytest.mark.parametrize("line", _examples())
def test_every_command_of_a_page_exists_with_its_options(line: str) -> None:
    """Words are parsed as the command itself does; nothing is run."""
    words = _shell_words(line)
    command: click.Command = main
    context = click.Context(main, info_name="strongroom")
    while isinstance(command, click.Group):
        name = words.pop(0)
        if name == "--version" and command is main:
            return
        found = command.get_command(context, name)
        assert found is not None, f"there is no '{context.command_path} {name}'"
        command, context = found, click.Context(found, info_name=name, parent=context)
    parser = command.make_parser(context)
    values, _, _ = parser.parse_args(words)
    given = {parameter.name for parameter in command.params if parameter.name in values}
    missing = [p.name for p in command.params if isinstance(p, click.Option) and p.required and p.name not in given]
    assert missing == [], "a required option is missing"
    for argument in (p for p in command.params if isinstance(p, click.Argument) and p.required):
        assert values.get(argument.name or "") not in (None, ()), f"'{argument.name}' is missing"


def _shell_words(line: str) -> list[str]:
    """Split as a shell does, up to a redirection, a pipe or a comment."""
    words = shlex.split(line, comments=True)[1:]
    ends = [place for place, word in enumerate(words) if word in {"|", ">", "<", "&", "&&", ";"}]
    return words[: ends[0]] if ends else words


def test_the_page_of_commands_is_current() -> None:
    text = (DOCS / "reference" / "commands.md").read_text(encoding="utf-8")
    assert text == commands_page(), "run .venv/bin/python scripts/commands-page"


def test_every_decision_record_is_listed() -> None:
    listed = set(LINK.findall((DOCS / "adr" / "README.md").read_text(encoding="utf-8")))
    assert {path.name for path in (DOCS / "adr").glob("[0-9]*.md")} <= listed


def test_every_page_is_listed_in_the_index() -> None:
    index = set(LINK.findall((DOCS / "README.md").read_text(encoding="utf-8")))
    indexed = {(DOCS / target.partition("#")[0]).resolve() for target in index if not target.startswith("http")}
    nested = ("reference/formats", "reference/protocols", "adr")  # these have an index of their own, or are one list
    expected = {p for p in DOCS.rglob("*.md") if not _name(p).startswith(tuple(f"docs/{n}/" for n in nested))}
    assert {_name(path) for path in expected - indexed - {DOCS / "README.md"}} == set()


def _imports() -> dict[str, set[str]]:
    """Give the packages of the product that import each top-level module."""
    found: dict[str, set[str]] = {}
    for path in SOURCE_FILES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                found.setdefault(name.partition(".")[0], set()).add(path.relative_to(SOURCE_FILES).parts[0])
    return found


def test_every_dependency_is_argued_for_and_named_where_it_is_used() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = (DOCS / "explanation" / "dependencies.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([\w-]+)` \| [^|]* \| ([^|]*) \|", text, re.MULTILINE))
    assert set(rows) == {re.split(r"[^\w-]", one)[0] for one in project["dependencies"]}
    modules: dict[str, set[str]] = {}
    for module, names in importlib.metadata.packages_distributions().items():
        for name in names:
            modules.setdefault(name.lower(), set()).add(module)
    used = _imports()
    for library, where in rows.items():
        if library != "xkcdpass":  # its list of words is read as a file, nothing is imported
            importing = set().union(*(used.get(module, set()) for module in modules[library.lower()]))
            assert {name.partition(".")[0] for name in re.findall(r"`([a-z_.]+)`", where)} == importing, library


def test_every_module_that_the_architecture_names_exists() -> None:
    text = (DOCS / "explanation" / "architecture.md").read_text(encoding="utf-8")
    for name in set(re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)`", text)) - {"errors.py", "tables.py", "strongroom.toml"}:
        module, _, last = f"strongroom.{name}".rpartition(".")
        found = importlib.import_module(module)
        assert hasattr(found, last) or importlib.util.find_spec(f"{module}.{last}"), name


def _settings(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Give each setting as ``section.name`` with its default as the page writes it."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _settings(kind, f"{prefix}{name}.")
        else:
            default = "required" if field.is_required() else f"`{field.default!r}`".replace("'", '"')
            yield f"{prefix}{name}", default


def test_every_setting_is_documented_with_its_default() -> None:
    text = (DOCS / "reference" / "settings.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([a-z_.]+)` \| ([^|]+?) \|", text, re.MULTILINE))
    assert rows == dict(_settings(JoinedSettings)) | dict(_settings(DomainSettings))


def test_every_setting_is_documented_with_its_variable() -> None:
    text = (DOCS / "reference" / "settings.md").read_text(encoding="utf-8")
    missing = [
        name for name, _ in _settings(DomainSettings) if f"`STRONGROOM_{name.upper().replace('.', '__')}`" not in text
    ]
    assert missing == []


def test_the_example_of_the_settings_loads(tmp_path: Path) -> None:
    text = (DOCS / "reference" / "settings.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    home = Home(tmp_path)
    home.settings_file.write_text(example, encoding="utf-8")
    shown = DomainSettings.load(home)
    write_settings(home, domain=shown.domain, host=shown.host, listen=shown.primary.listen_peer)
    made = DomainSettings.load(home)
    assert (made.primary.listen_people, made.media.listen) == (shown.primary.listen_people, shown.media.listen)
