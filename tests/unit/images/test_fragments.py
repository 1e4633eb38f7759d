"""I1: what has a name among the fragments is what its name says."""

from __future__ import annotations

from pathlib import Path

import pytest

from strongroom.core.ids import ImageId
from strongroom.formats.errors import DamagedError, ForeignError
from strongroom.images.errors import NoSuchCopyError
from strongroom.pool import names
from strongroom.pool.errors import ObjectExistsError
from tests.support.images import OTHER, TAG
from tests.support.vault import Vault


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path)


def test_a_fragment_is_written_once_and_read_back(vault: Vault) -> None:
    made = vault.domain.copy(vault.domain.image(), tags=[TAG])
    image, data = ImageId(made.image.payload.image), made.copy.data + made.trailer.data
    fragments = vault.pool.fragments
    fragments.write(image, 1, data)
    fragments.write(image, 1, data)
    assert fragments.read(image, 1).copy.data == made.copy.data
    assert list(fragments.names()) == [names.image_key(image, 1)]
    assert list(fragments.names(after=names.image_key(image, 1))) == []
    other = vault.domain.copy(vault.domain.image(), tags=[TAG], expires=None)
    with pytest.raises(ObjectExistsError):
        fragments.write(image, 1, other.copy.data + other.trailer.data)


def test_a_fragment_of_another_place_is_refused(vault: Vault) -> None:
    made = vault.domain.copy(vault.domain.image(), tags=[TAG])
    image, data = ImageId(made.image.payload.image), made.copy.data + made.trailer.data
    with pytest.raises(ForeignError):
        vault.pool.fragments.write(image, 2, data)
    with pytest.raises(ForeignError):
        vault.pool.fragments.write(ImageId(bytes(16)), 1, data)
    foreign = OTHER.copy(OTHER.image(), tags=[TAG])
    with pytest.raises(ForeignError):
        vault.pool.fragments.write(ImageId(foreign.image.payload.image), 1, foreign.copy.data + foreign.trailer.data)
    with pytest.raises(DamagedError):
        vault.pool.fragments.write(image, 1, data[:-1])
    assert list(vault.pool.fragments.names()) == []


def test_a_copy_that_is_not_there_is_said_so(vault: Vault) -> None:
    with pytest.raises(NoSuchCopyError):
        vault.pool.fragments.read(ImageId(bytes(16)), 1)
