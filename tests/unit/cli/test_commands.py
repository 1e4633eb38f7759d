"""All commands: each has help and --json, none takes a secret as a word, and the pages say what there is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from strongroom.cli import exits
from strongroom.cli.main import main
from strongroom.cli.reference import Found, commands
from strongroom.core import errors

DOCS = Path(__file__).parents[3] / "docs" / "reference"
ALL = list(commands())
ALONE = {("demo",), ("host", "enrol"), ("init",), ("inspect",), ("join",), ("serve",)}
"""They ask no domain as somebody who is signed in: they make, run or join one, or need none."""
HEAVY = ("alembic", "cryptography", "fastapi", "msgspec", "pyarrow", "pydantic", "rich", "sqlalchemy", "uvicorn")
PROMISED = """
login logout whoami status | ca show | token create,list,revoke | cert list,issue,revoke | host list,show,enrol
trust add,list,show,check,suspend,resume,confirm,remove | pool create,list,show | storage credential create,list,revoke
storage target add,list,remove | slp create,list,show,activate,deactivate | backup restore inspect
image list,show,files,find,verify,hold,release | job list,show,watch,cancel,resume | kms group create,list
kms key create,list,show,activate,deactivate,deprecate,terminate,destroy,recover,check
kms keystore quiesce,unquiesce,import | import phase1,phase2,status | replication status | audit list,verify
user list,create
"""
SECRET = re.compile(r"pass|token|secret|credential|phrase|pin\b")
NAMES_NO_SECRET = {("storage", "credential", "revoke")}
"""Its CREDENTIAL is the id."""


def words_of(found: Found) -> str:
    return " ".join(found.words)


def promised() -> set[str]:
    found = set()
    for part in re.split(r"[|\n]", PROMISED):
        *nouns, last = part.split() or [""]
        if "," in part or nouns in (["ca"], ["replication"]):
            found |= {" ".join([*nouns, verb]) for verb in last.split(",")}
        else:
            found |= set(part.split())
    return found


def test_the_names_that_scripts_rely_on_are_there_u2() -> None:
    assert promised() <= {words_of(found) for found in ALL}


@pytest.mark.parametrize("found", ALL, ids=words_of)
def test_every_command_has_help_and_every_option_too(found: Found) -> None:
    result = CliRunner().invoke(main, [*found.words, "--help"])
    assert result.exit_code == 0
    assert found.command.help
    assert all(option.help for option in found.command.params if isinstance(option, click.Option))


@pytest.mark.parametrize("found", [one for one in ALL if one.words not in ALONE], ids=words_of)
def test_every_verb_has_json_home_and_server_u2(found: Found) -> None:
    names = {option for param in found.command.params for option in param.opts}
    assert {"--json", "--home", "--server"} <= names


@pytest.mark.parametrize("words", sorted(ALONE), ids=" ".join)
def test_a_command_that_asks_no_domain_has_no_words_for_one(words: tuple[str, ...]) -> None:
    (found,) = (one for one in ALL if one.words == words)
    assert not {"--home", "--server"} & {option for param in found.command.params for option in param.opts}


@pytest.mark.parametrize("found", ALL, ids=words_of)
def test_no_secret_is_a_word_of_a_command(found: Found) -> None:
    for param in found.command.params:
        if found.words in NAMES_NO_SECRET or not SECRET.search(str(param.name)) or isinstance(param.type, click.Choice):
            continue
        if isinstance(param, click.Option) and (param.is_flag or param.opts == ["--pin"]):
            continue
        if found.words[:2] == ("image", "list") and param.name == "waiting_for_tag":
            continue
        assert param.opts[0].endswith("-file"), param.opts
        assert isinstance(param.type, click.Path)
        assert param.type.allow_dash


def test_every_exit_code_is_on_its_page() -> None:
    rows = {int(code) for code in re.findall(r"^\| (\d+) \|", (DOCS / "exit-codes.md").read_text(), re.MULTILINE)}
    branches = {branch.exit_code for branch in errors._BRANCHES}
    own = {exits.DEFECT, exits.DAMAGED, exits.WITH_PROBLEMS, exits.JOB_FAILED, exits.INTERRUPTED}
    assert rows == {0} | branches | own


def loaded_by(code: str) -> set[str]:
    """Tell which of the heavy packages a fresh interpreter has loaded after some code."""
    program = f"import sys\n{code}\nprint(*[name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(result.stderr.split())


@pytest.mark.parametrize(
    "words", [["--help"], ["job", "list", "--help"], ["backup", "--help"], ["kms", "key", "--help"]]
)
def test_help_loads_nothing_heavy(words: list[str]) -> None:
    code = f"from strongroom.cli.main import main\ntry: main({words!r})\nexcept SystemExit: pass"
    assert loaded_by(code) == set()


@pytest.mark.parametrize("noun", ["status", "job", "image", "trust", "kms", "slp", "import_", "replication"])
def test_a_light_verb_loads_nothing_heavy(noun: str) -> None:
    assert loaded_by(f"import strongroom.cli.commands.{noun}") == set()
