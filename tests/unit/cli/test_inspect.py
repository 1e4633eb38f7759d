"""The offline inspector on the vectors: no server, no key, no home."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from strongroom.cli.main import main
from tests.formats import samples as s

VECTORS = Path(__file__).parents[2] / "formats" / "vectors"
NAMES = ("media-header", "image-header", "copy-header", "receipt", "hop", "trailer", "key-envelope", "revocation-list")


def inspect(*words: str | Path) -> Result:
    return CliRunner().invoke(main, ["inspect", *map(str, words)])


def case(name: str, wanted: str = "good") -> bytes:
    cases: list[dict[str, Any]] = json.loads((VECTORS / f"{name}.json").read_text())["cases"]
    (found,) = (one for one in cases if one["name"] == wanted)
    return bytes.fromhex(found["data"].removeprefix("hex:"))


@pytest.mark.parametrize("name", NAMES)
def test_a_good_vector_is_explained_with_exit_code_0(tmp_path: Path, name: str) -> None:
    file = tmp_path / "object"
    file.write_bytes(case(name))
    result = inspect(file, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["length"], found["problems"]) == (file.stat().st_size, [])
    assert found["signature"]["outcome"] == "unknown domain"
    text = inspect(file)
    assert text.exit_code == 0
    assert "signature: unknown domain, signed by " in text.stdout


def test_a_pinned_domain_is_told(tmp_path: Path) -> None:
    (tmp_path / "object").write_bytes(case("image-header"))
    result = inspect(tmp_path / "object", "--pin", s.ORIGIN.id.hex())
    assert "signature: pinned domain, signed by " + s.ORIGIN.id.hex() in result.stdout
    assert inspect(tmp_path / "object", "--pin", "daily").exit_code == 2


@pytest.mark.parametrize("wanted", ["payload-changed", "cut-by-one", "later-version", "empty"])
def test_a_bad_vector_ends_with_6_and_says_what_is_wrong(tmp_path: Path, wanted: str) -> None:
    (tmp_path / "object").write_bytes(case("image-header", wanted))
    result = inspect(tmp_path / "object")
    assert result.exit_code == 6
    assert "PROBLEM: " in result.stdout
    assert json.loads(inspect(tmp_path / "object", "--json").stdout)["problems"]


def test_names_in_a_file_cannot_steer_the_terminal(tmp_path: Path) -> None:
    data = s.ORIGIN.signed(b"SRMEDH01", s.pack(s.media_header() | {"label": "a\x1b]0;b\x07\u202e"}))
    (tmp_path / "object").write_bytes(data)
    result = inspect(tmp_path / "object")
    assert "label: a\\x1b]0;b\\x07\\u202e" in result.stdout
    assert "\x1b" not in result.output


def test_a_folder_is_one_line_a_file_and_files_of_others_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "1").write_bytes(case("receipt"))
    (tmp_path / "2\n").write_bytes(b"nothing of ours")
    (tmp_path / "3").symlink_to("sub/1")
    result = inspect(tmp_path, "--recursive")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert len(lines) == 2
    assert lines[0] == f"{tmp_path}/2\\n: unknown, 15 B"
    assert lines[1].startswith(f"{tmp_path}/sub/1: receipt, ")
    (tmp_path / "sub" / "0").write_bytes(case("receipt", "payload-changed"))
    damaged = inspect(tmp_path, "--recursive", "--json")
    assert damaged.exit_code == 6
    assert [Path(found["file"]).name for found in json.loads(damaged.stdout)] == ["2\n", "0", "1"]


def test_a_folder_wants_recursive_and_a_file_does_not(tmp_path: Path) -> None:
    (tmp_path / "1").write_bytes(b"")
    assert inspect(tmp_path).exit_code == 2
    assert inspect(tmp_path / "1", "--recursive").exit_code == 2
    assert inspect(tmp_path / "none").exit_code == 2


def test_an_empty_folder_is_an_empty_array(tmp_path: Path) -> None:
    assert json.loads(inspect(tmp_path, "--recursive", "--json").stdout) == []
