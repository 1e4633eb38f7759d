"""C2, L5: a stream that lies or breaks off makes no image, and leaves no half of one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from strongroom.core.errors import KeyUnavailableError, StrongroomError
from strongroom.formats import entries, image_stream
from strongroom.formats.entries import Entry, Extent, MoreAttributes
from strongroom.formats.errors import DamagedError
from strongroom.formats.fragment import Fragment
from strongroom.formats.image_stream import Known
from strongroom.images.errors import BadStreamError, NotSameError
from strongroom.images.extents import ExtentQueue
from strongroom.images.restore import restore_stream
from strongroom.pool.containers import list_containers
from strongroom.pool.incoming import INCOMING
from tests.support.vault import Vault, random_bytes


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Vault:
    return Vault(tmp_path_factory.mktemp("vault"))


@pytest.fixture(scope="module")
def previous(vault: Vault) -> Fragment:
    chunks = stream(data(b"first"), record(b"/a", 5), data(b"second"), record(b"/b", 6), files=2, content=11)
    return vault.store(chunks, name="previous")[0]


def entry(path: bytes, size: int = 0, kind: int = entries.REGULAR, flags: int = 0) -> Entry:
    return Entry(kind, path, 0o644, 0, 0, b"", b"", 1, 1, 1, 1, size, None, flags)


def record(path: bytes, size: int = 0, kind: int = entries.REGULAR, flags: int = 0) -> bytes:
    return block(image_stream.ENTRIES, entries.encode(entry(path, size, kind, flags)))


def same(number: int, count: int = 1) -> bytes:
    return image_stream.same([(number, count)])


def data(contents: bytes) -> bytes:
    return block(image_stream.DATA, contents)


def block(kind: int, body: bytes) -> bytes:
    return image_stream.head(kind, len(body)) + body


def stream(*blocks: bytes, files: int, content: int, problems: int = 0) -> list[bytes]:
    return [image_stream.MAGIC, *blocks, image_stream.end(files, content, problems)]


def with_attributes(*more: MoreAttributes) -> bytes:
    first = entries.encode(entry(b"/a", flags=entries.ATTRIBUTES_FOLLOW))
    return block(image_stream.ENTRIES, first + b"".join(entries.encode(one) for one in more))


BAD = {
    "record before its contents": stream(record(b"/a", 3), data(b"abc"), files=1, content=3),
    "contents of no file": stream(data(b"abc"), record(b"/a", 2), files=1, content=2),
    "out of order": stream(record(b"/b"), record(b"/a"), files=2, content=0),
    "twice": stream(record(b"/a"), record(b"/a"), files=2, content=0),
    "too few files": stream(record(b"/a"), files=2, content=0),
    "other sum": stream(data(b"abc"), record(b"/a", 3), files=1, content=4),
    "other problems": stream(record(b"/a"), files=1, content=0, problems=1),
    "extents of the client's": stream(
        block(image_stream.ENTRIES, entries.encode(Entry(1, b"/a", 0, 0, 0, b"", b"", 1, 1, 1, 1, 3, None, 4))),
        files=1,
        content=3,
    ),
    "announced attributes missing": stream(with_attributes(), record(b"/b"), files=2, content=0),
    "attributes of no file": stream(
        block(image_stream.ENTRIES, entries.encode(MoreAttributes([(b"a", b"")]))), files=0, content=0
    ),
    "attributes behind a cut": stream(
        with_attributes(),
        image_stream.cut(),
        block(2, entries.encode(MoreAttributes([(b"a", b"")]))),
        files=1,
        content=0,
    ),
    "more than an image can hold": stream(
        image_stream.hole((1 << 63) - 1), image_stream.hole(1), record(b"/a", (1 << 63) - 1), files=1, content=1
    ),
    "cut in a block": [image_stream.MAGIC, data(b"abc"), b"\x02\0\0"],
    "no end": stream(data(b"abc"), record(b"/a", 3), files=1, content=3)[:-1],
    "something behind the end": [*stream(files=0, content=0), b"\0"],
    "no stream": [b"GET / HTTP/1.1\r\n"],
    "same without a previous image": stream(same(0), files=1, content=5),
}


@pytest.mark.parametrize("chunks", BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("sizes", ["as they come", "byte by byte"])
def test_a_stream_against_the_page_is_refused(vault: Vault, chunks: list[bytes], sizes: str) -> None:
    if sizes == "byte by byte":
        chunks = [bytes([byte]) for chunk in chunks for byte in chunk]
    with pytest.raises(StrongroomError) as caught:
        vault.store(chunks)
    assert isinstance(caught.value, BadStreamError | NotSameError | DamagedError)


LIES: dict[str, Callable[[], list[bytes]]] = {
    "out of order": lambda: stream(record(b"/b"), same(0), files=2, content=5),
    "before what follows": lambda: stream(same(1), record(b"/a"), files=2, content=6),
    "another size": lambda: stream(same(0), files=1, content=4),
    "no such number": lambda: stream(same(2), files=1, content=5),
    "more than there are": lambda: stream(same(0, 3), files=3, content=11),
    "numbers that fall": lambda: stream(same(1), same(0), files=2, content=11),
    "the same number twice": lambda: stream(same(0), same(0), files=2, content=10),
    "contents that belong behind it": lambda: stream(data(b"xyz"), same(0), record(b"/b", 3), files=2, content=8),
    "what is known": lambda: stream(image_stream.known([Known.of(entry(b"/a"))]), files=0, content=0),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_a_wrong_same_is_refused(vault: Vault, previous: Fragment, lie: Callable[[], list[bytes]]) -> None:
    with pytest.raises((NotSameError, BadStreamError, DamagedError)):
        vault.store(lie(), previous=previous)


def test_a_right_same_is_taken(vault: Vault, previous: Fragment) -> None:
    chunks = stream(same(0), data(b"other"), record(b"/ab", 5), same(1), files=3, content=16)
    image, result = vault.store(chunks, name="right", previous=previous)
    with vault.reading(image) as stored:
        contents = b"".join(
            bytes(one)
            for one in image_stream.read_blocks(restore_stream(stored))
            if isinstance(one, bytes | memoryview)
        )
    assert contents == b"firstothersecond"
    assert (result.read_bytes, result.same_bytes) == (5, 11)


def test_what_a_client_may_not_refer_to_any_more_is_refused(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    old, _ = vault.store(stream(data(b"first"), record(b"/a", 5), files=1, content=5), name="old")
    first = vault.key.tag
    vault.kms.keys.deactivate(first)
    vault.rotate("second")
    vault.store(stream(same(0), files=1, content=5), name="inactive is good", previous=old)
    vault.kms.keys.deprecate(first)
    with pytest.raises((NotSameError, KeyUnavailableError)):
        vault.store(stream(same(0), files=1, content=5), name="deprecated is not", previous=old)


def test_a_frame_that_is_gone_is_not_referred_to(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    old, _ = vault.store(stream(data(b"first"), record(b"/a", 5), files=1, content=5), name="old")
    with vault.reading(old) as stored:
        (reference,) = stored.payload_references()
        list(stored.records())  # the entries lie in another frame of the container, read before it goes
        place = vault.pool.index.locate([reference.frame_id], vault.id)[reference.frame_id][0]
        session = vault.session(previous=stored)
        with session:
            session.feed(b"".join(stream(same(0), files=1, content=5)))
            vault.pool.index.remove(place.container)
            with pytest.raises(NotSameError):
                session.finish()


def test_what_is_given_up_leaves_nothing_in_the_pool(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    vault.naming_key()
    with vault.session() as session:
        session.feed(image_stream.MAGIC)
        for number in range(20):
            session.feed(data(random_bytes(str(number), 1 << 20)))
    assert list(list_containers(vault.pool.folder)) == []
    assert list((vault.path / INCOMING).iterdir()) == []
    assert list(vault.pool.fragments.names()) == []


def test_no_usable_key_means_no_backup(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    vault.naming_key()
    session = vault.session()
    vault.kms.keys.deactivate(vault.key.tag)
    with session:
        session.feed(b"".join(stream(data(b"secret"), record(b"/a", 6), files=1, content=6)))
        with pytest.raises(KeyUnavailableError):
            session.finish()
    assert list(list_containers(vault.pool.folder)) == []


def test_extents_wait_on_disk_and_come_back_in_order(tmp_path: Path) -> None:
    queue = ExtentQueue(tmp_path)
    for number in range(50_000):
        queue.push((None if number % 7 == 0 else number.to_bytes(32, "big"), 0, 10))
    taken: list[Extent] = []
    while queue:
        most = 4 if len(taken) % 3 == 0 else 100
        extent = queue.take(most)
        assert extent is not None
        taken.append(extent)
        if len(taken) == 5_000:
            queue.push((b"z" * 32, 3, 4))
    assert sum(length for _, _, length in taken) == 500_004
    assert taken[-1] == (b"z" * 32, 3, 4)
    named = [name for name, _, _ in taken[:-1] if name is not None]
    assert named == sorted(named)
    assert queue.take(1) is None
    queue.close()
