"""I6: every file of a home is explained: what lasts by its format, the others by what they are."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from strongroom.catalog.file_list import FileEntry, FileLists
from strongroom.catalog.file_list_parquet import write_file_list
from strongroom.cli.file_source import FileSource
from strongroom.cli.main import main
from strongroom.core.clock import ManualClock, to_ns
from strongroom.core.ids import ImageId, MediumId
from strongroom.core.secret import Secret
from strongroom.database import open_engine
from strongroom.formats import signed
from strongroom.formats.identity import REVOCATION_LIST
from strongroom.formats.journal import BATCH, Batch
from strongroom.formats.passphrase import normalise
from strongroom.pool import names
from strongroom.services.primary import setup
from strongroom.settings.home import Home
from strongroom.settings.system import SystemEntropy
from tests.support.vault import Vault, random_bytes
from tests.unit.images.test_hostile_streams import data, record, stream

OTHERS = "no lasting format"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home as ``init`` makes it, and a pool with two encrypted images as ``backup`` makes them."""
    folder = tmp_path_factory.mktemp("host")
    home = Home(folder / "home")
    setup.init(
        home,
        name="north",
        host="localhost",
        listen="127.0.0.1:7440",
        root_phrase=normalise("velvet orbit candle raft mumble cactus"),
        clock=ManualClock(),
        entropy=SystemEntropy(),
    )
    vault = Vault(folder / "vault")
    for name in ("first", "second"):
        blocks = [data(random_bytes(name, 300_000)) + record(b"/a", 300_000)]
        vault.store(stream(*blocks, files=1, content=300_000), name=name)
    put_signed_objects(vault, home)
    lists = FileLists(home.file_lists, Secret(random_bytes("catalog key", 32)))
    entry = FileEntry(b"/a", 1, 0o644, 0, 0, b"", b"", 1, 1, 300_000, None, 0, None)
    write_file_list(lists, ImageId(bytes(16)), [entry], SystemEntropy())
    home.pool("main").parent.mkdir(mode=0o700)
    shutil.copytree(vault.path, home.pool("main"))
    return home


def put_signed_objects(vault: Vault, home: Home) -> None:
    """What a media server and a primary put into a pool beside the images."""
    revocations = (home.path / "pki" / setup.REVOCATIONS).read_bytes()
    assert signed.verify(REVOCATION_LIST, revocations).payload.number == 1
    vault.pool.store.put(names.revocation_key(1), revocations)
    hold = {"kind": "hold", "image": bytes(16), "copy": 1, "at": 1, "until": None, "hold": bytes(16)}
    batch = Batch(
        domain=vault.id,
        medium=MediumId(vault.medium),
        incarnation=1,
        sequence=1,
        previous=bytes(32),
        at=to_ns(vault.clock.now()),
        records=({**hold, "object": None, "reason": ""},),  # type: ignore[arg-type]
        features=(),
    )
    vault.pool.store.put(names.journal_key(1), signed.sign(BATCH, batch, vault.domain.signer))


def inspect(*words: str | Path) -> Result:
    return CliRunner().invoke(main, ["inspect", *map(str, words)])


def explained(folder: Path) -> dict[str, str]:
    """What is said of each file, by its path below the folder."""
    result = inspect("--recursive", folder, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert all(not one["problems"] for one in found), found
    return {str(Path(one["file"]).relative_to(folder)): one["what"] for one in found}


def test_files_that_cannot_be_read_or_go_away_do_not_end_a_look_at_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A home that is served changes, and parts of it are not for everybody."""
    for name in ("a-closed", "b-gone", "c-open"):
        (tmp_path / name).write_bytes(b"plain text")

    def source(path: Path) -> FileSource:
        if path.name == "a-closed":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        if path.name == "b-gone":
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))
        return FileSource(path)

    monkeypatch.setattr("strongroom.cli.file_source.FileSource", source)
    result = inspect("--recursive", tmp_path)
    assert result.exit_code == 10, result.output
    assert f"{tmp_path}/a-closed: not read, 0 B, PROBLEM: permission denied\n" in result.stdout
    assert "b-gone" not in result.stdout
    assert "c-open" in result.stdout


def test_a_folder_that_cannot_be_listed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "closed").mkdir()
    listed = os.scandir

    def scan(path: str) -> Any:
        if str(path).endswith("closed"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr("os.scandir", scan)
    result = inspect("--recursive", tmp_path)
    assert (result.exit_code, result.stdout) == (10, f"{tmp_path}/closed: not read, 0 B, PROBLEM: permission denied\n")


def test_every_file_of_a_pool_is_explained_i6(home: Home) -> None:
    found = explained(home.pool("main"))
    files = {str(path.relative_to(home.pool("main"))) for path in home.pool("main").rglob("*") if path.is_file()}
    assert set(found) == files
    by_folder: dict[str, set[str]] = {}
    for name, what in found.items():
        by_folder.setdefault(name.partition("/")[0], set()).add(what)
    index = by_folder.pop("index")
    assert index
    assert all(what.endswith(OTHERS) for what in index)
    assert by_folder == {
        "medium": {"media header"},
        "revocations": {"revocation list"},
        "journal": {"journal batch"},
        "images": {"fragment of a copy in a pool"},
        "envelopes": {"key envelope"},
        "containers": {"container of frames", "container of pages"},
    }


def test_every_file_of_kms_and_pki_and_of_the_key_folder_is_explained_i6(home: Home) -> None:
    assert explained(home.path / "kms")["keystore"] == "keystore"
    assert explained(home.keys) == dict.fromkeys(("hmk", "kpk", "service"), "key file")
    pki = explained(home.path / "pki")
    (identity,) = (name.removesuffix("/key") for name in pki if name.endswith("/key"))
    assert pki == {
        "archive-certificate": "archive certificate",
        "revocations": "revocation list",
        "service-keys": "file of service keys",
        f"{identity}/certificate": f"certificates of a host: {OTHERS}",
        f"{identity}/key": f"private key of a host, PKCS #8; it is not shown: {OTHERS}",
    }
    assert inspect(home.root_key).exit_code == 0


def test_files_that_hold_no_lasting_format_are_named_i6(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    (home.logs / "primary.log").write_text("2026-01-01 started\n")
    home.lock.touch()
    (home.path / "kms" / "keystore.lock").touch()
    (home.path / "instance").write_text('{"machine":"3d12"}')
    (home.media / "1f.crl").write_bytes(b"\x30\x03\x02\x01\x01")
    monkeypatch.chdir(home.run)  # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("session.sock")
        engine = open_engine(f"sqlite:///{home.catalog}")
        with engine.connect():
            found = explained(home.path)
        engine.dispose()
    assert found["strongroom.toml"] == f"settings: {OTHERS}"
    assert found["catalog.db"] == f"SQLite database: {OTHERS}"
    assert found["run/session.sock"] == f"socket: {OTHERS}"
    assert found["logs/primary.log"] == f"log: {OTHERS}"
    (file_list,) = (what for name, what in found.items() if name.startswith("files/"))
    assert file_list == f"encrypted Parquet file, such as the file list of an image: {OTHERS}"
    assert found["lock"] == found["kms/keystore.lock"] == f"lock: {OTHERS}"
    assert found["instance"] == f"where this home was served last: {OTHERS}"
    assert found["media/1f.crl"] == f"list of revoked certificates, X.509: {OTHERS}"
    assert "unknown" not in found.values()


def test_no_secret_of_a_home_is_shown_i6(home: Home) -> None:
    """Not in text, not as JSON: no eight bytes in a row of a private key or a key file's key."""
    (private,) = (home.path / "pki" / "primary").glob("*/key")
    key_files = [path.read_bytes() for path in home.keys.iterdir()]
    secrets = [private.read_bytes()] + [data[data.index(b"\xa3key\xc4\x20") + 6 :][:32] for data in key_files]
    said = "".join(
        inspect(*words).stdout
        for words in (
            ("--recursive", home.path.parent),
            ("--recursive", home.path.parent, "--json"),
            *((path,) for path in [private, *home.keys.iterdir()]),
        )
    )
    for secret in map(Secret, secrets):
        shown = secret.reveal()
        assert not any(shown[at : at + 8].hex() in said for at in range(0, len(shown) - 7, 4))


def test_a_changed_byte_in_a_home_is_told_with_exit_code_6_i6(home: Home, tmp_path: Path) -> None:
    more = [home.keys / "hmk", home.path / "pki" / "archive-certificate"]
    for path in [*sorted(home.pool("main").rglob("*")), *more]:
        if not path.is_file() or "index" in path.parts:
            continue
        data = bytearray(path.read_bytes())
        data[min(100, len(data) // 2)] ^= 0x10
        changed = tmp_path / path.name
        changed.write_bytes(data)
        assert inspect(changed).exit_code == 6, path
