"""R11, P1: verification finds what is wrong with an image, with keys or without."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from strongroom.core.ids import EnvelopeId, PageId
from strongroom.formats import image_stream, key_page
from strongroom.formats.fragment import Fragment
from strongroom.images.stored_image import envelopes_of
from strongroom.images.verify import verify_image
from strongroom.pool import names
from strongroom.pool.series import PageSink
from tests.support.vault import Vault, random_bytes
from tests.unit.images.test_hostile_streams import data, record, stream


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path)


@pytest.fixture
def image(vault: Vault) -> Fragment:
    blocks = [data(random_bytes(name, 700_000)) + record(f"/{name}".encode(), 700_000) for name in "abc"]
    return vault.store(stream(*blocks, files=3, content=2_100_000))[0]


def problems(vault: Vault, image: Fragment, *, with_keys: bool) -> list[str]:
    return [problem.code for problem in verify_image(vault.pool, image, vault if with_keys else None)]


def damage(vault: Vault, offset: int) -> None:
    """Change one byte in every container of frames."""
    for path in (vault.path / "containers").rglob("*"):
        if path.is_file() and path.stat().st_size > 100_000:
            contents = bytearray(path.read_bytes())
            contents[offset] ^= 1
            path.chmod(0o600)
            path.write_bytes(contents)


@pytest.mark.parametrize("with_keys", [True, False])
def test_a_whole_image_has_no_problem(vault: Vault, image: Fragment, with_keys: bool) -> None:
    vault.opened.clear()
    assert problems(vault, image, with_keys=with_keys) == []
    assert bool(vault.opened) == with_keys


def test_a_changed_frame_is_found_without_a_key(vault: Vault, image: Fragment) -> None:
    damage(vault, 50_000)
    assert problems(vault, image, with_keys=False) == ["format.damaged"]


def test_key_pages_that_do_not_ascend_are_refused(vault: Vault) -> None:
    contents = data(random_bytes("a", 100_000)) + record(b"/a", 100_000)
    _, result = vault.store(stream(contents, files=1, content=100_000))
    sink = PageSink(
        vault.pool.store,
        vault.pool.index,
        medium=vault.medium,
        origin=vault.id,
        clock=vault.clock,
        entropy=vault.entropy,
    )
    behind = sink.put(key_page.encode([EnvelopeId(b"\xff" * 16)]))
    sink.finish()
    for pages, refused in (([*result.key_pages, behind], False), ([behind, *result.key_pages], True)):
        image = vault.commit(replace(result, key_pages=pages), name=f"refused {refused}")
        assert ("format.damaged" in problems(vault, image, with_keys=False)) == refused


def test_a_missing_envelope_is_found(vault: Vault, image: Fragment) -> None:
    (envelope,) = envelopes_of(vault.pool, image)
    vault.pool.store.remove(names.envelope_key(EnvelopeId(envelope), vault.id, 1))
    vault.pool.envelopes.refresh()
    assert "images.envelope-missing" in problems(vault, image, with_keys=False)


def test_a_missing_key_page_is_found(vault: Vault, image: Fragment) -> None:
    (page,) = image.copy.payload.key_pages
    vault.pool.index.remove(vault.pool.index.locate([PageId(page)], vault.id)[page][0].container)
    assert problems(vault, image, with_keys=False) == ["pool.page-missing"]


def test_an_empty_image_is_an_image(vault: Vault, tmp_path: Path) -> None:
    image, result = vault.store([image_stream.MAGIC, image_stream.end(0, 0, 0)], encrypted=False)
    assert (result.files, result.roots.payload.segments) == (0, 0)
    assert problems(vault, image, with_keys=True) == []
    totals, _ = vault.restore(image, tmp_path / "target")
    assert totals.files == 0
