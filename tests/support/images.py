"""Domains that sign, and the headers of images that they write; all of it real."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from strongroom.core.ids import DomainId, ImageId, KeyTag, MediumId
from strongroom.core.secret import Secret
from strongroom.formats import copy_header, fragment, signed
from strongroom.formats.algorithms import digest
from strongroom.formats.copy_header import COPY_HEADER, CopyHeader
from strongroom.formats.fragment import Fragment
from strongroom.formats.hop import HOP, Hop
from strongroom.formats.identity import ArchiveSigner, RootKeySigner
from strongroom.formats.image_header import IMAGE_HEADER, ImageHeader, Stream, header_digest, image_id_of
from strongroom.formats.journal import BATCH, Batch
from strongroom.formats.receipt import RECEIPT, Receipt
from strongroom.formats.signed import Verified
from strongroom.formats.trailer import TRAILER, Trailer

NS = 1_000_000_000
T0 = 1_767_225_600 * NS  # 2026-01-01


def fixed(name: str, length: int = 32) -> bytes:
    """Bytes that look random and are always the same."""
    return hashlib.shake_128(name.encode()).digest(length)


class FixedEntropy:
    """Never gives the same bytes twice, and gives the same ones in each run."""

    def __init__(self, name: str = "") -> None:
        self._name, self._calls = name, 0

    def bytes(self, count: int) -> bytes:
        self._calls += 1
        return fixed(f"{self._name}{self._calls}", count)


@dataclass(frozen=True)
class Domain:
    """A domain with a root key and an archive key made from its name."""

    name: str
    signer: ArchiveSigner = field(init=False)

    def __post_init__(self) -> None:
        root = RootKeySigner(Secret(fixed(f"{self.name} root")))
        seed = Secret(fixed(f"{self.name} archive"))
        public = RootKeySigner(seed).public_key  # of any Ed25519 seed
        object.__setattr__(self, "signer", ArchiveSigner(seed, root.certify(public, number=1, issued=T0)))

    @property
    def id(self) -> DomainId:
        return self.signer.domain

    @property
    def pool(self) -> MediumId:
        return MediumId(fixed(f"{self.name} pool", 16))

    def image(self, name: str = "image", *, encrypted: bool = True, **changes: Any) -> Verified[ImageHeader]:
        salt = fixed(f"salt of {name}", 16)
        values: dict[str, Any] = {
            "domain": self.id,
            "image": image_id_of(self.id, salt),
            "salt": salt,
            "backup_id": f"files1_{name}",
            "client": "files1.example",
            "client_host": fixed("host", 16),
            "policy": "homes",
            "schedule": "nightly",
            "kind": "full",
            "started": T0,
            "ended": T0 + 60 * NS,
            "slp": "gold",
            "slp_version": 1,
            "data_class": "",
            "retention": 3600,
            "key_group": fixed("group", 16) if encrypted else bytes(16),
            "cipher": int(encrypted),
            "digest": 1,
            "entries": _stream(f"{name} entries"),
            "payload": _stream(f"{name} payload"),
            "files": 7,
            "content": 1_000,
            "problems": 0,
            "features": (),
        }
        data = signed.sign(IMAGE_HEADER, ImageHeader(**(values | changes)), self.signer)
        return signed.verify(IMAGE_HEADER, data)

    def copy(
        self, image: Verified[ImageHeader], *, number: int = 1, tags: Sequence[KeyTag] = (), **changes: Any
    ) -> Fragment:
        """A pool copy: the whole of it is one fragment."""
        header = self._header(image, number, tags, changes)
        return fragment.verify(fragment.encode(signed.sign(COPY_HEADER, header, self.signer), self.signer))

    def tape_copy(
        self, image: Verified[ImageHeader], count: int, *, tags: Sequence[KeyTag] = (), **changes: Any
    ) -> list[Fragment]:
        """A copy on as many tapes as it has fragments."""
        made: list[Fragment] = []
        tapes = [MediumId(fixed(f"{self.name} tape {number}", 16)) for number in range(1, count + 1)]
        previous = bytes(32)
        for number, tape in enumerate(tapes, start=1):
            own = {
                "fragment": number,
                "medium": tape,
                "earlier": tuple(tapes[: number - 1]),
                "previous": previous,
                "key_pages": (),
            }
            header = self._header(image, 1, tags, own | changes)
            checked = copy_header.verify(signed.sign(COPY_HEADER, header, self.signer))
            end = Trailer(
                domain=self.id,
                medium=tape,
                image=image.payload.image,
                copy=header.copy,
                fragment=number,
                copy_header=digest(checked.copy.data),
                bytes=100,
                digest=fixed(f"data {number}"),
                files=3,
                last=number == count,
                features=(),
            )
            trailer = signed.verify(TRAILER, signed.sign(TRAILER, end, self.signer))
            previous = digest(trailer.data)
            made.append(Fragment(checked.copy, checked.image, checked.hops, trailer))
        return made

    def hop(
        self, image: Verified[ImageHeader], to: Domain, *, slp: str = "from-origin", retention: int | None = None
    ) -> Verified[Hop]:
        said = Hop(
            domain=self.id,
            to=to.id,
            image=image.payload.image,
            origin=image.signer,
            header=header_digest(image.data),
            sending=fixed(f"{self.name} {to.name} {image.payload.backup_id}", 16),
            slp=slp,
            retention=retention,
            at=T0,
            previous=bytes(32),
            features=(),
        )
        return signed.verify(HOP, signed.sign(HOP, said, self.signer))

    def receipt(self, hop: Verified[Hop], **changes: Any) -> Verified[Receipt]:
        values: dict[str, Any] = {
            "domain": self.id,
            "receipt": fixed("receipt", 16),
            "source": hop.payload.domain,
            "sending": hop.payload.sending,
            "origin": hop.payload.origin,
            "image": hop.payload.image,
            "header": hop.payload.header,
            "medium": self.pool,
            "copy": 1,
            "slp": hop.payload.slp,
            "received": T0 + 100 * NS,
            "expires": None,
            "state": "sealed",
            "tags": (),
            "features": (),
        }
        return signed.verify(RECEIPT, signed.sign(RECEIPT, Receipt(**(values | changes)), self.signer))

    def sign_batch(self, batch: Batch) -> bytes:
        return signed.sign(BATCH, batch, self.signer)

    def _header(
        self, image: Verified[ImageHeader], number: int, tags: Sequence[KeyTag], changes: dict[str, Any]
    ) -> CopyHeader:
        values: dict[str, Any] = {
            "domain": self.id,
            "medium": self.pool,
            "image": image.payload.image,
            "copy": number,
            "fragment": 1,
            "written": T0 + 61 * NS,
            "expires": T0 + 3600 * NS,
            "encrypted": bool(image.payload.cipher),
            "cipher": image.payload.cipher,
            "incarnation": 1,
            "slp": "gold",
            "slp_version": 1,
            "from_copy": 0,
            "tags": tuple(sorted(tags)) if tags or not image.payload.cipher else (fixed("tag"),),
            "key_pages": (fixed("key page"),) if image.payload.cipher else (),
            "entries": None,
            "payload": None,
            "journal": 0,
            "journal_medium": self.pool,
            "previous": bytes(32),
            "earlier": (),
            "hops": (),
            "header": image.data,
            "features": (),
        }
        return CopyHeader(**(values | changes))


def image_id(image: Verified[ImageHeader]) -> ImageId:
    return ImageId(image.payload.image)


def _stream(name: str) -> Stream:
    return Stream(root=fixed(name), segments=3, bytes=1_000, chunker=(1, 1, 2, 3))


ORIGIN, TARGET, OTHER = Domain("origin"), Domain("target"), Domain("other")
TAG, SECOND_TAG = KeyTag(fixed("tag")), KeyTag(fixed("second tag"))
