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
LOCKS: Final = "locks/"
LOCK_MODES: Final = "locks/mode/"
LOCK_CLOCKS: Final = "locks/clock/"
LOCK_RECORDS: Final = "locks/until/"

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


def envelope_of(key: str) -> EnvelopeId | None:
    """Read an envelope's id from the key of one of its generations; ``None`` if the key is none of that."""
    if not key.startswith(ENVELOPES):
        return None
    try:
        envelope = bytes.fromhex(key.rpartition("/")[2].partition("-")[0])
    except ValueError:
        return None
    return EnvelopeId(envelope) if len(envelope) == UUID_BYTES else None


def lock_mode_key(number: int) -> str:
    """Give the key of a pool's lock mode, by its number."""
    return f"{LOCK_MODES}{number:0{_NUMBER_DIGITS}d}"


def lock_clock_key(at_ns: int) -> str:
    """Give the key of a time that the lock clock has reached."""
    return f"{LOCK_CLOCKS}{at_ns:0{_SEQUENCE_DIGITS}x}"


def lock_record_key(until_ns: int, name: bytes) -> str:
    """Give the key of a lock record: its end first, so that a listing tells which ones are over."""
    return f"{LOCK_RECORDS}{until_ns:0{_SEQUENCE_DIGITS}x}-{name.hex()}"


def lock_time_of(key: str) -> int | None:
    """Read the time from the key of a lock clock or a lock record; ``None`` if it is neither."""
    word = key.rpartition("/")[2].partition("-")[0]
    if len(word) != _SEQUENCE_DIGITS or not set(word) <= set("0123456789abcdef"):
        return None
    return int(word, 16)
