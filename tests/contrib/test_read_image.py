"""The reader against pools that `handmade_pool` builds from the pages of `docs/reference/formats`."""

import hashlib
import io
import os
import stat
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from contrib import read_image
from contrib.read_image import Value
from tests.contrib.handmade_pool import (
    HOLE,
    MTIME,
    RANDOM_SEGMENT,
    SMALL,
    PoolBuilder,
    hkdf,
    label,
    pack,
    record,
    segment_name,
    u,
)
from tests.contrib.reader import run

PHRASE = "correct horse  battery staple"


@pytest.fixture
def pool(tmp_path: Path) -> PoolBuilder:
    return PoolBuilder(tmp_path / "pool")


@pytest.fixture
def phrase(tmp_path: Path) -> Path:
    path = tmp_path / "phrase"
    path.write_text(f"  {PHRASE}\n")
    return path


def has_xattrs(path: Path) -> bool:
    try:
        os.setxattr(path, "user.probe", b"")
    except OSError:
        return False
    return True


def check_restored(folder: Path, xattrs: bool) -> None:
    assert (folder / "a").read_bytes() == b"hello world"
    assert (folder / "big").read_bytes() == b"start of big" + bytes(HOLE) + RANDOM_SEGMENT
    assert (folder / "link").readlink() == Path("../outside")
    assert (folder / "a").stat().st_ino == (folder / "same").stat().st_ino
    assert (folder / "sub" / ("n" * 120)).read_bytes() == b"two"
    assert (folder / "sub-2").stat().st_size == 0
    for name, mode in (("", 0o750), ("a", 0o640), ("sub", 0o500), ("sub/" + "n" * 120, 0o400)):
        assert stat.S_IMODE((folder / name).stat().st_mode) == mode
    assert folder.stat().st_mtime_ns == (folder / "a").stat().st_mtime_ns == MTIME
    assert (folder / "link").lstat().st_mtime_ns == MTIME
    assert (folder / "big").stat().st_mtime_ns == -1
    if xattrs:
        assert os.getxattr(folder / "a", "user.note") == b"\0\xff"
        assert [os.getxattr(folder / "sub", f"user.{c}") for c in "ab"] == [b"1", b"2"]


# ---------------------------------------------------------------- whole pools


def test_it_lists_and_tells_pinned_from_unknown(pool: PoolBuilder) -> None:
    listed = run("list", pool.path)
    assert listed.status == 0
    assert pool.name in listed.out
    assert pool.tag.hex() in listed.out
    assert "unknown domain" in listed.out + listed.err
    pinned = run("list", pool.path, "--domain", pool.origin.id.hex())
    assert "pinned domain" in pinned.err
    assert "unknown domain" not in pinned.out + pinned.err
    assert run("list", pool.path, "--domain", "00" * 32).status == 1


def test_it_verifies_without_a_key(pool: PoolBuilder) -> None:
    result = run("verify", pool.path, pool.image.hex())
    assert result.status == 0, result.err
    assert "2 frames are right" in result.out
    assert "1 envelopes hold all 1 data keys" in result.out


@pytest.mark.parametrize("from_peer", [False, True])
def test_it_restores_with_a_pass_phrase(tmp_path: Path, phrase: Path, from_peer: bool) -> None:
    pool = PoolBuilder(tmp_path / "pool", from_peer=from_peer)
    words = ("restore", pool.path, pool.name, "--key", pool.tag.hex(), "--passphrase-file", phrase)
    result = run(*words, "--to", tmp_path / "new")
    xattrs = has_xattrs(tmp_path)
    assert result.status == (0 if xattrs else 1), result.err
    check_restored(tmp_path / "new", xattrs)
    assert run(*words, "--to", tmp_path / "new").status == 1  # not empty any more


def test_it_writes_tar(pool: PoolBuilder, phrase: Path, tmp_path: Path) -> None:
    command = [sys.executable, read_image.__file__, "restore", str(pool.path), pool.name]
    command += ["--key", pool.tag.hex(), "--passphrase-file", str(phrase), "--tar", "-"]
    data = subprocess.run(command, check=True, capture_output=True).stdout
    assert len(data) % 10_240 == 0
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = {member.name: member for member in tar.getmembers()}
        assert list(members) == [".", "a", "big", "link", "same", "sub", "sub/" + "n" * 120, "sub-2"]
        assert members["same"].linkname == "a"
        assert members["link"].linkname == "../outside"
        assert members["a"].pax_headers["mtime"] == "1700000000.123456789"
        assert members["big"].mtime == pytest.approx(-1e-9)
        big = tar.extractfile("big")
        assert big is not None
        assert big.read() == b"start of big" + bytes(HOLE) + RANDOM_SEGMENT
    (tmp_path / "plain").mkdir()
    subprocess.run(["tar", "-xpf", "-", "-C", tmp_path / "plain"], input=data, check=True, capture_output=True)
    check_restored(tmp_path / "plain", xattrs=False)


def test_it_reads_an_image_that_is_not_encrypted(tmp_path: Path) -> None:
    pool = PoolBuilder(tmp_path / "pool", encrypted=False)
    result = run("verify", pool.path, pool.name)
    assert result.status == 0, result.err
    assert "8 files are described rightly" in result.out
    assert run("restore", pool.path, pool.name, "--to", tmp_path / "new").status == (0 if has_xattrs(tmp_path) else 1)


def test_a_wrong_phrase_is_refused_at_once(pool: PoolBuilder, phrase: Path, tmp_path: Path) -> None:
    phrase.write_text("Correct horse battery staple")
    words = ("restore", pool.path, pool.name, "--key", pool.tag.hex(), "--passphrase-file", phrase)
    result = run(*words, "--to", tmp_path / "new")
    assert result.status == 1
    assert "pass phrase" in result.err
    assert not (tmp_path / "new").exists()


def test_a_key_that_opens_nothing_is_refused(pool: PoolBuilder, tmp_path: Path) -> None:
    result = run("restore", pool.path, pool.name, "--to", tmp_path / "new")
    assert result.status == 1
    assert pool.tag.hex() in result.err
    assert not (tmp_path / "new").exists()


def test_a_mistyped_tag_is_told(pool: PoolBuilder, phrase: Path, tmp_path: Path) -> None:
    tag = pool.tag.hex().replace("5", "6", 1)
    words = ("restore", pool.path, pool.name, "--key", tag, "--passphrase-file", phrase)
    assert "check sum" in run(*words, "--to", tmp_path / "new").err


# ---------------------------------------------------------------- keystores


def write_keystore(pool: PoolBuilder, folder: Path) -> list[object]:
    files: dict[str, bytes] = {"hmk": b"h" * 32, "kpk": b"k" * 32}
    for purpose, key in files.items():
        name = purpose[0].encode() * 16
        checked = label("key-file") + purpose.encode() + b"\0" + name + pool.origin.id + b"\0" + bytes(16) + key
        body: dict[str, Value] = {"purpose": purpose, "id": name, "domain": pool.origin.id, "source": "random"}
        body |= {"kdf": 0, "salt": bytes(16), "key": key, "check": hashlib.sha256(checked).digest()[:8]}
        (folder / purpose).write_bytes(b"SRKEYF01" + u(4, len(pack(body))) + pack(body))
        (folder / purpose).chmod(0o600)
    tag = pool.other_tag
    wrapping = AESGCM(hkdf(files["kpk"], label("keystore-record") + b"k" * 16))
    key_record: dict[str, Value] = {"tag": tag, "group": b"G" * 16, "name": "one", "description": "", "state": "active"}
    key_record |= {"created": 9, "modified": 9, "recovered": False, "nonce": b"1" * 12}
    key_record["wrapped"] = wrapping.encrypt(b"1" * 12, pool.other_key, tag + b"G" * 16 + u(8, 9))
    group: dict[str, Value] = {"group": b"G" * 16, "name": "g", "description": "", "created": 1, "modified": 1}
    head_record: dict[str, Value] = {"domain": pool.origin.id, "generation": 3, "hmk": b"h" * 16, "kpk": b"k" * 16}
    packed = pack(head_record | {"cipher": 1, "nonce": b"2" * 12, "quiesced": 0})
    head = b"SRKEYS01" + u(4, len(packed)) + packed
    sealing = AESGCM(hkdf(files["hmk"], label("keystore") + b"h" * 16))
    (folder / "keystore").write_bytes(
        head + sealing.encrypt(b"2" * 12, pack({"groups": [group], "keys": [key_record]}), head)
    )
    return ["--keystore", folder / "keystore", "--hmk", folder / "hmk", "--kpk", folder / "kpk"]


def test_it_restores_with_a_keystore(pool: PoolBuilder, tmp_path: Path) -> None:
    words = ["restore", pool.path, pool.name, *write_keystore(pool, tmp_path)]
    run(*words, "--to", tmp_path / "new")
    check_restored(tmp_path / "new", has_xattrs(tmp_path))


def test_a_key_file_that_others_may_read_is_refused(pool: PoolBuilder, tmp_path: Path) -> None:
    words = ["restore", pool.path, pool.name, *write_keystore(pool, tmp_path)]
    (tmp_path / "kpk").chmod(0o640)
    assert "others than its owner" in run(*words, "--to", tmp_path / "new").err


@pytest.mark.parametrize("name", ["keystore", "hmk", "kpk"])
def test_a_damaged_keystore_is_refused(pool: PoolBuilder, tmp_path: Path, name: str) -> None:
    words = ["restore", pool.path, pool.name, *write_keystore(pool, tmp_path)]
    data = bytearray((tmp_path / name).read_bytes())
    data[-20] ^= 1
    (tmp_path / name).write_bytes(data)
    result = run(*words, "--to", tmp_path / "new")
    assert result.status == 1
    assert "damaged" in result.err


# ---------------------------------------------------------------- what must be refused


@pytest.mark.parametrize("where", [0.0, 0.02, 0.3, 0.5, 0.8, 0.999])
@pytest.mark.parametrize("folder", ["medium", "images", "containers/01", "containers/02", "envelopes"])
def test_a_damaged_byte_is_refused(pool: PoolBuilder, folder: str, where: float) -> None:
    paths = [pool.path / folder] if folder == "medium" else [p for p in (pool.path / folder).rglob("*") if p.is_file()]
    for path in paths:
        data = bytearray(path.read_bytes())
        data[int(where * len(data))] ^= 0x10
        path.write_bytes(data)
    result = run("verify", pool.path, pool.name)
    assert result.status == 1, result.out


@pytest.mark.parametrize("folder", ["revocations", "journal", "envelopes", "containers"])
def test_a_file_that_cannot_be_read_ends_nothing(pool: PoolBuilder, folder: str) -> None:
    """As an unreadable sector would: here a symbolic link, which is not followed."""
    name = {"revocations": "0000000009", "journal": "0000000000000001"}.get(folder, "01/" + "01" * 15 + "77")
    if folder == "envelopes":
        name = f"45/{(b'E' * 16).hex()}-{pool.origin.id.hex()}-00000009"
    link = pool.path / folder / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to("/dev/null")
    result = run("verify", pool.path, pool.name)
    assert result.status == 0, result.err
    assert link.name in result.err


def test_a_frame_in_two_containers_is_read_from_the_good_one(pool: PoolBuilder, tmp_path: Path) -> None:
    good = pool.path / "containers" / "01" / (b"\1" * 16).hex()
    raw = bytearray(good.read_bytes())
    raw[8:24] = bytes(16)
    raw[88:96] = read_image.digest(bytes(raw[:88]))[:8]
    end = int.from_bytes(raw[-96:-88], "big")
    raw[-80:-48] = read_image.digest(bytes(raw[:96] + raw[end:-96]))
    raw[200] ^= 1
    other = pool.path / "containers" / "00" / bytes(16).hex()
    other.parent.mkdir()
    other.write_bytes(raw)
    result = run("verify", pool.path, pool.name)
    assert result.status == 0, result.err
    assert "damaged" in result.err


def test_what_the_system_refuses_for_one_file_does_not_end_the_restore(tmp_path: Path) -> None:
    """An owner beyond 32 bits, and a name that is too long for a file system."""
    records = [
        record(1, b"/a", uid=2**40, size=26, extents=[[SMALL, 0, 26]]),
        record(1, b"/" + b"n" * 300),
        record(1, b"/z", size=200_000, extents=[[segment_name(RANDOM_SEGMENT), 0, 200_000]]),
        record(1, b"/zz", size=1, extents=[[SMALL, 0, 1]]),
    ]
    pool = PoolBuilder(tmp_path / "pool", encrypted=False, records=records)
    result = run("restore", pool.path, pool.name, "--to", tmp_path / "new")
    assert result.status == 1
    assert "File name too long" in result.err
    assert (tmp_path / "new" / "a").read_bytes() == b"hello worldstart of bigtwo"
    assert (tmp_path / "new" / "zz").read_bytes() == b"h"
    assert f"restored 4 files of {pool.name}, {2 if os.geteuid() == 0 else 1} problems" in result.err


@pytest.mark.parametrize("folder", ["images", "containers/01", "containers/02", "envelopes"])
def test_a_file_that_is_cut_off_or_missing_is_refused(pool: PoolBuilder, folder: str) -> None:
    paths = [p for p in (pool.path / folder).rglob("*") if p.is_file()]
    for path in paths:
        path.write_bytes(path.read_bytes()[:-1])
    assert run("verify", pool.path, pool.name).status == 1
    for path in paths:
        path.unlink()
    assert run("verify", pool.path, pool.name).status == 1


def test_a_tombstone_counts(tmp_path: Path) -> None:
    image = PoolBuilder(tmp_path / "first").image
    tombstone: Value = {"kind": "tombstone", "image": image, "copy": 1, "at": 1, "until": None}
    assert isinstance(tombstone, dict)
    tombstone |= {"hold": None, "object": None, "reason": ""}
    pool = PoolBuilder(tmp_path / "pool", journal=[tombstone])
    assert "tombstone" in run("list", pool.path).out
    assert run("verify", pool.path, pool.name).status == 1


def test_a_revoked_certificate_needs_a_decision(tmp_path: Path) -> None:
    pool = PoolBuilder(tmp_path / "pool", revoked=[{"certificate": 1, "since": 1, "reason": "lost"}])
    assert "revoked" in run("list", pool.path).err
    assert run("verify", pool.path, pool.name).status == 1
    assert run("verify", pool.path, pool.name, "--allow-revoked").status == 0


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ({"features": ["later"]}, "newer"),
        ({"cipher": 2}, "newer"),
        ({"encrypted": False}, "damaged"),
        ({"tags": []}, "damaged"),
        ({"medium": b"N" * 16}, "damaged"),
        ({"fragment": 2}, "damaged"),
        ({"journal_medium": b"N" * 16}, "damaged"),
        ({"copy": 2}, "damaged"),
        ({"key_pages": []}, "incomplete"),
        ({"entries": {}}, "damaged"),
        ({"copy": 2**63 - 1}, "damaged"),
        ({"copy": True}, "damaged"),
    ],
)
def test_a_copy_header_that_breaks_a_rule_is_refused(tmp_path: Path, change: dict[str, Value], outcome: str) -> None:
    pool = PoolBuilder(tmp_path / "pool", change=change)
    result = run("verify", pool.path, pool.name)
    assert result.status == 1
    assert outcome in result.err


@pytest.mark.parametrize(
    ("reason", "records"),
    [
        ("part that is empty", [record(1, b"/../x")]),
        ("part that is empty", [record(1, b"/a/../x")]),
        ("not absolute", [record(1, b"x")]),
        ("part that is empty", [record(1, b"/a//b")]),
        ("part that is empty", [record(1, b"/a/")]),
        ("zero byte", [record(1, b"/a\0")]),
        ("order of a walk", [record(1, b"/b"), record(1, b"/a")]),
        ("order of a walk", [record(1, b"/a-b"), record(2, b"/a"), record(1, b"/a/b")]),
        ("order of a walk", [record(1, b"/a"), record(1, b"/a")]),
        ("no earlier file", [record(4, b"/a", target=b"/b"), record(1, b"/b")]),
        ("no earlier file", [record(2, b"/a"), record(4, b"/b", target=b"/a")]),
        ("target where", [record(1, b"/a", target=b"/b")]),
        ("add up", [record(1, b"/a", size=5)]),
        ("add up", [record(1, b"/a", size=4, extents=[[None, 0, 5]])]),
        ("hole with an offset", [record(1, b"/a", size=5, extents=[[None, 1, 5]])]),
        ("not a number in its range", [record(1, b"/a", size=0, extents=[[None, 0, 0]])]),
        ("beyond its segment", [record(1, b"/a", size=3, extents=[[SMALL, 24, 3]])]),
        ("not the next reference", [record(1, b"/a", size=3, extents=[[b"x" * 32, 0, 3]])]),
        ("extents that follow", [record(1, b"/a", flags=4)]),
        ("extents that follow", [record(1, b"/a"), [64, []]]),
        ("attributes that follow", [record(1, b"/a"), [65, []]]),
        ("not ascending", [record(1, b"/a", attributes=[[b"b", b""], [b"a", b""]])]),
        ("mode", [record(1, b"/a", mode=0o10000)]),
        ("newer", [record(9, b"/a")]),
        ("newer", [[66, 1]]),
        ("too short", [record(1, b"/a")[:17]]),
        ("that no file uses", [record(1, b"/a")]),
        ("Not a directory", [record(3, b"/a", target=b"/tmp"), record(1, b"/a/b", size=3, extents=[[SMALL, 0, 3]])]),
    ],
)
def test_entries_that_break_a_rule_are_refused(tmp_path: Path, reason: str, records: list[list[Value]]) -> None:
    pool = PoolBuilder(tmp_path / "pool", encrypted=False, records=records)
    result = run("restore", pool.path, pool.name, "--to", tmp_path / "new")
    assert result.status == 1
    assert reason in result.err.replace("Too many levels of symbolic links", "Not a directory")
    assert not (tmp_path / "x").exists()
    assert not Path("/tmp/b").exists()  # noqa: S108 - where a link of the image points
