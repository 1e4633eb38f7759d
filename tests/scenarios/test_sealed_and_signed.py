"""R11, I1, I6, R8: a target learns nothing of what it keeps, finds it again without a key, and believes no lie."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from strongroom.core.ids import DomainId, KeyTag, to_text
from strongroom.database import transact
from strongroom.formats import signed
from strongroom.formats.key_file import Purpose
from strongroom.formats.key_file import decode as read_key_file
from strongroom.formats.peer_messages import ImageReceipt
from strongroom.formats.receipt import RECEIPT, Receipt
from strongroom.jobs import NewJob
from strongroom.services.primary import service_keys
from strongroom.services.primary.image_work import IMPORT
from strongroom.services.primary.peers import peer_handlers
from strongroom.trust.exchange import Exchange
from tests.support import trusting
from tests.support.live_domain import LiveDomain
from tests.support.trees import rsync_differences
from tests.support.trusting import Pair, files_of, key_of, opened, rows, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

RUN_BYTES = 16


class Sealed:
    """A tree that was replicated: what in it must not be known at the target."""

    def __init__(self, pair: Pair, folder: Path) -> None:
        self.tree = folder / f"folder-{secrets.token_hex(12)}"
        self.tree.mkdir(parents=True)
        self.names = [self.tree.name]
        self.contents: list[bytes] = []
        for number in range(6):
            self.names.append(f"name-{secrets.token_hex(12)}.txt")
            text = b"".join(b"line %d: %s\n" % (n, secrets.token_hex(20).encode()) for n in range(80))
            self.contents.append(os.urandom(6000) if number % 2 else text)
            (self.tree / self.names[-1]).write_bytes(self.contents[-1])
        self.image = pair.send(self.tree)


@pytest.fixture(scope="module")
def sealed(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Sealed:
    return Sealed(pair, tmp_path_factory.mktemp("tree"))


def runs(contents: bytes) -> set[bytes]:
    return {contents[start : start + RUN_BYTES] for start in range(len(contents) - RUN_BYTES + 1)}


def source_keys(pair: Pair) -> dict[str, bytes]:
    """Keys of the source: what its KMS wraps with, what its key folder has, what it signs with."""
    folder = pair.source.home.keys
    purposes: tuple[Purpose, ...] = ("hmk", "kpk", "service")
    keys: dict[str, bytes] = {one: read_key_file((folder / one).read_bytes(), one).key.reveal() for one in purposes}
    keys["phrase"] = trusting.PHRASE.encode()
    with opened(pair.source) as primary:
        keys["KMS key"] = primary.kms.ring.decrypting_key(KeyTag(bytes.fromhex(pair.tag))).reveal()
        keys["archive key"] = primary.keys.get(service_keys.ARCHIVE).reveal()
    return keys


def test_nothing_of_the_contents_is_at_the_target(pair: Pair, sealed: Sealed) -> None:
    """R11: no name, no 16 bytes in a row of the contents, no key, while it runs and holds the image."""
    wanted = set().union(*(runs(contents) for contents in sealed.contents))
    words = [name.encode() for name in sealed.names]
    words += [name.encode("utf-16-le") for name in sealed.names]
    keys = source_keys(pair)
    seen = {path.name for path, _ in files_of(pair.target)}
    assert {"catalog.db-wal", "media.log", "keystore", "medium"} <= seen
    sizes = 0
    for path, data in files_of(pair.target):
        sizes += len(data)
        for word in words:
            assert word not in data, f"a name is in {path}"
        for name, key in keys.items():
            assert key not in data, f"the source's {name} is in {path}"
            assert key.hex().encode() not in data, f"the source's {name} is in {path}"
        found = wanted.intersection(runs(data))
        assert not found, f"contents are in {path}"
    assert sizes > sum(map(len, sealed.contents))
    assert pair.target.cli("kms", "key", "list") == []
    # what may be known there is, so that the search above did look at it
    assert any(bytes.fromhex(pair.tag) in data for _, data in files_of(pair.target))


# ---------------------------------------------------------------- phase one


def forget_images(domain: LiveDomain) -> None:
    """Take everything about images out of a catalog, as if it were a new one of this domain."""
    tables = ("promises", "copy_leases", "copy_key_pages", "copy_tags", "fragments", "file_lists", "copies",
              "copy_facts", "copy_holds", "receiving_sessions", "image_lifecycles", "images", "jobs")  # fmt: skip
    with trusting.changing(domain) as connection:
        for table in tables:
            connection.execute(f"DELETE FROM {table}")  # noqa: S608 - the names are above


def facts(domain: LiveDomain) -> list[tuple[Any, ...]]:
    query = (
        "SELECT c.image, i.backup_id, c.number, c.state, c.readability, c.expires_ns, c.encrypted, c.slp, c.came_by,"
        " (SELECT group_concat(hex(tag)) FROM copy_tags t WHERE t.copy_id = c.id), i.header"
        " FROM copies c JOIN images i ON i.image = c.image ORDER BY c.image, c.number"
    )
    return rows(domain, query)


def phase_one(domain: LiveDomain, pool: str = "main") -> dict[str, Any]:
    """Run phase one of a pool; give what it found, and what its job's log says."""
    done = trusting.run(domain, "import", "phase1", pool, "--wait")
    assert done.exit_code == (10 if done.value["result"]["refused"] else 0), done
    (number,) = rows(domain, "SELECT max(id) FROM jobs WHERE kind = 'phase-one'")[0]
    return dict(domain.cli("job", "show", str(number)))


def medium_of(domain: LiveDomain, pool: str) -> str:
    ((medium,),) = rows(domain, "SELECT medium FROM media WHERE label = ?", pool)
    return to_text(medium)


def fragment_of(domain: LiveDomain, image: str) -> Path:
    (path,) = (domain.home.pool("main") / "images").glob(f"*/{image.replace('-', '')}-*")
    return path


def test_phase_one_asks_no_key_and_no_source(pair: Pair, sealed: Sealed, tmp_path: Path) -> None:
    """I1: the keystore is away and the source is gone; the headers in the pool say it all."""
    target = pair.target
    until(lambda: rows(target, "SELECT 1 FROM copies WHERE state = 'complete'"), "nothing is there")
    before = facts(target)
    pair.source.stop()
    target.stop()
    forget_images(target)
    keystore, away = target.home.keystore, tmp_path / "keystore"
    keystore.rename(away)
    target.start()
    assert target.cli("image", "list") == []
    job = phase_one(target)
    assert job["result"] == {"images": len(before), "refused": 0}
    (there,) = [row for row in target.cli("image", "list") if row["image"] == sealed.image]
    assert there["key_tags"] == [pair.tag]
    assert not keystore.exists()
    target.stop("primary")
    away.rename(keystore)
    target.start("primary")
    until(lambda: facts(target) == before, "the catalog is another one than before")
    pair.source.start()


def test_a_changed_or_moved_header_is_named_and_the_others_come(pair: Pair, sealed: Sealed, tmp_path: Path) -> None:
    """I6: what was changed, cut, put elsewhere or made too long is refused by name; phase one goes on."""
    target = pair.target
    (tmp_path / "file").write_bytes(b"another image")
    whole = pair.send(tmp_path)
    victims = [pair.send(tmp_path) for _ in range(2)]
    target.stop()
    forget_images(target)
    changed, cut = (fragment_of(target, image) for image in victims)
    honest = {path: path.read_bytes() for path in (changed, cut)}
    data = bytearray(honest[changed])
    data[len(data) // 3] ^= 1
    changed.write_bytes(data)
    cut.write_bytes(honest[cut][:-7])
    good = fragment_of(target, whole)
    moved = good.with_name(good.name[:-4] + "0007")
    moved.write_bytes(good.read_bytes())
    long = good.with_name("f" * 32 + "-0001")
    with long.open("wb") as file:
        file.truncate(64 << 20)
    target.start()
    job = phase_one(target)
    listed = {row["image"] for row in target.cli("image", "list")}
    assert {whole, sealed.image} <= listed
    assert not set(victims) & listed
    assert job["result"]["refused"] == 4
    said = " ".join(line["message"] for line in job["log"])
    for path in (changed, cut, moved, long):
        assert path.name in said
    assert rows(target, "SELECT number FROM copies WHERE image = ?", key_of(whole)) == [(1,)]
    for path, contents in honest.items():
        path.write_bytes(contents)
    for path in (moved, long):
        path.unlink()
    assert phase_one(target)["result"]["refused"] == 0
    assert set(victims) <= {row["image"] for row in target.cli("image", "list")}


def test_a_fragment_belongs_to_its_pool_alone(pair: Pair, sealed: Sealed, tmp_path: Path) -> None:
    """I1, I6: one from another pool, of this domain or of another, is refused by name and by where it is of."""
    source, target = pair.source, pair.target
    target.cli("pool", "create", "second")
    second = target.home.pool("second")
    (tmp_path / "file").write_bytes(b"stays at home")
    local = str(source.cli("backup", str(tmp_path), "--slp", trusting.LOCAL)["image"])
    before = facts(target)
    moved = [fragment_of(target, sealed.image), fragment_of(source, local)]
    for path in moved:
        (second / "images" / path.parent.name).mkdir(exist_ok=True)  # two ids may begin alike
        shutil.copy2(path, second / "images" / path.parent.name)
    job = phase_one(target, "second")
    assert job["result"] == {"images": 0, "refused": len(moved)}
    said = [line for line in job["log"] if line["level"] == "error"]
    assert {line["facts"]["code"] for line in said} == {"format.foreign"}
    of_pool, of_domain = (next(line for line in said if path.name in line["message"]) for path in moved)
    assert medium_of(target, "main") in of_pool["message"]
    assert pair.id_of(source) in of_domain["message"]
    assert facts(target) == before
    told = trusting.refusal(target, "restore", local, "--to", str(tmp_path / "out"))
    assert told.code == "catalog.image-not-found"


def test_an_import_takes_no_other_fragment_than_its_own(pair: Pair, sealed: Sealed, tmp_path: Path) -> None:
    """I1, R8: what lies under an image's name and is of another is not confirmed in its place."""
    target = pair.target
    (tmp_path / "file").write_bytes(b"another image")
    other = pair.send(tmp_path)
    place = fragment_of(target, other)
    honest = place.read_bytes()
    place.write_bytes(fragment_of(target, sealed.image).read_bytes())
    with opened(target) as primary:
        params = {"image": other, "copy": 1, "medium": medium_of(target, "main")}
        job = transact(primary.engine, lambda c: primary.jobs.submit(c, NewJob(IMPORT, subject=other, params=params)))
    until(lambda: rows(target, "SELECT 1 FROM jobs WHERE id = ? AND state = 'failed'", job.id), "it was imported")
    assert target.cli("job", "show", str(job.id))["error"]["code"] == "format.foreign"
    place.write_bytes(honest)


# ---------------------------------------------------------------- receipts


def test_only_the_targets_receipt_for_this_sending_confirms(pair: Pair, tmp_path: Path) -> None:
    """R8: foreign, replayed and forged receipts change nothing; the right one still comes."""
    source, target = pair.source, pair.target
    (tmp_path / "file").write_bytes(b"to be confirmed")
    earlier = pair.send(tmp_path)
    target.kill("media")
    image = str(source.cli("backup", str(tmp_path), "--slp", trusting.SLP)["image"])
    hop = "SELECT sending FROM replications WHERE image = ? AND sending IS NOT NULL"
    ((sending,),) = until(lambda: rows(source, hop, key_of(image)), "nothing was tried")
    ((object_,),) = rows(source, "SELECT object FROM receipts WHERE image = ?", key_of(earlier))
    real = signed.verify(RECEIPT, object_).payload
    with opened(source) as ours, opened(target) as theirs:
        lies = {
            "replayed": object_,
            "signed by another domain": signed.sign(RECEIPT, _said(real, ours.domain, sending, image), ours.signer),
            "of another image": signed.sign(RECEIPT, _said(real, theirs.domain, sending, earlier), theirs.signer),
            "of an unknown sending": signed.sign(RECEIPT, _said(real, theirs.domain, bytes(16), image), theirs.signer),
            "changed": bytes(object_[:-1]) + bytes([object_[-1] ^ 1]),
        }
        exchange = Exchange(theirs.ours, theirs.clock, theirs.entropy, peer_handlers(theirs))
        to = DomainId(ours.domain)
        told = [
            transact(
                theirs.engine,
                lambda c, data=data: exchange.enqueue(c, to, "image.receipt", ImageReceipt(receipt=data)),  # type: ignore[misc]
            )
            for data in lies.values()
        ]
    handled = "SELECT count(*) FROM peer_handled WHERE id IN (?, ?, ?, ?, ?)"
    until(lambda: rows(source, handled, *told) == [(len(lies),)], "the lies do not arrive")
    assert not pair.confirmed(image)
    assert rows(source, "SELECT 1 FROM receipts WHERE image = ?", key_of(image)) == []
    assert rows(source, "SELECT count(*) FROM receipts WHERE image = ?", key_of(earlier)) == [(1,)]
    target.start("media")
    until(lambda: pair.confirmed(image), "no receipt")
    assert rows(source, "SELECT count(*) FROM receipts WHERE image = ?", key_of(image)) == [(1,)]


def _said(real: Receipt, domain: DomainId, sending: bytes, image: str) -> Receipt:
    return replace(real, domain=domain, sending=sending, image=key_of(image))


# ---------------------------------------------------------------- envelopes


def test_an_envelope_of_another_group_opens_nothing(pair: Pair, sealed: Sealed, tmp_path: Path) -> None:
    """I6, K: in place of the right one it is refused, in words; with the right one the tree comes back whole."""
    source, target = pair.source, pair.target
    if not rows(source, "SELECT 1 FROM slps WHERE name = 'letters'"):
        source.cli("kms", "group", "create", "letters")
        source.cli("kms", "key", "create", "two", "--group", "letters", "--source", "random", "--activate")
        policy = ("--retention", "30d", "--key-group", "letters", "--replicate-to", "beta:from-alpha")
        source.cli("slp", "create", "letters", "--backup", "main", *policy)
    folder = target.home.pool("main") / "envelopes"
    target.cli("kms", "group", "create", trusting.GROUP)
    target.cli("kms", "key", "recover", pair.tag, "--group", trusting.GROUP, "--name", "one",
               "--passphrase-file", str(pair.phrase))  # fmt: skip
    before = set(folder.glob("*/*"))
    (tmp_path / "letter").write_bytes(b"of another group")
    pair.send(tmp_path, "letters")
    foreign = sorted(set(folder.glob("*/*")) - before)[0]
    target.stop("media")
    honest = {path: path.read_bytes() for path in before}
    for path in before:
        path.write_bytes(foreign.read_bytes())
    target.start("media")
    readable = "SELECT 1 FROM copies WHERE image = ? AND readability = 'readable'"
    until(lambda: rows(target, readable, key_of(sealed.image)), "the key is not noticed")
    refused = trusting.refusal(target, "restore", sealed.image, "--to", str(tmp_path / "out"))
    assert (refused.exit_code, refused.code) == (3, "kms.data-key-missing"), refused
    out = tmp_path / "out"
    assert not [path for path in out.rglob("*") if path.is_file()] if out.exists() else True
    target.stop("media")
    for path, data in honest.items():
        path.write_bytes(data)
    target.start("media")
    target.cli("restore", sealed.image, "--to", str(tmp_path / "whole"))
    assert rsync_differences(sealed.tree, tmp_path / "whole" / str(sealed.tree).lstrip("/")) == ""
