from __future__ import annotations

from collections.abc import Callable

import pytest

from strongroom.core.secret import Secret
from strongroom.formats import key_file, root_key, signed
from strongroom.formats.errors import DamagedError, ForeignError, OutOfBoundsError, RevokedError, SignatureError
from strongroom.formats.hop import HOP, Hop
from strongroom.formats.identity import (
    REVOCATION_LIST,
    ArchiveSigner,
    Revocation,
    RevocationList,
    RootKeySigner,
    check_revocation,
)
from strongroom.formats.signed import ARCHIVE_CERTIFICATE
from tests.formats import samples as s

ROOT = RootKeySigner(Secret(s.ORIGIN.root_seed))
NEWEST = signed.verify(REVOCATION_LIST, s.REVOCATIONS).payload


def test_the_root_key_certifies_an_archive_key_that_then_signs() -> None:
    public = s.ORIGIN.signer().public_key
    certificate = ROOT.certify(public, number=1, issued=s.T0)
    assert certificate == s.ORIGIN.cert()
    signer = ArchiveSigner(Secret(s.ORIGIN.archive_seed()), certificate)
    assert signer.domain == ROOT.domain == s.ORIGIN.id
    assert signed.sign(HOP, Hop(**s.hop()), signer) == s.HOP


def test_an_archive_key_takes_only_its_own_certificate() -> None:
    with pytest.raises(ForeignError, match="another key"):
        ArchiveSigner(Secret(s.ORIGIN.archive_seed(1)), s.ORIGIN.cert(2))
    with pytest.raises(SignatureError):
        ArchiveSigner(Secret(s.ORIGIN.archive_seed(1)), s.ORIGIN.cert(1)[:-1] + b"\0")


def test_an_object_of_a_revoked_archive_key_does_not_count_by_itself() -> None:
    check_revocation(signed.verify(HOP, s.HOP), NEWEST)
    with pytest.raises(RevokedError) as caught:
        check_revocation(signed.verify(HOP, s.ORIGIN.signed(b"SRHOPR01", s.pack(s.hop()), number=2)), NEWEST)
    assert caught.value.context == {"archive_number": 2, "since": NEWEST.revoked[0].since}


def test_what_the_root_key_signed_is_not_touched_by_revocation() -> None:
    check_revocation(signed.verify(ARCHIVE_CERTIFICATE, s.ORIGIN.cert(2)), NEWEST)


def test_a_revocation_list_says_nothing_of_another_domain() -> None:
    with pytest.raises(ForeignError):
        check_revocation(signed.verify(signed.ARCHIVE_CERTIFICATE, s.TARGET.cert()), NEWEST)


def test_mistakes_of_the_signing_caller_are_not_signed() -> None:
    archive = s.ORIGIN.signer()
    with pytest.raises(ValueError, match="sort of key"):
        signed.sign(REVOCATION_LIST, NEWEST, archive)
    with pytest.raises(ValueError, match="sort of key"):
        signed.sign(HOP, Hop(**s.hop()), ROOT)
    with pytest.raises(ValueError, match="another domain"):
        signed.sign(HOP, Hop(**s.hop(domain=s.TARGET.id)), archive)


def test_what_a_reader_would_refuse_is_not_signed() -> None:
    long_reason = Revocation(certificate=1, since=0, reason="x" * 257)
    too_long = RevocationList(domain=ROOT.domain, number=1, issued=0, revoked=(long_reason,))
    with pytest.raises(OutOfBoundsError, match="revocation list"):
        signed.sign(REVOCATION_LIST, too_long, ROOT)
    with pytest.raises(OutOfBoundsError):
        ROOT.certify(b"short", number=1, issued=0)


@pytest.mark.parametrize(
    "read", [root_key.read_head, lambda data: signed.verify(ARCHIVE_CERTIFICATE, data), key_file.read_facts]
)
def test_a_bare_key_in_the_place_of_a_file_is_not_quoted(read: Callable[[bytes], object]) -> None:
    bare = b"hunter2-hunter2-hunter2-hunter2-"
    with pytest.raises(DamagedError) as refused:
        read(bare)
    assert "hunt" not in str(refused.value)
