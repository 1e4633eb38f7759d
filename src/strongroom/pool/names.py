"""Keys of a pool's objects: which object has which name, on every kind of store.

Source: ``docs/reference/formats/pool-folder.md``. A key is text with ``/`` between its parts; a folder uses
it as path.
"""

from __future__ import annotations

from typing import Final

from strongroom.core.ids import UUID_BYTES, ContainerId, DomainId, EnvelopeId, ImageId

MEDIUM: Final = "medium"
CONTAINERS: Final = "containers/"
ENVELOPES: Final = "envelopes/"
IMAGES: Final = "images/"
JOURNAL: Final = "journal/"
REVOCATIONS: Final = "revocations/"

_SEQUENCE_DIGITS: Final = 16
_NUMBER_DIGITS: Final = 10


def container_key(container: ContainerId) -> str:
    """Give the key of a sealed container."""
    return f"{CONTAINERS}{container.hex()[:2]}/{container.hex()}"


def container_of(key: str) -> ContainerId | None:
    """Read a container's id from its key; ``None`` if the key is not one of :func:`container_key`."""
    name = key.rpartition("/")[2]
    try:
        container = ContainerId(bytes.fromhex(name))
    except ValueError:
        return None
    return container if len(container) == UUID_BYTES and container_key(container) == key else None


def envelope_key(envelope: EnvelopeId, domain: DomainId, generation: int) -> str:
    """Give the key of one generation of a key envelope, wrapped by the KMS of a domain."""
    return f"{ENVELOPES}{envelope.hex()[:2]}/{envelope.hex()}-{domain.hex()}-{generation:08x}"


def revocation_key(number: int) -> str:
    """Give the key of a revocation list of the owning domain."""
    return f"{REVOCATIONS}{number:0{_NUMBER_DIGITS}d}"


def image_key(image: ImageId, copy: int) -> str:
    """Give the key of an image's copy header and trailer."""
    return f"{IMAGES}{image.hex()[:2]}/{image.hex()}-{copy:04x}"


def image_of(key: str) -> tuple[ImageId, int]:
    """Read image and copy from a key of :func:`image_key`."""
    image, _, copy = key.rpartition("/")[2].partition("-")
    return ImageId(bytes.fromhex(image)), int(copy, 16)


def journal_key(sequence: int) -> str:
    """Give the key of a journal batch."""
    return f"{JOURNAL}{sequence:0{_SEQUENCE_DIGITS}x}"


def journal_sequence_of(key: str) -> int | None:
    """Read a batch's number from its key; ``None`` if the key is not one of :func:`journal_key`."""
    name = key.removeprefix(JOURNAL)
    try:
        sequence = int(name, 16)
    except ValueError:
        return None
    return sequence if journal_key(sequence) == key else None
