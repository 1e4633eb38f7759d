"""P4: the reader that shares no code with the product reads the pools that the product makes, and both refuse alike."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from strongroom.core.errors import StrongroomError
from strongroom.core.ids import PageId
from strongroom.formats import entries, image_stream, manifest_page
from strongroom.formats.fragment import Fragment
from strongroom.images.backup import BackupResult
from strongroom.images.open_pool import OpenPool
from strongroom.images.verify import verify_image
from strongroom.pool.manifest import ManifestBuilder
from strongroom.pool.references import Reference
from strongroom.pool.series import PageSink
from tests.contrib.reader import Result, run
from tests.support.images import image_id
from tests.support.torture import differences, make_torture
from tests.support.trees import IS_ROOT, make_tree, nanoseconds, rsync_differences
from tests.support.vault import GROUP, Vault, random_bytes
from tests.unit.images.test_hostile_streams import data, entry, record, stream


@dataclass
class Domain:
    """A domain whose active key comes from a pass phrase, with the phrase in a file."""

    vault: Vault
    key: list[object]

    @classmethod
    def make(cls, folder: Path) -> Domain:
        vault = Vault(folder / "vault")
        made = vault.kms.keys.create_pass_phrase_key(GROUP, "second", active=True)
        phrase = folder / "phrase"
        phrase.write_bytes(b" \t" + made.phrase.reveal().replace(b" ", b"  ") + b"\n")
        return cls(vault, ["--key", made.key.tag.hex(), "--passphrase-file", phrase])

    def verify(self, image: Fragment) -> Result:
        return run("verify", self.vault.path, name_of(image), "--domain", self.vault.id.hex())

    def restore(self, image: Fragment, target: Path, *key: object) -> Result:
        return run("restore", self.vault.path, name_of(image), "--to", target, *key)


@pytest.fixture
def domain(tmp_path: Path) -> Domain:
    return Domain.make(tmp_path)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree").mkdir()
    return make_tree(tmp_path / "tree")


def name_of(image: Fragment) -> str:
    return f"{image_id(image.image).hex()}-{image.copy.payload.copy:04x}"


def assert_same(tree: Path, target: Path) -> None:
    restored = target / str(tree).lstrip("/")
    assert rsync_differences(tree, restored) == ""
    assert nanoseconds(tree) == nanoseconds(restored)


@pytest.mark.skipif(not IS_ROOT, reason="owners and trusted attributes need root")
@pytest.mark.parametrize("encrypted", [False, True])
def test_the_reader_restores_what_the_product_backed_up_p4(
    domain: Domain, tree: Path, tmp_path: Path, encrypted: bool
) -> None:
    image, backup, _ = domain.vault.back_up(tree, encrypted=encrypted)
    listed = run("list", domain.vault.path, "--domain", domain.vault.id.hex())
    assert (listed.status, listed.err.count("pinned domain")) == (0, 1)
    assert f"{name_of(image)}\n" in listed.out
    assert f"{backup.files} files, {backup.content} bytes" in listed.out
    assert ("not encrypted" in listed.out) != encrypted
    verified = domain.verify(image)
    assert verified.status == 0, verified.err
    restored = domain.restore(image, tmp_path / "target", *(domain.key if encrypted else []))
    assert restored.status == 0, restored.err
    assert f"restored {backup.files} files" in restored.err
    assert_same(tree, tmp_path / "target")
    # a hole is a hole
    sparse = tmp_path / "target" / str(tree).lstrip("/") / "sparse"
    assert sparse.stat().st_blocks * 512 < sparse.stat().st_size / 2


@pytest.mark.skipif(not IS_ROOT, reason="owners and trusted attributes need root")
def test_the_reader_restores_a_second_image_that_shares_with_the_first_p4(
    domain: Domain, tree: Path, tmp_path: Path
) -> None:
    first, _, _ = domain.vault.back_up(tree, name="first")
    (tree / "new").write_bytes(random_bytes("new", 300_000))
    (tree / "empty").unlink()
    second, backup, totals = domain.vault.back_up(tree, previous=first, name="second")
    assert backup.same_bytes == totals.same_bytes > 25 << 20
    assert domain.verify(second).status == 0
    assert domain.restore(second, tmp_path / "target", *domain.key).status == 0
    assert_same(tree, tmp_path / "target")


@pytest.mark.skipif(not IS_ROOT, reason="only root can make files of every kind")
def test_the_reader_restores_every_kind_of_file_p4(domain: Domain, tmp_path: Path) -> None:
    source, target, unpacked = tmp_path / "s", tmp_path / "target", tmp_path / "unpacked"
    make_torture(bytes(source), as_root=True)
    image, backup, _ = domain.vault.back_up(source)
    assert backup.problems == 0
    restored = domain.restore(image, target, *domain.key)
    assert restored.status == 0, restored.err
    assert differences(bytes(source), bytes(target / str(source)[1:])) == ""
    tar = run("restore", domain.vault.path, name_of(image), "--tar", tmp_path / "tar", *domain.key)
    assert tar.err.count("a socket, which a tar cannot hold") == 5
    unpacked.mkdir()
    words = ["--acls", "--xattrs", "--xattrs-include=*", "--numeric-owner"]
    subprocess.run(["tar", *words, "-xpf", tmp_path / "tar"], cwd=unpacked, check=True, capture_output=True)
    left = differences(bytes(source), bytes(unpacked / str(source)[1:])).splitlines()
    assert [line for line in left if "socket" not in line and "special/bound" not in line] == []


@pytest.mark.skipif(not IS_ROOT, reason="owners need root")
def test_the_reader_opens_the_keystore_of_the_product_p4(domain: Domain, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_bytes(b"contents")
    image, _, _ = domain.vault.back_up(tmp_path / "tree")
    keys = tmp_path / "vault" / "kms" / "origin.keys"
    words = ["--keystore", domain.vault.kms.keystore, "--hmk", keys / "hmk", "--kpk", keys / "kpk"]
    assert domain.restore(image, tmp_path / "target", *words).status == 0
    assert_same(tmp_path / "tree", tmp_path / "target")


@pytest.mark.parametrize("length", [0, 200])
def test_many_attributes_are_in_several_records_p4(domain: Domain, length: int) -> None:
    """1,500 of them: more than a record may have, once within and once beyond its bytes."""
    given = [(b"user.%04d" % number, bytes(length)) for number in range(1_500)]
    records = entries.encode_with_attributes(entry(b"/file"), given)
    chunks = stream(image_stream.head(image_stream.ENTRIES, len(records)) + records, files=1, content=0)
    image, _ = domain.vault.store(chunks, encrypted=False)
    verified = domain.verify(image)
    assert "1 files are described rightly" in verified.out, verified.err


def test_a_manifest_of_many_pages_is_read_p4(domain: Domain, tmp_path: Path) -> None:
    """Segments cut where large files begin: thousands of references, some of them to the same segments."""
    contents = {b"/f%04d" % number: b"contents %d" % (number % 1_200) for number in range(2_500)}
    blocks = [
        piece
        for path, body in contents.items()
        for piece in (image_stream.cut(), data(body), image_stream.cut(), record(path, len(body)))
    ]
    image, backup = domain.vault.store(stream(*blocks, files=len(contents), content=sum(map(len, contents.values()))))
    assert backup.roots.payload.segments == 2_500
    with domain.vault.reading(image) as stored:
        pages = stored.pages.page(PageId(backup.roots.payload.page))
    assert isinstance(manifest_page.decode(pages, backup.roots.payload.page), manifest_page.Interior)
    verified = domain.verify(image)
    assert verified.status == 0, verified.err
    (leaves,) = (int(line.split()[0]) for line in verified.out.splitlines() if "leaf pages" in line)
    assert leaves > 4
    assert domain.restore(image, tmp_path / "target", *domain.key).status == 0
    assert {path: (tmp_path / "target" / path[1:].decode()).read_bytes() for path in contents} == contents


# ---------------------------------------------------------------- damage


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Domain, Fragment]:
    domain = Domain.make(tmp_path_factory.mktemp("small"))
    blocks = [data(random_bytes(name, 100_000)) + record(f"/{name}".encode(), 100_000) for name in "abc"]
    image, _ = domain.vault.store(stream(*blocks, files=3, content=300_000))
    return domain, image


def product_refuses(vault: Vault, pool: Path, image: Fragment) -> bool:
    """Open a pool, read a fragment and verify its image, without a key."""
    try:
        opened = OpenPool.open(pool, vault.clock, vault.entropy)
        try:
            found = opened.fragments.read(image_id(image.image), 1)
            # A container whose footer is damaged is told of when the pool is opened; its items are found by scanning.
            return bool(opened.refreshed.problems) or any(True for _ in verify_image(opened, found, None))
        finally:
            opened.close()
    except StrongroomError:
        return True


def flips(path: Path) -> Iterator[int]:
    """Places to change: the ends, and some in between; the mark of a container needs a key to be looked at."""
    size = path.stat().st_size
    places = {0, 7, 8, 40, size // 3, size // 2, size - size // 4, size - 97, size - 96, size - 70, size - 10, size - 1}
    return (place for place in sorted(places) if 0 <= place < size)


@pytest.mark.parametrize("folder", ["medium", "images", "envelopes", "containers"])
def test_a_changed_byte_is_refused_by_both_p4(small: tuple[Domain, Fragment], tmp_path: Path, folder: str) -> None:
    domain, image = small
    for source in sorted([domain.vault.path / folder, *(domain.vault.path / folder).rglob("*")]):
        if not source.is_file() or is_naming(source, domain):
            continue
        for place in flips(source):
            pool = tmp_path / f"{source.name}-{place}"
            shutil.copytree(domain.vault.path, pool, ignore=shutil.ignore_patterns("index"))
            changed = pool / source.relative_to(domain.vault.path)
            contents = bytearray(changed.read_bytes())
            contents[place] ^= 0x20
            changed.chmod(0o600)
            changed.write_bytes(contents)
            by_reader = run("verify", pool, name_of(image)).status == 1
            by_product = product_refuses(domain.vault, pool, image)
            assert (by_reader, by_product) == (True, True), (folder, source.name, place, len(contents))
            shutil.rmtree(pool)


def is_naming(path: Path, domain: Domain) -> bool:
    """Whether this is the envelope of the naming key, which no reader needs."""
    names = domain.vault.pool.envelopes.naming(
        origin=domain.vault.id, group=domain.vault.group, medium=domain.vault.medium
    )
    return any(path.name.startswith(envelope.hex()) for envelope in names)


def test_an_unchanged_copy_of_the_pool_is_accepted_by_both(small: tuple[Domain, Fragment], tmp_path: Path) -> None:
    """What the test of changed bytes rests on."""
    domain, image = small
    pool = tmp_path / "pool"
    shutil.copytree(domain.vault.path, pool, ignore=shutil.ignore_patterns("index"))
    assert run("verify", pool, name_of(image)).status == 0
    assert not product_refuses(domain.vault, pool, image)


# ---------------------------------------------------------------- what a signed image may not say


Lie = Callable[[Vault, BackupResult, list[Reference]], BackupResult]


def with_payload(vault: Vault, result: BackupResult, references: list[Reference]) -> BackupResult:
    """Put another payload manifest in the place of an image's."""
    pool = vault.pool
    sink = PageSink(
        pool.store, pool.index, medium=vault.medium, origin=vault.id, clock=vault.clock, entropy=vault.entropy
    )
    builder = ManifestBuilder(sink.put, merge_repeats=False)
    builder.add(references)
    root = builder.finish()
    sink.finish()
    return replace(result, roots=replace(result.roots, payload=root))


LIES: dict[str, Lie] = {
    "segments behind the last extent": lambda vault, result, found: with_payload(vault, result, [*found, found[0]]),
    "a segment twice in a row": lambda vault, result, found: with_payload(vault, result, [found[0], *found]),
    "no segments": lambda vault, result, _: with_payload(vault, result, []),
    "more files": lambda _vault, result, _: replace(result, files=result.files + 1),
    "less content": lambda _vault, result, _: replace(result, content=result.content - 1),
}


@pytest.mark.parametrize("lie", [None, *LIES])
def test_an_image_whose_streams_do_not_fit_together_is_refused_by_both_p4(domain: Domain, lie: str | None) -> None:
    vault = domain.vault
    blocks = [data(random_bytes(name, 100_000)) + record(f"/{name}".encode(), 100_000) for name in "abc"]
    honest, result = vault.store(stream(*blocks, files=3, content=300_000), encrypted=False)
    with vault.reading(honest) as stored:
        references = list(stored.payload_references())
    if lie is not None:
        result = LIES[lie](vault, result, references)
    image = vault.commit(result, name="another", encrypted=False)
    by_reader = domain.verify(image)
    by_product = list(verify_image(vault.pool, image, None))
    assert (by_reader.status == 1, bool(by_product)) == (lie is not None, lie is not None), by_reader.err
