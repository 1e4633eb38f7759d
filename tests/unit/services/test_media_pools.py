"""P1: making a pool can be tried again after it was cut short."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from strongroom.core.secret import Secret
from strongroom.formats import signed
from strongroom.formats.identity import REVOCATION_LIST, ArchiveSigner, RevocationList, RootKeySigner
from strongroom.formats.media_header import MEDIA_HEADER, MediaHeader
from strongroom.pool.folder import Folder
from strongroom.services.media.errors import OtherPoolError
from strongroom.services.media.pools import Pools
from strongroom.services.media.primary import PrimaryClient
from strongroom.settings.system import SystemClock, SystemEntropy

ROOT = RootKeySigner(Secret(b"r" * 32))
ARCHIVE = Secret(b"a" * 32)
SIGNER = ArchiveSigner(ARCHIVE, ROOT.certify(RootKeySigner(ARCHIVE).public_key, number=1, issued=1))
REVOKED = signed.sign(REVOCATION_LIST, RevocationList(domain=ROOT.domain, number=1, issued=1, revoked=()), ROOT)


def header(number: int, label: str = "main") -> bytes:
    medium = bytes([number]) * 16
    said = MediaHeader(domain=ROOT.domain, medium=medium, kind="pool", label=label, created=1, features=())
    return signed.sign(MEDIA_HEADER, said, SIGNER)


class Nobody(PrimaryClient):
    """A primary that is not there: a folder needs no access key, and has no log."""

    def __init__(self) -> None:
        pass


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[], Pools]]:
    with ExitStack() as opened:

        def pools() -> Pools:
            made = Pools(ROOT.domain, tmp_path / "work", Nobody(), SystemClock(), SystemEntropy())
            opened.callback(made.close)
            return made

        yield pools


def test_a_pool_that_was_made_and_never_entered_is_taken_by_the_next_attempt(
    make: Callable[[], Pools], tmp_path: Path
) -> None:
    """The power went between the media server's work and the row in the catalog; the second attempt has a new id."""
    where = str(tmp_path / "main")
    first = make()
    first.make(where, header(1), REVOKED, None)
    first.close()
    assert make().make(where, header(2), REVOKED, None) == header(1)


@pytest.mark.parametrize("what", ["used", "of another name", "served"])
def test_a_pool_that_somebody_may_need_is_not_taken(make: Callable[[], Pools], tmp_path: Path, what: str) -> None:
    where = str(tmp_path / "main")
    first = make()
    first.make(where, header(1), REVOKED, None)
    if what == "used":
        Folder.open(tmp_path / "main", SystemEntropy()).put("containers/ab/ab", b"x")
    if what != "served":
        first.close()
        first = make()
    with pytest.raises(OtherPoolError):
        first.make(where, header(2, "other" if what == "of another name" else "main"), REVOKED, None)
